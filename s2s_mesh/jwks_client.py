"""Fetching keys on one small thread pool: one fetch in flight per issuer, whoever asks.

The state is `KeyResolver`'s; its transitions run here under one lock that is never held across I/O.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from .effects import Effect, FetchJWKS
from .errors import JWKSInvalid
from .jitter import between
from .jwks_fetch import TOTAL_SECONDS, Fetched, FetchFailed, fetch
from .jwks_shared import MAX_DELAY, SharedJWKS, Turn
from .log_fields import fields
from .newcomers import Newcomers
from .observer import CoolingDown, Event, JWKSFetched
from .resolver import KeyResolver, Why
from .shared_sets import SharedSet
from .threads import begin
from .trust import TrustConfig
from .trust_issuers import Accepted

log: logging.Logger = logging.getLogger("s2s_mesh.jwks")
_WORKERS = 16
# background refreshes leave half of the workers to callers who wait
_MAX_BACKGROUND = _WORKERS // 2
# nor may a server that hangs have them all, where each key is fetched alone: for one issuer, and for all that
# it serves
_MAX_ALONE = 4
_MAX_ALONE_IN_ALL = 12
WAIT_SECONDS = TOTAL_SECONDS + 1


class JWKSClient:
    """Keeps a `KeyResolver` supplied. Its threads start with the first fetch.

    Args:
        resolver: holds what is known.
        trust: names the issuers and where their keys are; replace it with `use`.
        clock: Unix seconds.
        shared: what other processes of this service fetched, looked at before the network is; closed by
            this object.
        tell: the observers' ear.

    Attributes:
        wait_seconds: how long a caller waits in all; a fetch has ended by then, unless it had to queue up.
        fetches: attempts that were started.
        fetch: asks an issuer; see `jwks_fetch.fetch`.
    """

    def __init__(
        self,
        resolver: KeyResolver,
        trust: TrustConfig,
        clock: Callable[[], float],
        *,
        shared: SharedJWKS | None = None,
        tell: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self._resolver = resolver
        self._trust = trust
        self._clock = clock
        self._shared = shared
        self._tell = tell
        self.wait_seconds: float = WAIT_SECONDS if shared is None else WAIT_SECONDS + MAX_DELAY
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[None]] = {}
        self._background: set[str] = set()
        self._newcomers = Newcomers()
        resolver.alone = _alone(trust)
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self.fetches: int = 0
        self.fetch = fetch

    def use(self, trust: TrustConfig) -> None:
        """Go on with a reloaded trust file; issuers that it no longer lists, or moves, are forgotten."""
        with self._lock:
            before, self._trust = self._trust.key_sources, trust
            self._resolver.alone = _alone(trust)
            self._resolver.forget_except(
                [name for name, source in trust.key_sources.items() if _same_place(source, before.get(name))]
            )

    def begin(self, effect: Effect) -> Future[None] | None:
        """See `Outside.begin`; other effects than `FetchJWKS` are nothing to this class."""
        return self.request(effect.issuer, effect.kid) if isinstance(effect, FetchJWKS) else None

    def request(self, issuer: str, kid: str) -> Future[None] | None:
        """Start or join a fetch that may bring this key; None where the budgets allow none now.

        The future is done when the resolver knows the outcome; it never raises.
        """
        now = self._clock()
        with self._lock:
            place = self._resolver.place(issuer, kid)
            if place in self._in_flight:
                return self._in_flight[place]
            why = self._resolver.needed(issuer, kid, now)
            if why is None:
                return None
            if self._resolver.allowed(place, why, now) and self._admits(issuer, place, now):
                return self._start(place, why, now, kid)
        self._tell(CoolingDown(issuer=issuer, why=why.value))
        return None

    def refresh_due(self) -> None:
        """Start the background refreshes that are due, new issuers first seen included."""
        now = self._clock()
        with self._lock:
            due = sorted(
                (self._resolver.refresh_due(place, now), place)
                for issuer in self._trust.key_sources
                for place in self._resolver.places(issuer)
                if place not in self._in_flight and self._resolver.allowed(place, Why.REFRESH, now)
            )
            # not those for callers: made-up kids shall not keep us from hearing of revocations
            self._background &= self._in_flight.keys()
            for _, place in due[: max(_MAX_BACKGROUND - len(self._background), 0)]:
                if self._start(place, Why.REFRESH, now) is not None:
                    self._background.add(place)

    def close(self) -> None:
        """Start nothing more; fetches under way end by themselves within their deadline.

        With a shared cache, waits for its store if that is in use just now, two seconds at most as a rule.
        """
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        if self._shared is not None:
            self._shared.close()

    def _admits(self, issuer: str, place: str, now: float) -> bool:
        """Whether nobody can have us ask for keys without end by naming them."""
        if place == issuer or self._resolver.keys(place):
            return True
        looked_at = self._resolver.fetched_at(place)
        if looked_at is not None and 0 <= now - looked_at < self._resolver.limits.unknown_kid:
            return False  # it was not there just now
        alone = [name.partition(" ")[0] for name in self._in_flight if " " in name]
        if len(alone) >= _MAX_ALONE_IN_ALL or alone.count(issuer) >= _MAX_ALONE:
            return False
        if not self._newcomers.admit(issuer, now):
            return False
        self._resolver.make_room(place)
        return True

    def _start(self, place: str, why: Why, now: float, kid: str | None = None) -> Future[None] | None:
        issuer, _, alone = place.partition(" ")
        source = self._trust.key_sources.get(issuer)
        if source is None or self._closed:
            return None
        if alone:
            source = msgspec.structs.replace(source, asap_key=alone)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="s2s-mesh-jwks")
        self._resolver.begin(place, why, now)
        self.fetches += 1
        try:
            known = begin(self._pool, self._work, place, source, why, kid)
        except RuntimeError as failed:  # the machine has no thread to give, or the interpreter ends
            self._resolver.failed(place, now, str(failed))
            return None
        self._in_flight[place] = known
        return known

    def _work(self, place: str, source: Accepted, why: Why, kid: str | None, known: Future[None]) -> None:
        turn: Turn | None = None
        fetched: SharedSet | None = None
        try:
            # a pinned file is nearer than any store
            if self._shared is not None and source.keys_url is not None:
                turn = self._shared.take_turn(
                    source.issuer,
                    source.shared_place,
                    newer_than=self._resolver.fetched_at(source.issuer),
                    kid=kid if why is Why.UNKNOWN_KID else None,
                )
            fetched = self._fetch(place, source, why, None if turn is None else turn.found)
        finally:
            known.set_result(None)
        # afterwards, because nobody waits for others to know it too
        if self._shared is not None and turn is not None and turn.found is None:
            self._shared.end_turn(turn, fetched)

    def _fetch(self, place: str, source: Accepted, why: Why, found: SharedSet | None) -> SharedSet | None:
        """Bring the issuer's set, from the network unless it was found; returns what others should know."""
        issuer, at, began = source.issuer, self._clock(), time.perf_counter()
        etag = self._resolver.etag(place)
        outcome: SharedSet | Fetched | Exception
        try:
            outcome = found or self.fetch(source, etag=etag, no_cache=why is Why.UNKNOWN_KID)
        except Exception as failed:  # noqa: BLE001 - logged below
            outcome = failed
        now = self._clock()
        jitter = between(0, 1)
        fetched = None
        with self._lock:
            self._in_flight.pop(place, None)
            if _same_place(source, self._trust.key_sources.get(issuer)):  # not reloaded meanwhile
                outcome = self._in_order(place, outcome)
                fetched = self._apply(place, why, outcome, etag, now, jitter)
        took = time.perf_counter() - began
        self._tell(JWKSFetched(issuer=issuer, why=why.value, result=_result(outcome), at=at, seconds=took))
        # last, because a logging filter that raises must not leave the issuer in flight for ever
        if not self._closed:  # nobody wants to read what a service that was stopped did not get
            _report(issuer, why, outcome)
        return fetched

    def _in_order(
        self, issuer: str, outcome: SharedSet | Fetched | Exception
    ) -> SharedSet | Fetched | Exception:
        if not isinstance(outcome, Exception) and outcome.jwks is not None:
            try:
                self._resolver.check_order(issuer, outcome.jwks)
            except JWKSInvalid as older:
                return older
        return outcome

    def _apply(
        self,
        place: str,
        why: Why,
        outcome: SharedSet | Fetched | Exception,
        etag: str | None,
        now: float,
        jitter: float,
    ) -> SharedSet | None:
        if isinstance(outcome, Exception):
            self._resolver.failed(place, now, _error(outcome))
            return None
        max_age, new_etag = outcome.max_age, outcome.etag
        if isinstance(outcome, SharedSet):
            self._resolver.adopted(
                place, why, outcome.jwks, outcome.fetched_at, max_age=max_age, etag=new_etag, jitter=jitter
            )
            return None
        if outcome.jwks is None and self._resolver.etag(place) != etag:
            return None  # "not modified" speaks of a set that a reload has forgotten meanwhile
        jwks = outcome.jwks or self._resolver.jwks(place)
        if jwks.order is not None and jwks.order.refresh_hint is not None:
            max_age = jwks.order.refresh_hint
        self._resolver.succeeded(place, outcome.jwks, now, max_age=max_age, etag=new_etag, jitter=jitter)
        return SharedSet(jwks=jwks, fetched_at=now, max_age=max_age, etag=new_etag)


def _same_place(source: Accepted, other: Accepted | None) -> bool:
    """Whether both get the keys from one place and read them alike; only then one's answer is the other's."""
    return other is not None and source.terms == other.terms


def _alone(trust: TrustConfig) -> frozenset[str]:
    return frozenset(name for name, source in trust.key_sources.items() if source.asap_key_servers)


def _error(failed: Exception) -> str:
    return str(failed) if isinstance(failed, (FetchFailed, JWKSInvalid)) else "internal error, see the log"


def _result(outcome: SharedSet | Fetched | Exception) -> str:
    if isinstance(outcome, Exception):
        return "failed"
    if isinstance(outcome, SharedSet):
        return "shared"
    return "not_modified" if outcome.jwks is None else "fetched"


def _report(issuer: str, why: Why, outcome: SharedSet | Fetched | Exception) -> None:
    if isinstance(outcome, Exception):
        failed = fields("jwks_not_refreshed", issuer=issuer, why=why.value, error=_error(outcome))
    if isinstance(outcome, (FetchFailed, JWKSInvalid)):
        log.warning("keys of %s not refreshed (%s): %s", issuer, why.value, outcome, extra=failed)
    elif isinstance(outcome, Exception):
        log.error(
            "keys of %s not refreshed (%s): this is a bug", issuer, why.value, exc_info=outcome, extra=failed
        )
    else:
        for problem in () if outcome.jwks is None else outcome.jwks.ignored:
            log.info(
                "keys of %s: %s, so it is not used",
                issuer,
                problem,
                extra=fields("jwks_key_ignored", issuer=issuer, problem=problem),
            )
