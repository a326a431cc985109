"""Thin files, one for each thing that a service may be combined with. Nothing here is imported by itself."""
