"""JWKS freshness as a state machine without I/O: which keys hold, and when to ask an issuer again.

Rules (standards (a)3, design receiving.md): a failure never removes a good key; a success replaces the whole
set; keys are found by (issuer, kid) and nothing else; every limit counts attempts, not successes. Reads take
no lock. The transitions (`begin`, `succeeded`, `adopted`, `failed`) are called by `jwks_client.py` under its
lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

import msgspec

from .errors import JWKSInvalid
from .jwks import JWKSet, Order
from .keys import VerificationKey
from .rotation import RotationSchedule

_MAX_JITTER = 0.1
MAX_PLACES = 32


class JWKSCacheLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what issuers may ask of our cache, and we of them. All in seconds.

    Attributes:
        default_fresh: where the answer names no `max-age`.
        min_fresh, max_fresh: `max-age` minus `Age` is clamped to these.
        stale_grace: how long after that the last good set still serves while the issuer cannot be reached;
            0 turns it off. Then verification answers 503.
        refresh_share: the share of the fresh time after which a refresh runs in the background.
        retry: pause between attempts while there is no set at all.
        failed_refresh: pause after a failed background refresh.
        unknown_kid, unknown_kid_max: pause between refreshes for key ids nobody knows; doubles up to the
            maximum while they bring nothing new.
    """

    default_fresh: float = 300
    min_fresh: float = 60
    max_fresh: float = 3600
    stale_grace: float = 3600
    refresh_share: float = 0.75
    retry: float = 1
    failed_refresh: float = 10
    unknown_kid: float = 5
    unknown_kid_max: float = 10

    @classmethod
    def of(cls, schedule: RotationSchedule) -> JWKSCacheLimits:
        """Those that go with the rotation times of our own fleet."""
        return cls(
            min_fresh=schedule.cache_floor,
            default_fresh=min(300, schedule.foreign_cache),
            stale_grace=schedule.stale_grace,
            retry=min(1, schedule.foreign_cache),
            failed_refresh=min(10, schedule.foreign_cache),
        )

    def fresh_for(self, max_age: float | None) -> float:
        """How long a set is fresh whose answer allows `max_age` seconds (None: it does not say)."""
        if max_age is None:
            return self.default_fresh
        return min(max(max_age, self.min_fresh), self.max_fresh)


class Why(str, Enum):
    """What a fetch is for; each has its own budget, so that none can starve another."""

    COLD = "cold"  # no set at all: callers wait
    UNKNOWN_KID = "unknown_kid"  # a good set without this key: only those who ask for it wait
    REFRESH = "refresh"  # in the background: nobody waits


class _Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one issuer. Replaced whole.

    `fetched_at` is None until the first success; `tried_at`, `unknown_kid_tried_at` until the first attempt.
    """

    keys: Mapping[str, VerificationKey] = {}
    order: Order | None = None
    etag: str | None = None
    fetched_at: float | None = None
    stale_until: float = 0
    refresh_at: float = 0
    tried_at: float | None = None
    unknown_kid_tried_at: float | None = None
    unknown_kid_pause: float = 0
    failures: int = 0
    last_error: str = ""


_NOTHING = _Issuer()


class KeyResolver:
    """Knows the keys of every issuer in the trust file.

    Where an issuer has no set, because each of its keys is fetched alone (ASAP), each key is what is called
    an issuer below: its place (`place`), with a set of one key or none.

    Args:
        limits: see `JWKSCacheLimits`.

    Attributes:
        alone: the issuers whose keys are fetched alone.
    """

    def __init__(self, limits: JWKSCacheLimits) -> None:
        self.limits = limits
        self.alone: frozenset[str] = frozenset()
        self._issuers: dict[str, _Issuer] = {}

    def place(self, issuer: str, kid: str) -> str:
        """What is known of this key is kept under this name; no issuer has a space in its own."""
        return f"{issuer} {kid}" if issuer in self.alone else issuer

    def places(self, issuer: str) -> list[str]:
        """Under which names there are keys of this issuer: its own, or those of the keys that were found."""
        if issuer not in self.alone:
            return [issuer]
        mine = f"{issuer} "
        return [name for name, known in list(self._issuers.items()) if name.startswith(mine) and known.keys]

    def make_room(self, place: str) -> None:
        """For one more key that is fetched alone: of many, forget one that was not found, else the first."""
        if place in self._issuers:
            return
        mine = place.partition(" ")[0] + " "
        names = [name for name in self._issuers if name.startswith(mine)]
        if len(names) >= MAX_PLACES:
            del self._issuers[min(names, key=lambda name: bool(self._issuers[name].keys))]

    # -- reads, without a lock ------------------------------------------------------------------------

    def key(self, issuer: str, kid: str, now: float) -> VerificationKey | None:
        """The key, if it is known and its set is not beyond the stale bound."""
        known = self._issuers.get(self.place(issuer, kid), _NOTHING)
        return known.keys.get(kid) if now < known.stale_until else None

    def has_keys(self, issuer: str, now: float) -> bool:
        """Whether a set that may still be used is at hand, be it empty (that means revoked)."""
        return now < self._issuers.get(issuer, _NOTHING).stale_until

    def stale_until(self, issuer: str) -> float:
        """The instant (Unix seconds) after which the set at hand is used no more; 0 without one."""
        return self._issuers.get(issuer, _NOTHING).stale_until

    def is_stale(self, issuer: str, now: float) -> bool:
        """Whether the set at hand serves only because the issuer has not answered when it was due."""
        stale_until = self._issuers.get(issuer, _NOTHING).stale_until
        return stale_until - self.limits.stale_grace <= now < stale_until

    def fetched_at(self, issuer: str) -> float | None:
        """When the issuer last answered (Unix seconds), or None if it never did."""
        return self._issuers.get(issuer, _NOTHING).fetched_at

    def keys(self, issuer: str) -> Collection[VerificationKey]:
        """Every key of the set at hand, be it stale."""
        return self._issuers.get(issuer, _NOTHING).keys.values()

    def jwks(self, issuer: str) -> JWKSet:
        """The set at hand, be it stale or empty."""
        known = self._issuers.get(issuer, _NOTHING)
        return JWKSet(known.keys.values(), order=known.order)

    def check_order(self, issuer: str, jwks: JWKSet) -> None:
        """Refuse a SPIFFE bundle that is older than the one at hand (standards R15).

        Raises:
            JWKSInvalid: its sequence is lower, or gone.
        """
        held = self._issuers.get(issuer, _NOTHING).order
        if held is None or held.sequence is None:
            return
        said = None if jwks.order is None else jwks.order.sequence
        if said is None or said < held.sequence:
            raise JWKSInvalid(f"spiffe_sequence went back from {held.sequence} to {said}")

    def etag(self, issuer: str) -> str | None:
        """The entity tag of the set at hand, for a conditional request."""
        return self._issuers.get(issuer, _NOTHING).etag

    def last_error(self, issuer: str) -> str:
        """Why the last attempt failed, or an empty string."""
        return self._issuers.get(issuer, _NOTHING).last_error

    def needed(self, issuer: str, kid: str, now: float) -> Why | None:
        """What kind of fetch would help to find this key now, or None where the key is at hand."""
        if not self.has_keys(self.place(issuer, kid), now):
            return Why.COLD
        return None if self.key(issuer, kid, now) is not None else Why.UNKNOWN_KID

    def allowed(self, issuer: str, why: Why, now: float) -> bool:
        """Whether a new attempt of this kind may start now; a clock that went back forbids nothing."""
        known = self._issuers.get(issuer, _NOTHING)
        if why is Why.UNKNOWN_KID:
            pause = max(known.unknown_kid_pause, self.limits.unknown_kid)
            return _passed(known.unknown_kid_tried_at, pause, now)
        if why is Why.COLD:
            return _passed(known.tried_at, self.limits.retry, now)
        return now >= self.refresh_due(issuer, now)

    def refresh_due(self, issuer: str, now: float) -> float:
        """When the next background refresh is due (Unix seconds); `now` or earlier means at once."""
        known = self._issuers.get(issuer, _NOTHING)
        due = known.refresh_at if known.fetched_at is not None and now >= known.fetched_at else now
        if known.tried_at is None or now < known.tried_at or not known.failures:
            return due
        cold = not self.has_keys(issuer, now)
        return max(due, known.tried_at + (self.limits.retry if cold else self.limits.failed_refresh))

    # -- transitions, under the caller's lock -----------------------------------------------------------

    def begin(self, issuer: str, why: Why, now: float) -> None:
        """An attempt starts; every attempt counts, whatever becomes of it."""
        known = self._issuers.get(issuer, _NOTHING)
        if why is Why.UNKNOWN_KID:
            pause = min(
                max(2 * known.unknown_kid_pause, self.limits.unknown_kid), self.limits.unknown_kid_max
            )
            known = msgspec.structs.replace(known, unknown_kid_tried_at=now, unknown_kid_pause=pause)
        else:
            known = msgspec.structs.replace(known, tried_at=now)
        self._issuers[issuer] = known

    def succeeded(
        self,
        issuer: str,
        jwks: JWKSet | None,
        now: float,
        *,
        max_age: float | None = None,
        etag: str | None = None,
        jitter: float = 0,
    ) -> None:
        """The issuer answered.

        Args:
            issuer: who.
            jwks: its set, which replaces the old one; None where it answered "not modified".
            now: Unix seconds.
            max_age: seconds left of what the answer allows, or None.
            etag: the answer's entity tag.
            jitter: a random number from 0 to 1; spreads the refreshes of many replicas.
        """
        known = self._issuers.get(issuer, _NOTHING)
        keys = known.keys if jwks is None else _keeping_objects(known.keys, jwks.keys)
        fresh = self.limits.fresh_for(max_age)
        self._issuers[issuer] = msgspec.structs.replace(
            known,
            keys=keys,
            order=known.order if jwks is None else jwks.order,
            etag=etag,
            fetched_at=now,
            stale_until=now + fresh + self.limits.stale_grace,
            refresh_at=now + fresh * (self.limits.refresh_share - _MAX_JITTER * jitter),
            # a set that brought a new key shows that asking was right
            unknown_kid_pause=known.unknown_kid_pause if keys.keys() <= known.keys.keys() else 0,
            failures=0,
            last_error="",
        )

    def adopted(
        self,
        issuer: str,
        why: Why,
        jwks: JWKSet,
        fetched_at: float,
        *,
        max_age: float | None,
        etag: str | None,
        jitter: float,
    ) -> None:
        """Take over what the issuer answered to another process of this service; never over a newer set.

        Freshness and stale bound count from when it answered, as if this process had asked then.

        Args:
            issuer: who.
            why: what the attempt was for that found this set instead.
            jwks: its set.
            fetched_at: when it answered (Unix seconds), not in the future.
            max_age, etag, jitter: as in `succeeded`.
        """
        held = self.fetched_at(issuer)
        if held is not None and fetched_at <= held:
            return
        self.succeeded(issuer, jwks, fetched_at, max_age=max_age, etag=etag, jitter=jitter)
        if why is Why.UNKNOWN_KID:
            # the issuer was not asked: whoever waited for yet another key may have it asked at once
            adopted = self._issuers[issuer]
            self._issuers[issuer] = msgspec.structs.replace(adopted, unknown_kid_tried_at=None)

    def failed(self, issuer: str, now: float, error: str) -> None:
        """The attempt failed; what is known stays, and never becomes fresher by a clock that went back."""
        known = self._issuers.get(issuer, _NOTHING)
        stale_until = known.stale_until
        if known.fetched_at is not None and now < known.fetched_at:
            stale_until = min(stale_until, now + self.limits.stale_grace)
        self._issuers[issuer] = msgspec.structs.replace(
            known,
            stale_until=stale_until,
            failures=known.failures + 1,
            last_error=error,
        )

    def forget_except(self, issuers: Collection[str]) -> None:
        """Drop what is known of issuers that the trust file no longer lists."""
        for name in [name for name in self._issuers if name.partition(" ")[0] not in issuers]:
            del self._issuers[name]


def _passed(tried_at: float | None, pause: float, now: float) -> bool:
    return tried_at is None or now < tried_at or now >= tried_at + pause


def _keeping_objects(
    old: Mapping[str, VerificationKey], new: Mapping[str, VerificationKey]
) -> Mapping[str, VerificationKey]:
    """The new set, with the old object wherever the key did not change: caches compare by identity."""
    return {
        kid: old[kid] if kid in old and old[kid].material == key.material else key for kid, key in new.items()
    }
