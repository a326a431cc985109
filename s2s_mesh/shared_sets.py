"""The document of the shared JWKS cache: sets that were fetched, and who is fetching. No I/O.

It comes out of a seal, so one of our own processes wrote it; that is not the same as valid, so whatever is
taken from it is checked as if an issuer had sent it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from .errors import JWKSInvalid
from .jwks import JWKSet, Order
from .resolver import JWKSCacheLimits

MAX_SKEW = 60.0  # seconds between the clocks of two processes
_LONGEST_MAX_AGE = 1e9  # seconds; readers clamp it much lower
_ETAG = re.compile(r"[\x20-\x7e]{0,256}")


class SharedSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set and the answer that it came with.

    Attributes:
        jwks: the issuer's set.
        fetched_at: when it answered (Unix seconds).
        max_age: seconds that the answer was fresh from then on, or None where it did not say.
        etag: its entity tag, or None.
    """

    jwks: JWKSet
    fetched_at: float
    max_age: float | None
    etag: str | None


class _Set(msgspec.Struct, frozen=True, kw_only=True):
    """A `SharedSet` at rest, and where it was fetched."""

    place: str
    fetched_at: float
    max_age: Annotated[float, msgspec.Meta(ge=0)] | None
    etag: Annotated[str, msgspec.Meta(pattern=f"^{_ETAG.pattern}$")] | None
    jwks: msgspec.Raw
    order: Order | None = None


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody is fetching from `place`, and is to be believed until then (Unix seconds)."""

    place: str
    by: str
    until: float


class SharedSets(msgspec.Struct, frozen=True, kw_only=True):
    """The sets and claims of one service, by issuer. Immutable.

    A `place` below is where an issuer publishes its keys; what one place says is no answer of another.
    """

    v: Literal[1] = 1
    sets: Mapping[str, _Set] = {}
    claims: Mapping[str, _Claim] = {}

    @classmethod
    def parse(cls, data: bytes) -> SharedSets:
        """Read a document that was sealed by a process of the same service.

        Raises:
            ValueError: another version wrote it.
        """
        try:
            return _decode(data)
        except (msgspec.MsgspecError, UnicodeError) as problem:
            raise ValueError(str(problem)) from None

    def to_bytes(self) -> bytes:
        """The document to seal."""
        return _encode(self)

    def fresh(self, issuer: str, place: str, now: float, limits: JWKSCacheLimits) -> SharedSet | None:
        """The issuer's set, if it is from this place, fresh at `now` and not from the future.

        Raises:
            JWKSInvalid: it must not be used.
        """
        entry = self.sets.get(issuer)
        if entry is None or entry.place != place or not _is_fresh(entry, now, limits):
            return None
        keys = JWKSet.parse(bytes(entry.jwks)).keys.values()
        return SharedSet(
            jwks=JWKSet(keys, order=entry.order),
            # a clock that is ahead makes nothing fresher than an answer of just now
            fetched_at=min(entry.fetched_at, now),
            max_age=entry.max_age,
            etag=entry.etag,
        )

    def is_claimed(self, issuer: str, place: str, now: float, *, longest: float) -> bool:
        """Whether somebody is fetching the issuer's set; nobody claims it for more than `longest` seconds."""
        claim = self.claims.get(issuer)
        return claim is not None and claim.place == place and _is_live(claim, now, longest)

    def with_claim(self, issuer: str, place: str, by: str, until: float) -> SharedSets:
        """Now `by` is fetching."""
        claim = _Claim(place=place, by=by, until=until)
        return SharedSets(sets=self.sets, claims={**self.claims, issuer: claim})

    def without_claim(self, issuer: str, by: str | None) -> SharedSets:
        """`by`, or whoever it is, is fetching no more."""
        claim = self.claims.get(issuer)
        if claim is None or by not in (None, claim.by):
            return self
        others = {name: other for name, other in self.claims.items() if name != issuer}
        return SharedSets(sets=self.sets, claims=others)

    def with_set(
        self, issuer: str, place: str, fetched: SharedSet, now: float, limits: JWKSCacheLimits
    ) -> SharedSets:
        """What the issuer answered; of two answers from one place the newer one stays."""
        try:
            held = self.fresh(issuer, place, now, limits)
        except JWKSInvalid:
            held = None
        if held is not None and held.fetched_at >= fetched.fetched_at:
            return self
        entry = _Set(
            place=place,
            fetched_at=fetched.fetched_at,
            max_age=None if fetched.max_age is None else min(fetched.max_age, _LONGEST_MAX_AGE),
            # an odd one is not worth a document that cannot be read
            etag=fetched.etag if fetched.etag is not None and _ETAG.fullmatch(fetched.etag) else None,
            # the usable keys only: what else an issuer publishes does not take the others' room
            jwks=msgspec.Raw(fetched.jwks.to_bytes()),
            order=fetched.jwks.order,
        )
        return SharedSets(sets={**self.sets, issuer: entry}, claims=self.claims)

    def fitting(self, most: int, now: float, limits: JWKSCacheLimits, *, longest: float) -> SharedSets:
        """The same without what nobody can use any more, and without its oldest sets if it is too long.

        Args:
            most: bytes it may have.
            now: Unix seconds.
            limits: how long a set is fresh.
            longest: as in `is_claimed`.
        """
        claims = {issuer: claim for issuer, claim in self.claims.items() if _is_live(claim, now, longest)}
        sets = {issuer: entry for issuer, entry in self.sets.items() if _is_fresh(entry, now, limits)}
        excess = len(_encode(SharedSets(sets=sets, claims=claims))) - most
        for issuer, entry in sorted(sets.items(), key=lambda item: item[1].fetched_at):
            if excess <= 0:
                break
            excess -= len(_encode({issuer: entry})) - 2  # its own braces; the comma may stay unaccounted for
            del sets[issuer]
        return SharedSets(sets=sets, claims=claims)


_decode = msgspec.json.Decoder(SharedSets).decode
_encode = msgspec.json.Encoder().encode


def _is_fresh(entry: _Set, now: float, limits: JWKSCacheLimits) -> bool:
    return -MAX_SKEW <= now - entry.fetched_at < limits.fresh_for(entry.max_age)


def _is_live(claim: _Claim, now: float, longest: float) -> bool:
    # one that lasts longer than any process claims is a clock's mistake
    return now < claim.until <= now + longest + MAX_SKEW
