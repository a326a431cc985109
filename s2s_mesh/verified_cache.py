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
from typing import Generic, NewType, TypeVar

T = TypeVar("T")
Digest = NewType("Digest", bytes)  # made by `digest_of` alone


def digest_of(token: bytes) -> Digest:
    """The name under which exactly these bytes are remembered."""
    return Digest(hashlib.sha256(token).digest())


class VerifiedCache(Generic[T]):
    """At most `2 * size` entries, of which the latest `size` used are always kept.

    Args:
        size: entries per generation; 0 remembers nothing.
    """

    __slots__ = ("_old", "_young", "size")

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._young: dict[Digest, T] = {}
        self._old: dict[Digest, T] = {}

    def get(self, digest: Digest) -> T | None:
        """What was remembered under this digest, or None."""
        entry = self._young.get(digest)
        if entry is None:
            entry = self._old.get(digest)
            if entry is not None:
                self.put(digest, entry)
        return entry

    def put(self, digest: Digest, entry: T) -> None:
        """Remember `entry` under this digest."""
        if len(self._young) >= self.size:
            if not self.size:
                return
            self._old, self._young = self._young, {}
        self._young[digest] = entry

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
