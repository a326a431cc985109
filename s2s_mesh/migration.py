"""The old credentials of one service in one process: checks passwords, brings uses to the store.

The uses are one sealed document beside the ring, which every process adds its own to. No request waits for
that: the housekeeper does it, and what cannot be written now is written later.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from .effects import CheckPassword
from .errors import KeyStoreError
from .jitter import between
from .log_fields import fields
from .migration_use import TOKEN, Tally, Uses, Who
from .passwords import PasswordChecks, need_argon2
from .settings import Settings
from .store import SealedStore
from .store.conflicts import despite_conflicts
from .store.sealed import Document
from .trust import TrustConfig

log: logging.Logger = logging.getLogger("s2s_mesh.migration")
NAME = "migration"  # of the document, and its sealing purpose
_EVERY = 10.0  # seconds between two times that uses are written


def stored_uses(settings: Settings) -> SealedStore | None:
    """Where the uses of a service's processes are added up; None for a service that has no place for them."""
    store = settings.open_document(NAME)
    return None if store is None else settings.sealed(store, purpose=NAME)


def read_uses(store: SealedStore) -> Uses:
    """What is stored.

    Raises:
        KeyStoreError: it cannot be read or opened.
    """
    return _uses_in(store.load())


def _uses_in(stored: Document | None) -> Uses:
    return Uses() if stored is None else Uses.parse(stored.plain)


class Migration:
    """What a running service does about its [[legacy]] rows; nothing, where it has none.

    Args:
        settings: the service's configuration.
        clock: Unix seconds.

    Attributes:
        tally: counts what happens.
        pending: what was counted and is not in the store, because it failed or because there is none.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float]) -> None:
        self.tally: Tally = Tally()
        self._settings = settings
        self._clock = clock
        self._pairs: frozenset[tuple[str, str]] = frozenset()
        self._passwords = PasswordChecks()
        self._store: SealedStore | None = None
        self.pending: Uses = Uses()
        self._seen: set[tuple[Who, int]] = set()
        self._due = 0.0
        self._error: str | None = None
        self._step = threading.Lock()
        self._pause = threading.Event()

    def use(self, trust: TrustConfig) -> None:
        """Take over the rows of a trust file.

        Raises:
            ConfigError: a row needs a package that is not installed.
        """
        if any(rule.password for rule in trust.legacy):
            need_argon2()
        self._pairs = frozenset((rule.issuer, rule.audience) for rule in trust.legacy)
        if self._pairs and self._store is None:
            self._store = stored_uses(self._settings)

    def begin(self, check: CheckPassword) -> Future[bool] | None:
        """See `Outside.begin`."""
        return self._passwords.begin(check)

    def keep(self, *, at_once: bool = False) -> None:
        """Bring what was counted to the store, if that is due. Never raises for a store that fails."""
        with self._step:
            now = self._clock()
            if not self._pairs or not (at_once or now >= self._due or self._due > now + _EVERY):
                return
            self._due = now + _EVERY * between(0.7, 1.0)
            self.pending = self.pending.merged(self._announced(self.tally.take())).only(self._pairs)
            if self._store is None or not self.pending.by_who:
                return
            try:
                despite_conflicts(self._add, self._pause.wait)
            except KeyStoreError as failed:
                if self._error != failed.reason.value:
                    log.error("uses of old credentials stay in memory: %s: %s", failed.reason.value, failed)
                self._error = failed.reason.value
            else:
                self.pending = Uses()
                self._error = None

    def close(self) -> None:
        """Write what is left, and let go of the store."""
        self._pause.set()
        self.keep(at_once=True)
        self._passwords.close()
        if self._store is not None:
            self._store.close()

    def _add(self) -> None:
        assert self._store is not None  # noqa: S101 - `keep` has looked
        stored = self._store.load()
        self._store.swap(stored, _uses_in(stored).merged(self.pending).only(self._pairs).to_bytes())

    def _announced(self, uses: Uses) -> Uses:
        """One line of the log a day for each caller that uses the old way."""
        for who, use in uses.by_who.items():
            day = max(use.days)
            if who.way != TOKEN and (who, day) not in self._seen:
                self._seen = {seen for seen in self._seen if seen[1] == day} | {(who, day)}
                log.info(
                    "%s still uses its %s at %s",
                    who.issuer,
                    who.way,
                    who.audience,
                    extra=fields(
                        "old_credential", issuer=who.issuer, audience=who.audience, credential=who.way
                    ),
                )
        return uses
