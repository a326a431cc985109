"""Fuzzing of everything that a stranger, or a person in a hurry, may hand to this package."""
