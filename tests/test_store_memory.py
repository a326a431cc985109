"""`memory://`."""

from __future__ import annotations

import pytest

from s2s_mesh.store import KeyStore, Notifier, open_store
from s2s_mesh.testing import KeyStoreConformance


class TestMemoryStore(KeyStoreConformance):
    """The conformance suite on a store that lives in one object."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.store = open_store("memory://", issuer="https://wallets.example.com")

    def make_store(self) -> KeyStore:
        return self.store


def test_a_memory_store_is_not_shared() -> None:
    """Two memory stores have nothing in common, and neither tells anybody about changes."""
    one, other = (open_store("memory://", issuer="https://wallets.example.com") for _ in range(2))
    one.swap(None, b"first")
    assert other.load() is None
    assert not one.shared
    assert not isinstance(one, Notifier)
