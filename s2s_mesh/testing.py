"""For tests of your own: what a `KeyStore` must pass. Subclass it, override `make_store`, run pytest."""

from .store.conformance import KeyStoreConformance

__all__ = ["KeyStoreConformance"]
