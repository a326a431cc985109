"""Tokens that were verified before: a bounded memory in front of the cryptography.

Why a hit is safe: the key is the SHA-256 of the exact token bytes, so a hit means these bytes were verified;
everything that may have changed since (clock, key, trust file) is checked again by `Verifier.cached`. The
memory holds no credential.

Two generations instead of a linked list: reads and writes are single dict operations, so no lock is needed,
and at most twice `size` entries are kept. Two threads that turn the generation at once lose entries, never
correctness.
"""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

T = TypeVar("T")


class VerifiedCache(Generic[T]):
    """At most `2 * size` entries, of which the latest `size` used are always kept.

    Args:
        size: entries per generation; 0 remembers nothing.
    """

    __slots__ = ("_old", "_young", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._young: dict[bytes, T] = {}
        self._old: dict[bytes, T] = {}

    def get(self, token: bytes) -> T | None:
        """What was remembered for exactly these bytes, or None."""
        if not self.size:
            return None
        digest = hashlib.sha256(token).digest()
        entry = self._young.get(digest)
        if entry is None:
            entry = self._old.get(digest)
            if entry is not None:
                self._put(digest, entry)
        return entry

    def put(self, token: bytes, entry: T) -> None:
        """Remember `entry` for exactly these bytes."""
        if self.size:
            self._put(hashlib.sha256(token).digest(), entry)

    def _put(self, digest: bytes, entry: T) -> None:
        if len(self._young) >= self.size:
            self._old, self._young = self._young, {}
        self._young[digest] = entry

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
