"""Key stores: one small document per issuer and name, changed only by compare-and-set.

A store knows bytes and nothing of keys. `memory://` serves tests and notebooks, `file:///dir` one machine,
`redis://` and its relatives a fleet; `SealedStore` encrypts what goes into any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from .key_encryption import generate_key_encryption_key, parse_key_encryption_keys
from .sealed import Document, SealedStore, Sealer
from .urls import open_store

__all__ = [
    "Document",
    "KeyStore",
    "Notifier",
    "SealedStore",
    "Sealer",
    "generate_key_encryption_key",
    "open_store",
    "parse_key_encryption_keys",
]


class KeyStore(Protocol):
    """One small document, compare-and-set. Synchronous, thread-safe, never used on the request path.

    Every store passes `s2s_mesh.testing.KeyStoreConformance`; so should one of your own.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes may hold the document, so that it has to be sealed."""

    def load(self) -> bytes | None:
        """Return the stored document, or None where there is none.

        Raises:
            KeyStoreError: with the reason why it cannot be read.
        """

    def swap(self, expected: bytes | None, new: bytes) -> None:
        """Store `new` in one atomic step, if and only if the store still holds `expected`.

        Documents are compared by content, as equal SHA-256 digests would be: a counter repeats after a
        FLUSHALL, content does not. A store that already holds `new` counts as success, so a swap whose
        answer was lost may be repeated.

        Args:
            expected: the bytes that were loaded, or None if the document was absent.
            new: the bytes to store.

        Raises:
            StoreConflict: the store holds something else; nothing was written.
            KeyStoreError: with the reason why it cannot be written. If that reason is UNREACHABLE, the
                document may or may not have been written.
        """

    def close(self) -> None:
        """Release sockets and the like; may be called twice. A later call opens them again."""


@runtime_checkable
class Notifier(Protocol):
    """What a store may offer besides: telling other processes about a change at once.

    Messages get lost (a reconnect, a failover, missing rights), so polling stays the truth.
    """

    def publish(self, message: str) -> None:
        """Send `message` to all listeners of this issuer; best effort, never raises `KeyStoreError`."""

    def listen(self, on_message: Callable[[str], None]) -> Callable[[], None]:
        """Call `on_message` for every message from now on, from one daemon thread, until stopped.

        After each (re)subscription it is called with "resubscribed": messages may have been missed.

        Returns:
            a function that stops listening and waits for the thread to end.
        """
