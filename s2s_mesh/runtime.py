"""What a service has only once it runs: one per process, made at first use, dropped by a fork.

A daemon thread, the housekeeper, keeps the ring, the trust file and other issuers' keys fresh, so that
requests only read. Whoever finds it overdue wakes it (a dyno that was frozen, a clock that was moved).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from . import deny_list, observed
from .deny_keeper import POLL_SECONDS, DenyListKeeper, deny_list_keeper
from .effects import CheckPassword, Effect, LoadDenyList, UseOnce
from .errors import ConfigError, KeyStoreError
from .inbound import Inbound
from .jitter import between
from .jwks_client import JWKSClient
from .jwks_shared import shared_jwks
from .migration import Migration
from .minting import Minting
from .oauth_tokens import OAuthTokens
from .replays import Replays
from .resolver import KeyResolver
from .settings import Settings
from .store import KeyStore
from .threads import far_from_threading
from .trust_file import TrustFile
from .verifier import Verifier

log: logging.Logger = logging.getLogger("s2s_mesh")
_TICK = 1.0  # seconds between two looks at the trust file and at what is due
_FIRST_RETRY = 0.5  # seconds; doubles up to the poll interval


class Runtime(Minting):
    """The living parts of one service in one process.

    Args:
        settings: the service's configuration.
        store: where the ring lives, or None.
        serves: whether this process serves the JWKS itself.
        clock: Unix seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: KeyStore | None,
        *,
        serves: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(settings, store, serves=serves, clock=clock)
        self._trust_file = settings.trust if isinstance(settings.trust, TrustFile) else None
        trust = settings.trusted.for_audiences(settings.audiences)
        self.resolver: KeyResolver = KeyResolver(settings.cache_limits)
        tell = settings.observers.observe
        self.client: JWKSClient = JWKSClient(
            self.resolver, trust, clock, shared=shared_jwks(settings, clock), tell=tell
        )
        self.verifier: Verifier = Verifier(
            audiences=settings.audiences,
            trust=trust,
            resolver=self.resolver,
            cache_size=settings.verified_cache_size,
        )
        self.deny: DenyListKeeper | None = deny_list_keeper(settings, clock=clock)
        self.verifier.deny = deny_list.EMPTY if self.deny is None else None
        self._deny_looked_up: Future[None] = Future()
        self._replays = Replays(settings)
        self._replays.open_for(trust)
        self.migration: Migration = Migration(settings, clock=clock)
        self.migration.use(trust)
        self.inbound: Inbound = observed.inbound(settings, self.verifier, self.resolver, self.migration.tally)
        self.oauth: OAuthTokens = OAuthTokens(
            jwks_uri=f"{settings.issuer}/.well-known/jwks.json",
            sign=self.sign,
            learned=self.never_mint_for,
            clock=clock,
        )
        self._tick = min(_TICK, settings.schedule.poll_interval)
        if self.deny is not None:
            self._tick = min(self._tick, POLL_SECONDS)
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._poll_due = 0.0
        self._failures = 0
        self._last_tick = clock()
        self.overdue_at: float = self._last_tick + 3 * self._tick
        self._thread: threading.Thread | None = None
        self._stop_listening: Callable[[], None] = lambda: None

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin housekeeping; returns at once."""
        self._thread = threading.Thread(
            target=far_from_threading, args=(self._keep_house,), name="s2s-mesh-housekeeper", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End housekeeping and let go of the store; blocks until both are done, a few seconds at most."""
        self._stopped.set()
        self._wake.set()
        for keeper in (self.manager, self.deny):
            if keeper is not None:
                keeper.interrupt()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._stop_listening()
        self.client.close()
        self.oauth.close()
        for part in (self._replays, self.manager, self.deny, self.migration):
            if part is not None:
                part.close()

    def kick(self) -> None:
        """Have the housekeeper look at everything now."""
        self.overdue_at = self._clock() + 3 * self._tick
        self._wake.set()

    def check_overdue(self, now: float) -> None:
        """Wake the housekeeper if it should have run long ago, or the clock went back."""
        if not self._last_tick - self._tick <= now < self.overdue_at:
            self._poll_due = 0.0
            self.kick()

    def _keep_house(self) -> None:
        if self.manager is not None:
            try:
                self._stop_listening = self.manager.listen(self._ring_changed)
            except Exception:
                log.exception("listening for changes of the ring failed: this is a bug; polling goes on")
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                self.keep_house_once()
            except Exception:
                log.exception("housekeeping failed: this is a bug")
            self._wake.wait(self._tick)

    def keep_house_once(self) -> None:
        """Do what is due: trust file, other issuers' keys, the ring. Never raises for what may go wrong."""
        now = self._clock()
        if now < self._last_tick:
            self._poll_due = 0.0
        self._last_tick = now
        self.reload_trust()
        self.client.refresh_due()
        if self.deny is not None:
            self.verifier.deny = self.deny.refresh()
            if not self._deny_looked_up.done():
                self._deny_looked_up.set_result(None)
        if self.manager is not None and now >= self._poll_due:
            # set before the step: a message that comes meanwhile makes another one due at once
            self._poll_due = now + self._settings.schedule.poll_interval * between(0.7, 1.0)
            try:
                self.manager.refresh()
                self._failures = 0
            except KeyStoreError:  # the manager has logged it
                self._poll_due = min(self._poll_due, now + _FIRST_RETRY * 2 ** min(self._failures, 10))
                self._failures += 1
        self.migration.keep()  # last: nobody waits for it
        self.overdue_at = self._clock() + 3 * self._tick

    def reload_trust(self) -> None:
        """Go on with the trust file as it stands now; a bad new one changes nothing (the file logs it)."""
        changed = None if self._trust_file is None else self._trust_file.reload_if_changed()
        if changed is not None:
            trust = changed.for_audiences(self._settings.audiences)
            try:
                self._replays.open_for(trust)
                self.migration.use(trust)
            except ConfigError as error:
                log.error("the changed trust file is not taken over: %s", error)
                return
            self.client.use(trust)
            self.verifier.trust = trust

    def _ring_changed(self) -> None:
        self._poll_due = 0.0
        self._wake.set()

    # -- what flows ask for ----------------------------------------------------------------------------

    @property
    def wait_seconds(self) -> float:
        """See `Outside.wait_seconds`."""
        return self.client.wait_seconds

    def begin(self, effect: Effect) -> Future[Any] | None:
        """See `Outside.begin`."""
        if isinstance(effect, LoadDenyList):
            return self._deny_looked_up
        if isinstance(effect, UseOnce):
            return self._replays.begin(effect)
        if isinstance(effect, CheckPassword):
            return self.migration.begin(effect)
        return self.client.begin(effect)
