"""Who was last seen with an old credential, and who with a token: counted in memory, kept as one document.

What is counted was authenticated: nobody can be made to look like a user of the old way by a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from .errors import KeyStoreError, StoreReason
from .strict_json import NotStrictJSON, decode_object, encode

TOKEN = "token"  # noqa: S105 - how a caller authenticates, beside the ways of `trust_legacy`
DAYS = 8  # that are counted one by one, today included
DAY = 86400
_FORMAT = 1
_MANY = 700  # callers times ways, up to which all days fit into one document of a store


class Who(NamedTuple):
    """What is counted by itself.

    Attributes:
        issuer: who called.
        audience: under which of our names.
        way: "token", "api_key" or "basic".
    """

    issuer: str
    audience: str
    way: str


class Use(msgspec.Struct, frozen=True):
    """When, and how often.

    Attributes:
        last: Unix seconds.
        days: number of uses by day (Unix seconds // 86400), of the last `DAYS` days.
    """

    last: float
    days: dict[int, int]

    def merged(self, other: Use) -> Use:
        """Both."""
        days = dict(self.days)
        for day, count in other.days.items():
            days[day] = days.get(day, 0) + count
        oldest = max(days, default=0) - DAYS
        kept = {day: count for day, count in sorted(days.items()) if day > oldest}
        return Use(max(self.last, other.last), kept)

    def recent(self, now: float) -> int:
        """How many uses there were in the last `DAYS` days."""
        return sum(count for day, count in self.days.items() if day > now // DAY - DAYS)


class Uses:
    """All that is known. Immutable."""

    __slots__ = ("by_who",)

    def __init__(self, by_who: Mapping[Who, Use] = MappingProxyType({})) -> None:
        self.by_who: Mapping[Who, Use] = MappingProxyType(dict(by_who))

    def merged(self, other: Uses) -> Uses:
        """With the uses of `other` added."""
        merged = dict(self.by_who)
        for who, use in other.by_who.items():
            merged[who] = merged[who].merged(use) if who in merged else use
        return Uses(merged)

    def only(self, pairs: Iterable[tuple[str, str]]) -> Uses:
        """Without callers that have no row any more."""
        known = set(pairs)
        return Uses({who: use for who, use in self.by_who.items() if who[:2] in known})

    def to_bytes(self) -> bytes:
        """The document to seal and store; of very many callers, only the last day of each is counted."""
        most = DAYS if len(self.by_who) <= _MANY else 1
        rows = [[*who, use.last, dict(sorted(use.days.items())[-most:])] for who, use in self.by_who.items()]
        return encode({"v": _FORMAT, "uses": rows})

    @classmethod
    def parse(cls, data: bytes) -> Uses:
        """Read a document that was sealed by a replica of the same service.

        Raises:
            KeyStoreError: `UNREADABLE`, for anything that no replica writes.
        """
        try:
            document: Any = decode_object(data)
            if document["v"] != _FORMAT:
                raise ValueError("format")
            rows = msgspec.convert(
                document["uses"], list[tuple[str, str, str, float, dict[int, int]]], strict=False
            )
        except (NotStrictJSON, msgspec.ValidationError, KeyError, ValueError):
            raise KeyStoreError(
                StoreReason.UNREADABLE,
                f"the stored uses of old credentials opened but are not of format {_FORMAT}; a newer version "
                "of s2s-mesh, or something else, wrote them",
            ) from None
        return cls({Who(*row[:3]): Use(*row[3:]) for row in rows})


class Tally:
    """Counts in memory until it is taken away. A use may get lost between two threads."""

    def __init__(self) -> None:
        self._counts: dict[Who, _Count] = {}

    def note(self, issuer: str, audience: str, way: str, now: float) -> None:
        """Count one use at `now` (Unix seconds)."""
        who = Who(issuer, audience, way)
        count = self._counts.get(who)
        if count is None:
            count = self._counts[who] = _Count()
        count.last = now
        day = int(now // DAY)
        count.days[day] = count.days.get(day, 0) + 1

    def take(self) -> Uses:
        """What was counted since the last time."""
        counts, self._counts = self._counts, {}
        return Uses({who: Use(count.last, dict(count.days)) for who, count in counts.items()})


class _Count:
    __slots__ = ("days", "last")

    def __init__(self) -> None:
        self.last = 0.0
        self.days: dict[int, int] = {}
