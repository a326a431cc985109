"""`memory://`: the document lives in this object and dies with it."""

from __future__ import annotations

import threading

from ..errors import StoreConflict


class MemoryStore:
    """A store for tests and notebooks: other processes cannot see it, so it needs no seal."""

    shared = False

    def __init__(self) -> None:
        self._document: bytes | None = None
        self._lock = threading.Lock()

    def load(self) -> bytes | None:
        """Return the document, or None. See `KeyStore.load`."""
        return self._document

    def swap(self, expected: bytes | None, new: bytes) -> None:
        """Store `new` if `expected` is still held. See `KeyStore.swap`."""
        with self._lock:
            if self._document not in (expected, new):
                raise StoreConflict
            self._document = new

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
