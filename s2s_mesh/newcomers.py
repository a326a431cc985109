"""How often keys that nobody knows may be asked for, where each is fetched alone: a bucket for each issuer.

Whoever can send us a request can name such keys without end. A key that was found once does not come here.
"""

from __future__ import annotations

import msgspec


class _Bucket(msgspec.Struct, frozen=True):
    left: float
    at: float


class Newcomers:
    """Lets some through at once, and then one every so often.

    Args:
        burst: how many at once.
        pause: seconds until one more.
    """

    def __init__(self, *, burst: int = 10, pause: float = 1) -> None:
        self._burst = burst
        self._pause = pause
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, issuer: str, now: float) -> bool:
        """Whether one more key of this issuer may be asked for; it counts as asked for."""
        bucket = self._buckets.get(issuer) or _Bucket(self._burst, now)
        # a clock that went back fills nothing
        left = min(self._burst, bucket.left + max(now - bucket.at, 0) / self._pause)
        admitted = left >= 1
        self._buckets[issuer] = _Bucket(left - 1 if admitted else left, now)
        return admitted
