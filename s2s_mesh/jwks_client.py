"""Fetching keys on one small thread pool: one fetch in flight per issuer, whoever asks.

The state is `KeyResolver`'s; its transitions run here under one lock that is never held across I/O.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from .errors import JWKSInvalid
from .jwks_fetch import TOTAL_SECONDS, Fetched, FetchFailed, fetch
from .resolver import KeyResolver, Why
from .threads import far_from_threading
from .trust import IssuerTrust, TrustConfig

log = logging.getLogger("s2s_mesh.jwks")
_WORKERS = 16
# background refreshes leave half of the workers to callers who wait
_MAX_BACKGROUND = _WORKERS // 2
WAIT_SECONDS = TOTAL_SECONDS + 1


class JWKSClient:
    """Keeps a `KeyResolver` supplied. Its threads start with the first fetch.

    Args:
        resolver: holds what is known.
        trust: names the issuers and where their keys are; replace it with `use`.
        clock: Unix seconds.
    """

    def __init__(self, resolver: KeyResolver, trust: TrustConfig, clock: Callable[[], float]) -> None:
        self._resolver = resolver
        self._trust = trust
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self.fetches = 0

    def use(self, trust: TrustConfig) -> None:
        """Go on with a reloaded trust file; issuers that it no longer lists are forgotten."""
        with self._lock:
            self._trust = trust
            self._resolver.forget_except(trust.issuers)

    def request(self, issuer: str, kid: str) -> Future[None] | None:
        """Start or join a fetch that may bring this key; None where the budgets allow none now.

        The future is done when the resolver knows the outcome; it never raises.
        """
        now = self._clock()
        with self._lock:
            if issuer in self._in_flight:
                return self._in_flight[issuer]
            why = self._resolver.needed(issuer, kid, now)
            if why is None or not self._resolver.allowed(issuer, why, now):
                return None
            return self._start(issuer, why, now)

    def refresh_due(self) -> None:
        """Start the background refreshes that are due, new issuers first seen included."""
        now = self._clock()
        with self._lock:
            due = sorted(
                (self._resolver.refresh_due(issuer, now), issuer)
                for issuer in self._trust.issuers
                if issuer not in self._in_flight and self._resolver.allowed(issuer, Why.REFRESH, now)
            )
            for _, issuer in due[: max(_MAX_BACKGROUND - len(self._in_flight), 0)]:
                self._start(issuer, Why.REFRESH, now)

    def close(self) -> None:
        """Start nothing more; fetches under way end by themselves within their deadline."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, issuer: str, why: Why, now: float) -> Future[None] | None:
        source = self._trust.issuers.get(issuer)
        if source is None or self._closed:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="s2s-mesh-jwks")
        self._resolver.begin(issuer, why, now)
        self.fetches += 1
        future = self._pool.submit(far_from_threading, self._fetch, source, why)
        self._in_flight[issuer] = future
        return future

    def _fetch(self, source: IssuerTrust, why: Why) -> None:
        issuer = source.issuer
        fetched: Fetched | None = None
        error = "internal error, see the log"
        try:
            fetched = fetch(source, etag=self._resolver.etag(issuer), no_cache=why is Why.UNKNOWN_KID)
        except (FetchFailed, JWKSInvalid) as failed:
            error = str(failed)
            log.warning("keys of %s not refreshed (%s): %s", issuer, why.value, error)
        except Exception:
            log.exception("keys of %s not refreshed (%s): this is a bug", issuer, why.value)
        for problem in () if fetched is None or fetched.jwks is None else fetched.jwks.ignored:
            log.info("keys of %s: %s, so it is not used", issuer, problem)
        now = self._clock()
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        with self._lock:
            del self._in_flight[issuer]
            if issuer not in self._trust.issuers:
                return  # the trust file was reloaded meanwhile
            if fetched is None:
                self._resolver.failed(issuer, now, error)
            else:
                self._resolver.succeeded(
                    issuer, fetched.jwks, now, max_age=fetched.max_age, etag=fetched.etag, jitter=jitter
                )
