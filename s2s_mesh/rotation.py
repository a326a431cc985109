"""When a key is published, signs, and is removed: timing arithmetic and states. Knows no cryptography.

The inequalities are those of `docs` "Rotation" (design: keyring.md; standards "Rotation arithmetic"); the
states have the names of NIST SP 800-57 part 1.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import ClassVar

import msgspec

from .errors import ConfigError


class KeyState(str, Enum):
    """State of a key; a function of the clock alone, except for `COMPROMISED`."""

    PRE_ACTIVATION = "pre-activation"  # published, does not sign yet
    ACTIVE = "active"  # published, may sign
    DEACTIVATED = "deactivated"  # published, signs no more, private half erased
    DESTROYED = "destroyed"  # no longer published
    COMPROMISED = "compromised"  # unpublished at once and for ever


def key_state(
    now: float, *, sign_from: float, sign_until: float, remove_at: float, revoked_at: float | None
) -> KeyState:
    """The state of a key with these times (Unix seconds) at `now`."""
    if revoked_at is not None:
        return KeyState.COMPROMISED
    if now >= remove_at:
        return KeyState.DESTROYED
    if now >= sign_until:
        return KeyState.DEACTIVATED
    return KeyState.ACTIVE if now >= sign_from else KeyState.PRE_ACTIVATION


class RotationSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """The times of an issuer's keys, all in seconds. Every process of one issuer must use the same.

    Attributes:
        replica_lag: until every replica has seen a change of the ring (R); they poll three times as often.
        served_max_age: `max-age` of our own JWKS (M).
        foreign_cache: the slowest cache of a receiver that is not ours (E; Istio refreshes after 1200 s).
        stale_grace: how long receivers keep using keys when our JWKS cannot be had (G).
        max_token_life: longest life of a token (T).
        max_skew: largest difference between two clocks (S).
        lead: from publishing a key to its first signature.
        drain: from its last signature to its removal.
        period: how long one key signs.
        cache_floor: receivers ask no more often than this, whatever `max-age` says.

    Raises:
        ConfigError: a number that breaks an inequality, naming it and by how much.
    """

    replica_lag: float = 30
    served_max_age: float = 300
    foreign_cache: float = 1200
    stale_grace: float = 3600
    max_token_life: float = 900
    max_skew: float = 60
    lead: float = 7200
    drain: float = 1800
    period: float = 30 * 86400
    cache_floor: float = 60

    DEFAULT: ClassVar[RotationSchedule]
    CLOUD_FEDERATION: ClassVar[RotationSchedule]
    FAST_FOR_TESTS: ClassVar[RotationSchedule]

    def __post_init__(self) -> None:
        slowest_cache = max(self.served_max_age, self.foreign_cache)
        for name, value, formula, least in (
            (
                "lead",
                self.lead,
                "replica_lag + max(served_max_age, foreign_cache) + stale_grace + max_skew",
                self.replica_lag + slowest_cache + self.stale_grace + self.max_skew,
            ),
            (
                "drain",
                self.drain,
                "replica_lag + max_token_life + max_skew",
                self.replica_lag + self.max_token_life + self.max_skew,
            ),
            ("period", self.period, "lead + drain", self.lead + self.drain),
        ):
            if not value >= least:
                raise ConfigError(
                    f"rotation schedule: {name} >= {formula} is broken: "
                    f"{value:g} s is {least - value:g} s less than {least:g} s"
                )
        for name in self.__struct_fields__:
            # JSON has no infinity, so a ring with an infinite time could be written but never read
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"rotation schedule: {name} must be finite and more than 0 s, not {getattr(self, name):g}"
                )

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at the store, before jitter."""
        return self.replica_lag / 3


RotationSchedule.DEFAULT = RotationSchedule()
# clouds do not say for how long they cache a JWKS
RotationSchedule.CLOUD_FEDERATION = RotationSchedule(lead=86400)
RotationSchedule.FAST_FOR_TESTS = RotationSchedule(
    replica_lag=0.5,
    served_max_age=1,
    foreign_cache=1,
    stale_grace=1,
    max_token_life=2,
    max_skew=1,
    lead=4,
    drain=4,
    period=8,
    cache_floor=0.2,
)
