"""Keeps this process's snapshot of the ring equal to the store's, and the store's to what time demands.

One step: load, merge with what is held, advance, swap. Every replica runs it; any of them may do the work,
exactly one wins each write, and the others find it done. A store that cannot be reached or opened changes
nothing that is held: never a key is made because an old one could not be read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .errors import KeyStoreError, StoreReason
from .jitter import between
from .keyring import KeyRing
from .keys import SigningKey
from .log_fields import fields
from .rotation import RotationSchedule
from .settings import Settings
from .store import Document, KeyStore, Notifier, SealedStore
from .store.conflicts import despite_conflicts

log: logging.Logger = logging.getLogger("s2s_mesh.keys")
_WHO_HAS = "who-has"
_CHANGED = "changed"


def key_manager(
    settings: Settings, store: KeyStore, *, may_create: Callable[[], bool], clock: Callable[[], float]
) -> KeyManager:
    """The manager of a service's ring in `store`; `may_create` and `clock` as in `KeyManager`."""
    return KeyManager(
        settings.sealed(store),
        issuer=settings.issuer,
        schedule=settings.schedule,
        algorithm=settings.algorithm,
        may_create=may_create,
        clock=clock,
    )


class KeyManager:
    """Holds the ring of one issuer for one process.

    Args:
        store: where the ring lives.
        issuer: whose ring.
        schedule: the rotation times.
        algorithm: of keys this process makes.
        may_create: whether it may make a first key; only for processes that serve the JWKS (and
            `keys init`).
        clock: Unix seconds.

    Attributes:
        ring: the snapshot that is held, or None before the first load.
        last_error: why the last step failed, or None.
        writes: how many times this process has written the ring.
    """

    def __init__(
        self,
        store: SealedStore,
        *,
        issuer: str,
        schedule: RotationSchedule,
        algorithm: str,
        may_create: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.ring: KeyRing | None = None
        self.last_error: KeyStoreError | None = None
        self.writes: int = 0
        self._store = store
        self._issuer = issuer
        self._schedule = schedule
        self._algorithm = algorithm
        self._may_create = may_create
        self._clock = clock
        # serialises refreshers, never readers: those take `ring` as it stands
        self._step = threading.Lock()
        self._steps = 0
        self._pause = threading.Event()
        self._spare: list[SigningKey] = []

    def refresh(self) -> KeyRing:
        """Take one step and return the ring that is held now.

        Blocks for the store's time-outs at most, and on a first start for up to two seconds while replicas
        that may still hold a ring are asked to write it back.

        Raises:
            KeyStoreError: the store failed; what was held is still held, and `last_error` says why.
        """
        with self._step:
            return self._take_step()

    def load(self) -> KeyRing:
        """Return the ring that is held; where there is none, or it has run out (a process that was frozen),
        take one step for all who wait meanwhile.

        Blocks as `refresh` does, however many threads ask while the store hangs.

        Raises:
            KeyStoreError: as `refresh`.
        """
        steps, ring = self._steps, self.usable
        if ring is not None:
            return ring
        with self._step:
            ring = self.usable
            if ring is None and self._steps != steps and self.last_error is not None:
                raise KeyStoreError(self.last_error.reason, str(self.last_error))
            return ring or self._take_step()

    @property
    def usable(self) -> KeyRing | None:
        """The ring that is held, unless it has run out."""
        ring = self.ring
        return None if ring is None or ring.expired(self._clock()) else ring

    def change(self, change: Callable[[KeyRing, float], KeyRing]) -> KeyRing:
        """Take one step in which `change` is made to the ring first; returns the ring that is then stored.

        Args:
            change: given the ring and the time; called again where another writer was first, so that many
                processes that want the same change make it once.

        Raises:
            KeyStoreError: as `refresh`.
            Exception: whatever `change` raises; nothing was written.
        """
        with self._step:
            return self._take_step(change)

    def rewrap(self) -> bool:
        """Seal the ring under the first key-encryption key; False where it already is.

        Replicas go on: those that hold both keys open either.

        Raises:
            KeyStoreError: as `refresh`, or `NO_RING`.
        """
        return despite_conflicts(self._seal_anew, self._pause.wait)

    def peek(self) -> KeyRing | None:
        """The ring as it is stored, or None where there is none; holds and changes nothing.

        Raises:
            KeyStoreError: the store cannot be read, or the ring not be opened.
        """
        return self._parse(self._store.load())

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever another process changed the ring or asks who holds one; returns the stop."""
        if not isinstance(self._store.store, Notifier):
            return lambda: None
        return self._store.store.listen(lambda _message: wake())

    def interrupt(self) -> None:
        """Cut short any pause of a step under way; the step itself ends normally."""
        self._pause.set()

    def close(self) -> None:
        """Let go of the store; the snapshot stays usable."""
        self.interrupt()
        self._store.close()

    def _take_step(self, change: Callable[[KeyRing, float], KeyRing] = lambda ring, _now: ring) -> KeyRing:
        try:
            ring = despite_conflicts(lambda: self._attempt(change), self._pause.wait)
        except KeyStoreError as failed:
            if self.last_error is None or self.last_error.reason is not failed.reason:
                log.error(
                    "key ring of %s: %s: %s",
                    self._issuer,
                    failed.reason.value,
                    failed,
                    extra=fields("key_ring_failed", issuer=self._issuer, reason=failed.reason.value),
                )
            self.last_error = failed
            raise
        finally:
            self._steps += 1
        if self.last_error is not None:
            log.info(
                "key ring of %s is in order again",
                self._issuer,
                extra=fields("key_ring_recovered", issuer=self._issuer),
            )
            self.last_error = None
        return ring

    def _attempt(self, change: Callable[[KeyRing, float], KeyRing]) -> KeyRing:
        stored, loaded, ring = self._look()
        if ring is None or ring.signing_record(self._clock()) is None:
            self._refuse_first_key_unless_allowed(ring)
            self._ask_holders()
            stored, loaded, ring = self._look()
        now, generate = self._clock(), self._generator()
        due = (ring or KeyRing(self._issuer, self._schedule)).advance(now, generate=generate)
        due = change(due, now).advance(now, generate=generate)
        if loaded is not None and due == loaded:
            return self._adopt(due)
        due = due.written()
        self._store.swap(stored, due.to_bytes())
        self.writes += 1
        kids = list(due.records)
        log.info(
            "key ring of %s written: version %d, keys %s",
            self._issuer,
            due.version,
            kids,
            extra=fields("key_ring_written", issuer=self._issuer, version=due.version, kids=kids),
        )
        self._announce(_CHANGED)
        return self._adopt(due)

    def _seal_anew(self) -> bool:
        stored = self._store.load()
        if self._parse(stored) is None or stored is None:
            self._refuse_first_key_unless_allowed(None)
            raise KeyStoreError(StoreReason.NO_RING, f"there is no ring of {self._issuer} to seal anew")
        if stored.kek_id == self._store.sealing_key_id:
            return False
        self._store.swap(stored, stored.plain, rewrap=True)
        return True

    def _look(self) -> tuple[Document | None, KeyRing | None, KeyRing | None]:
        """What is stored, its ring, and that merged with the ring that is held."""
        stored = self._store.load()
        loaded = self._parse(stored)
        return stored, loaded, self._merged(loaded)

    def _parse(self, stored: Document | None) -> KeyRing | None:
        if stored is None:
            return None
        return KeyRing.parse(stored.plain, issuer=self._issuer, schedule=self._schedule)

    def _merged(self, loaded: KeyRing | None) -> KeyRing | None:
        held = self.ring
        if held is None or loaded is None:
            return held or loaded
        if loaded.version < held.version and loaded != held:
            log.warning(
                "the store of %s went back from version %d to %d; healing it",
                self._issuer,
                held.version,
                loaded.version,
                extra=fields(
                    "key_ring_went_back",
                    issuer=self._issuer,
                    version=loaded.version,
                    held_version=held.version,
                ),
            )
        return held.merge(loaded)

    def _refuse_first_key_unless_allowed(self, ring: KeyRing | None) -> None:
        if not self._may_create():
            found = "no ring" if ring is None else "no ring with an unexpired key"
            raise KeyStoreError(
                StoreReason.NO_RING,
                f"{found} for {self._issuer}: start a process that serves service.routes, run "
                "`s2s-mesh serve`, or run `s2s-mesh keys init`",
            )

    def _ask_holders(self) -> None:
        """Give replicas that still hold a ring the time to write it back (after a FLUSHALL, say)."""
        if self._announce(_WHO_HAS):
            least = min(1.0, self._schedule.replica_lag)
            self._pause.wait(between(least, 2 * least))

    def _announce(self, message: str) -> bool:
        if isinstance(self._store.store, Notifier):
            self._store.store.publish(message)
            return True
        return False

    def _generator(self) -> Callable[[], SigningKey]:
        """Makes the n-th missing key, the same one in every attempt: an RSA key takes a fifth of a second."""
        position = 0

        def generate() -> SigningKey:
            nonlocal position
            if position == len(self._spare):
                self._spare.append(SigningKey.generate(self._algorithm))
            position += 1
            return self._spare[position - 1]

        return generate

    def _adopt(self, ring: KeyRing) -> KeyRing:
        signing = ring.signing_key(self._clock())
        if signing is not None:
            try:
                signing.prepare()
            except ValueError as failed:
                raise KeyStoreError(StoreReason.UNREADABLE, f"the ring of {self._issuer}: {failed}") from None
        self._spare = [key for key in self._spare if key.kid not in ring.records]
        if self.ring is None or ring != self.ring or ring.version != self.ring.version:
            self.ring = ring
        return self.ring
