"""What a service tells its observers: events as they happen, and how things stand when asked.

Nothing here holds a token, a token's id, a user or a path. Issuers are those that the trust file lists: what
a stranger claims to be is `UNKNOWN`, so nobody outside can add to the values there are.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from .errors import ConfigError, Reason

log: logging.Logger = logging.getLogger("s2s_mesh")
UNKNOWN = "unknown"  # in place of an issuer that the trust file does not list
ACCEPTED = "accepted"  # in place of a reason, where nothing was refused


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something happened. Each kind of event counts for one metric (`metrics.py`)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of the metric's labels, in their order."""
        raise NotImplementedError


class Recalled(Event, frozen=True, gc=False):
    """A token was accepted that had been verified before.

    Attributes:
        issuer: who called.
    """

    issuer: str

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer, reason, cached"""
        return self.issuer, ACCEPTED, "true"


class Verified(Event, frozen=True, kw_only=True, gc=False):
    """A credential was verified, and accepted.

    Attributes:
        issuer: who called.
        at: Unix seconds at which verification began.
        seconds: that it took, waiting for keys included.
    """

    issuer: str
    at: float
    seconds: float

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer, reason, cached"""
        return self.issuer, ACCEPTED, "false"


class Refused(Event, frozen=True, kw_only=True, gc=False):
    """A request was refused.

    Attributes:
        issuer: whom the credential names, not authentic; or `UNKNOWN`.
        reason: why.
        cached: whether nothing was verified for it: the token had been before, or a door or the application
            refused by itself, and `at` is 0.
        at, seconds: as in `Verified`.
    """

    issuer: str
    reason: Reason
    cached: bool
    at: float
    seconds: float

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer, reason, cached"""
        return self.issuer, self.reason.value, "true" if self.cached else "false"


class StaleServed(Event, frozen=True, gc=False):
    """A token was accepted by a key whose set is stale: the issuer did not answer when it was due.

    Attributes:
        issuer: whose key.
    """

    issuer: str

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer"""
        return (self.issuer,)


class JWKSFetched(Event, frozen=True, kw_only=True, gc=False):
    """An attempt to get an issuer's JWKS ended.

    Attributes:
        issuer: whose.
        why: "cold", "unknown_kid" or "refresh".
        result: "fetched", "not_modified", "shared" (taken over from another process) or "failed".
        at: Unix seconds at which it began.
        seconds: that it took.
    """

    issuer: str
    why: str
    result: str
    at: float
    seconds: float

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer, why, result"""
        return self.issuer, self.why, self.result


class CoolingDown(Event, frozen=True, kw_only=True, gc=False):
    """A key was wanted, and its issuer was asked so lately that it was not asked again.

    Attributes:
        issuer: whose.
        why: "cold" or "unknown_kid".
    """

    issuer: str
    why: str

    @property
    def labels(self) -> tuple[str, ...]:
        """issuer, why"""
        return self.issuer, self.why


class Minted(Event, frozen=True, kw_only=True, gc=False):
    """A token was signed.

    Attributes:
        kind: its `typ`.
        audience: the service that it is for; empty where it is for no single one.
        at: Unix seconds at which that began.
        seconds: that it took.
    """

    kind: str
    audience: str
    at: float
    seconds: float

    @property
    def labels(self) -> tuple[str, ...]:
        """kind, source"""
        return self.kind, "minted"


class Kept(Event, frozen=True, gc=False):
    """A token that was signed before was handed out again.

    Attributes:
        kind: its `typ`.
    """

    kind: str

    @property
    def labels(self) -> tuple[str, ...]:
        """kind, source"""
        return self.kind, "kept"


class JWKSState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the keys of one issuer in the trust file, of services or of users.

    Attributes:
        issuer: whose.
        fetched_at: when it last answered (Unix seconds), or None if it never did.
        stale_until: when its keys are used no more, unless it answers (Unix seconds); 0 without any.
        keys: how many there are.
    """

    issuer: str
    fetched_at: float | None
    stale_until: float
    keys: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand in a process.

    Attributes:
        now: Unix seconds.
        ready: as `Service.ready`.
        jwks: of every issuer in the trust file.
        deny_list_known: whether the deny list was read; None for a service that has none.
        key_store_failed: whether the last look at the key ring failed; None without a key ring.
        rotated_at: since when the newest key that may sign does (Unix seconds); None without one.
        next_rotation_at: when the key that signs now hands over (Unix seconds); None without one.
        rotation_period: seconds for which one key signs; None without a key ring.
    """

    now: float
    ready: bool
    jwks: tuple[JWKSState, ...]
    deny_list_known: bool | None
    key_store_failed: bool | None
    rotated_at: float | None
    next_rotation_at: float | None
    rotation_period: float | None


Look = Callable[[], Snapshot | None]


class Observer(Protocol):
    """Is told what happens; `Service(observers=[...])`. One object observes one service."""

    def watch(self, look: Look) -> None:
        """Once, when the service is made: `look` says how things stand, whenever it is called.

        It is cheap and waits for nothing; None where the service does not run in this process (yet).
        """

    def observe(self, event: Event) -> None:
        """For each event, in the thread or task in which it happened, many times a second.

        Must not block. What it raises is logged once and disturbs nothing.
        """


class Observers:
    """Several observers as one, which never raises.

    Args:
        observers: each is told everything.

    Raises:
        ConfigError: one of them is no observer.
    """

    def __init__(self, observers: Collection[Observer] = ()) -> None:
        for observer in observers:
            if not all(callable(getattr(observer, name, None)) for name in ("watch", "observe")):
                raise ConfigError(
                    f"observers: {type(observer).__name__} is no observer; expected an object with watch("
                    "look) and observe(event), such as s2s_mesh.integrations.prometheus.Prometheus()"
                )
        self._observers = tuple(observers)
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def watch(self, look: Look) -> None:
        """See `Observer.watch`; what they raise comes out."""
        for observer in self._observers:
            observer.watch(look)

    def observe(self, event: Event) -> None:
        """See `Observer.observe`."""
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception:
                if id(observer) not in self._failed:
                    self._failed.add(id(observer))
                    # a logging filter of the application may raise, and no call may fail because of that
                    with contextlib.suppress(Exception):
                        log.exception("an observer failed, which is logged once: %s", type(observer).__name__)
