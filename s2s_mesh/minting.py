"""Tokens of a running service: from the ring in memory, one mint at a time, kept ones without waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from . import observed, users, wpt
from .claims import JKT, Confirmation
from .errors import ConfigError, KeyStoreError, StoreReason
from .identity import EndUser, ServiceId
from .keyring import KeyRing
from .manager import KeyManager, key_manager
from .prover import Prover
from .settings import Settings
from .signer import Signer, TokenKind
from .store import KeyStore
from .target_uri import TargetURI


class ProvenRequest(NamedTuple):
    """The tokens that one request carries, and what the first is bound to."""

    access_token: str
    wit: str
    wpt: str
    confirmation: Confirmation


class Minting:
    """The part of a `Runtime` that signs; its arguments."""

    def __init__(
        self,
        settings: Settings,
        store: KeyStore | None,
        *,
        serves: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._clock = clock
        # a ring that no other process can hold has no other replica to wait for
        self._exempt = store is not None and not store.shared
        self._serves = serves
        self.signer: Signer = observed.signer(settings, self._min_key_age)
        self._prover = Prover(self.signer)
        self.manager: KeyManager | None = (
            None
            if store is None
            else key_manager(settings, store, may_create=lambda: self._exempt or serves(), clock=clock)
        )
        self._mint_lock = threading.Lock()

    def check_overdue(self, now: float) -> None:
        """Wake the housekeeper if it should have run long ago, or the clock went back."""
        raise NotImplementedError

    @property
    def ring(self) -> KeyRing | None:
        """The snapshot in memory, or None before the first load."""
        return None if self.manager is None else self.manager.ring

    def load_ring(self) -> KeyRing:
        """The snapshot; loads it first if there is none yet, which may block for seconds.

        Raises:
            KeyStoreError: there is none and none can be had.
            ConfigError: this service has no key store.
        """
        if self.manager is None:
            raise ConfigError("this service has key_store=None: it verifies and has no keys to sign with")
        return self.manager.load()

    def kept_token(
        self,
        audience: str,
        scopes: frozenset[str] | None,
        now: float,
        user: EndUser | None = None,
        confirmation: Confirmation | None = None,
    ) -> str | None:
        """A token that was minted before and may still be sent, or None. Never waits."""
        self.check_overdue(now)
        ring = self.ring
        return None if ring is None else self.signer.cached(ring, audience, scopes, now, confirmation, user)

    def sign(self, kind: TokenKind, build: Callable[[float], Mapping[str, Any]]) -> str:
        """A token of another kind than our own services read, which nobody keeps; may wait for the ring.

        Args:
            kind: what the token is.
            build: its claims at a time (Unix seconds), which is read after the wait.

        Raises:
            KeyStoreError: there is no key to sign with.
        """
        with self.signing() as (ring, now):
            token, _ = self.signer.sign(ring, kind, build(now), now)
        return token

    def token(
        self,
        audience: str,
        scopes: frozenset[str] | None,
        *,
        once: bool = False,
        user: EndUser | None = None,
        confirmation: Confirmation | None = None,
    ) -> str:
        """A token for `audience`, from memory or newly minted; see `Service.token`. May wait for the ring."""
        with self.signing() as (ring, now):
            return self._token(ring, audience, scopes, now, once=once, confirmation=confirmation, user=user)

    def _token(
        self,
        ring: KeyRing,
        audience: str,
        scopes: frozenset[str] | None,
        now: float,
        *,
        once: bool,
        confirmation: Confirmation | None = None,
        user: EndUser | None = None,
    ) -> str:
        if user is not None:
            users.check(user, now)
        token = None if once else self.signer.cached(ring, audience, scopes, now, confirmation, user)
        if token is not None:
            return token
        self._settings.refuse_provider(audience)  # which it may have become since the caller was made
        return self.signer.mint(
            ring,
            TokenKind.SERVICE,
            audience,
            scopes,
            now,
            keep=not once,
            confirmation=confirmation,
            user=user,
        )

    def never_mint_for(self, audience: str) -> None:
        """Make no service token out to an authorization server, and hand out none that was made before."""
        with self._mint_lock:
            self._settings.authorization_servers.add(audience)
            self.signer.forget_audience(audience.removesuffix("/"))

    def prove(
        self,
        audience: ServiceId,
        scopes: frozenset[str] | None,
        method: str,
        raw_path: bytes,
        *,
        once: bool = False,
        user: EndUser | None = None,
    ) -> ProvenRequest:
        """What one request to `audience` carries; may wait for the ring.

        Args:
            audience: the service to call; its origin, and not the address at hand, is what is proved.
            scopes: what to ask for; None for all that is granted.
            method, raw_path: of the request, as sent, the path without its query.
            once: a new access token that is handed out to nobody else.
            user: on whose behalf; its evidence, which travels beside, is proved as well.

        Raises:
            KeyStoreError: there is no key to sign with.
            UserExpired: what is known of the user has expired.
            ConfigError: no receiver lets this path in, or no token can carry the user.
        """
        try:
            uri = TargetURI.of(audience.origin, raw_path)
        except ValueError as why:
            raise ConfigError(f"a request to {audience} cannot be proved: {why}") from None
        with self.signing() as (ring, now):
            self.check_overdue(now)
            held = self._prover.current(ring, now)
            bound = Confirmation(JKT, held.key.kid)
            token = self._token(ring, audience, scopes, now, once=once, confirmation=bound, user=user)
        binding = wpt.Binding(
            method=method,
            uri=uri,
            wit=held.wit.encode(),
            access_token=token.encode(),
            txn_token=None if user is None or user.txn_token is None else user.txn_token.encode(),
            user_token=None if user is None or user.user_token is None else user.user_token.encode(),
        )
        return ProvenRequest(token, held.wit, wpt.sign(held.key, binding, now), bound)

    @contextmanager
    def signing(self) -> Iterator[tuple[KeyRing, float]]:
        """The ring to sign with and the time (Unix seconds), for one at a time; may wait for the ring.

        Raises:
            KeyStoreError: there is no key to sign with; if that is the store's fault, with what it said.
            ConfigError: as `load_ring`.
        """
        ring = self.load_ring()
        with self._mint_lock:
            try:
                # read here: whoever waited must not find the new token to be from the future
                yield ring, self._clock()
            except KeyStoreError as failed:
                error = self.manager.last_error if self.manager is not None else None
                if failed.reason is StoreReason.NO_SIGNING_KEY and error is not None:
                    raise KeyStoreError(failed.reason, f"{failed}; and the store: {error}") from None
                raise

    def _min_key_age(self) -> float:
        """A process that does not serve the JWKS waits until every replica that does has the key."""
        return 0.0 if self._exempt or self._serves() else self._settings.schedule.replica_lag
