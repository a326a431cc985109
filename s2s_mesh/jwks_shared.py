"""Other issuers' keys, shared by all processes of one service: one asks the issuer, the others take it over.

A cache behind each process's own (`jwks_cache="shared"`): one sealed document in the service's key store. It
is looked at by worker threads only, never on the request path.

Why writing to the store is not enough to inject a key: the document is sealed with the key-encryption key,
for this service and this purpose. Whoever can write to the store can delete it, put rubbish in its place, or
put back an older one. The first two lead to a fetch over the network. An older one gains nothing with a
process that holds keys, because only a newer set is ever taken over. A process that holds none takes it over
only while it is fresh, and as if it had asked the issuer itself at the time inside the seal: freshness and
stale bound count from then. So a revoked key lives on as long as in a process that fetched just before the
revocation, and no longer. Sealed is not the same as valid: what comes out is parsed with every check.

Nothing here may make a verification fail. Whatever goes wrong, the process fetches by itself, and leaves the
store alone for a while, so that one that hangs is waited for once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from .errors import JWKSInvalid, KeyStoreError, StoreConflict, StoreReason
from .jitter import between
from .jwks_fetch import TOTAL_SECONDS
from .log_fields import fields
from .resolver import JWKSCacheLimits
from .settings import Settings
from .shared_sets import SharedSet, SharedSets
from .store import KeyStore, Sealer
from .store.sealed import MAX_DOCUMENT

log: logging.Logger = logging.getLogger("s2s_mesh.jwks")
NAME = "jwks-cache"
MAX_DELAY = (
    3.0  # seconds that a fetch may begin later because of this cache: patience, and one store time-out
)
_PATIENCE = 2.0  # seconds for another process to bring a set, and for the store in all
_POLL = (0.05, 0.15)  # seconds between two looks for that set
_AFTER_CONFLICT = (0.002, 0.02)  # seconds; the other writer is done already
_CLAIM = TOTAL_SECONDS + 1  # seconds; whoever has not fetched by then is dead
_REST = 10.0  # seconds without the store after it failed
_WARN_AGAIN = 3600.0  # seconds
_MAX_PLAIN = (MAX_DOCUMENT - 4096) * 3 // 4  # bytes: base64 makes four of three, and the header takes its own
# the store answers, with a document that no process of ours can read; a cache has nothing in it to lose
_RUBBISH = {
    StoreReason.PLAINTEXT,
    StoreReason.TRUNCATED,
    StoreReason.TAMPERED,
    StoreReason.OTHER_ISSUER,
    StoreReason.WRONG_KEY_ENCRYPTION_KEY,
    StoreReason.UNREADABLE,
}
_Pause = tuple[float, float]  # seconds, from and to
_T = TypeVar("_T")


class Turn(msgspec.Struct, frozen=True):
    """What `take_turn` came to; `end_turn` wants it after a fetch.

    Attributes:
        issuer: whose keys are wanted.
        place: where they are published.
        nonce: names the claim that may have been made.
        found: the set to take over; None means fetch.
    """

    issuer: str
    place: str
    nonce: str
    found: SharedSet | None


class _Held(msgspec.Struct, frozen=True):
    """What the store holds: the bytes, the key that sealed them, and what they say."""

    raw: bytes | None = None
    kek_id: str | None = None
    document: SharedSets = SharedSets()


def shared_jwks(settings: Settings, clock: Callable[[], float]) -> SharedJWKS | None:
    """The cache that the settings ask for, inert until used; None where each process has only its own."""
    store = settings.open_document(NAME) if settings.jwks_cache == "shared" else None
    if store is None:
        return None
    sealer = Sealer(settings.key_encryption_keys, issuer=settings.issuer, purpose=NAME)
    return SharedJWKS(store, sealer, limits=settings.cache_limits, clock=clock)


class SharedJWKS:
    """The shared sets of one service, as one of its processes sees them.

    Args:
        store: holds the document; closed by this object.
        sealer: for this service and the purpose `NAME`.
        limits: how long a set is fresh.
        clock: Unix seconds.
    """

    def __init__(
        self, store: KeyStore, sealer: Sealer, *, limits: JWKSCacheLimits, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._limits = limits
        self._clock = clock
        # held across the store's I/O, so that the threads of one process neither conflict with each other nor
        # wait one by one for a store that hangs; nobody waits for it longer than `_PATIENCE`
        self._lock = threading.Lock()
        self._last = _Held()
        self._failed_at: float | None = None
        self._warned_at: dict[str, float] = {}
        self._closed = False

    def take_turn(self, issuer: str, place: str, *, newer_than: float | None, kid: str | None) -> Turn:
        """Find a set to take over, or claim the fetch; blocks for about `MAX_DELAY` seconds at most.

        While another process is fetching, waits for what it brings. Never raises.

        Args:
            issuer: whose keys are wanted.
            place: where they are published now; what was fetched elsewhere does not count.
            newer_than: when the set at hand was fetched (Unix seconds), or None without one.
            kid: take over only a set that holds this key; None for any.
        """
        nonce = secrets.token_hex(8)
        look = functools.partial(self._look, issuer, place, nonce, newer_than, kid)
        return Turn(issuer, place, nonce, self._repeat(look, otherwise=None))

    def end_turn(self, turn: Turn, fetched: SharedSet | None) -> None:
        """Share what the issuer answered; None after a failure only gives up the claim.

        Blocks as `take_turn`; never raises.
        """
        self._repeat(functools.partial(self._write, turn, fetched), otherwise=None)

    def close(self) -> None:
        """Let go of the store for good; waits for a call that is under way."""
        with self._lock:
            self._closed = True
            self._store.close()

    # -- with the lock ---------------------------------------------------------------------------------------

    def _look(
        self, issuer: str, place: str, nonce: str, newer_than: float | None, kid: str | None
    ) -> SharedSet | _Pause | None:
        """The set to take over, None if the fetch is now ours, or the pause before another look."""
        held, now = self._load(), self._clock()
        try:
            found = held.document.fresh(issuer, place, now, self._limits)
        except JWKSInvalid as invalid:
            self._warn("invalid set", f"holds a set of {issuer} that must not be used: {invalid}")
            found = None
        if (
            found is not None
            and (newer_than is None or found.fetched_at > newer_than)
            and (kid is None or kid in found.jwks.keys)
        ):
            return found
        if held.document.is_claimed(issuer, place, now, longest=_CLAIM):
            return _POLL
        return self._swap(held, held.document.with_claim(issuer, place, nonce, now + _CLAIM), now)

    def _write(self, turn: Turn, fetched: SharedSet | None) -> _Pause | None:
        """None when all is written that has to be, or the pause before another attempt."""
        held, now = self._load(), self._clock()
        if fetched is None:
            document = held.document.without_claim(turn.issuer, turn.nonce)
        else:
            # whoever else is fetching it need not be waited for any more
            document = held.document.without_claim(turn.issuer, None)
            document = document.with_set(turn.issuer, turn.place, fetched, now, self._limits)
        return None if document is held.document else self._swap(held, document, now)

    def _load(self) -> _Held:
        raw = self._store.load()
        if raw is None:
            return _Held()
        if raw != self._last.raw:  # who polls need not open the same one again
            self._last = self._open(raw)
        return self._last

    def _open(self, raw: bytes) -> _Held:
        try:
            opened = self._sealer.open(raw)
            return _Held(raw, opened.kek_id, SharedSets.parse(opened.plain))
        except KeyStoreError as refused:
            if refused.reason not in _RUBBISH:
                raise
            problem = refused.reason.value
        except ValueError:
            problem = "of another format"
        self._warn(
            problem,
            f"was {problem}, so it is ignored and written anew (if that happens again, something else writes"
            " to the key store, or the processes differ in version or key-encryption keys)",
        )
        return _Held(raw)

    def _swap(self, held: _Held, document: SharedSets, now: float) -> _Pause | None:
        document = document.fitting(_MAX_PLAIN, now, self._limits, longest=_CLAIM)
        # by the key that sealed it before, so that processes which hold the keys in another order can read it
        raw = self._sealer.seal(document.to_bytes(), kek_id=held.kek_id)
        try:
            self._store.swap(held.raw, raw)
        except StoreConflict:
            return _AFTER_CONFLICT
        self._last = _Held(raw, held.kek_id, document)
        return None

    # -- whatever goes wrong ---------------------------------------------------------------------------------

    def _repeat(self, step: Callable[[], _T | _Pause], *, otherwise: _T) -> _T:
        """Do a step until it returns no pause; `otherwise` when patience ends, or the store fails."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._guarded(step, deadline, otherwise)
            if not isinstance(answer, tuple):
                return answer
            if time.monotonic() >= deadline:
                return otherwise
            time.sleep(between(*answer))

    def _guarded(self, step: Callable[[], _T | _Pause], deadline: float, otherwise: _T) -> _T | _Pause:
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return otherwise
        try:
            now = self._clock()
            if self._closed or (self._failed_at is not None and 0 <= now - self._failed_at < _REST):
                return otherwise
            try:
                answer = step()
            except Exception as failed:  # noqa: BLE001 - logged, and the caller goes on without
                self._failed_at = self._clock()
                if isinstance(failed, KeyStoreError):
                    self._warn(failed.reason.value, f"is left alone for {_REST:g} s: {failed}")
                else:
                    self._warn(type(failed).__name__, "failed: this is a bug", exc_info=failed)
                return otherwise
            self._failed_at = None
            return answer
        finally:
            self._lock.release()

    def _warn(self, kind: str, problem: str, **options: Any) -> None:
        """One line for each kind of failure, now and then; not one for each fetch."""
        now = self._clock()
        warned_at = self._warned_at.get(kind)
        if warned_at is not None and 0 <= now - warned_at < _WARN_AGAIN:
            return
        self._warned_at[kind] = now
        # a logging filter of the application may raise, and no verification may fail because of that
        with contextlib.suppress(Exception):
            log.warning(
                "the shared JWKS cache %s; keys are fetched without it",
                problem,
                extra=fields("jwks_cache_trouble", problem=kind),
                **options,
            )
