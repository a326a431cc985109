"""Keeps this process's deny list equal to the store's; the store's is healed from what processes hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .deny_list import DenyList
from .errors import KeyStoreError
from .log_fields import fields
from .settings import Settings
from .store import Document, Notifier, SealedStore
from .store.conflicts import despite_conflicts

log: logging.Logger = logging.getLogger("s2s_mesh.deny")
POLL_SECONDS = 0.5
NAME = "deny"  # of the document, and its sealing purpose
_CHANGED = "deny list changed"


def deny_list_keeper(settings: Settings, *, clock: Callable[[], float]) -> DenyListKeeper | None:
    """The keeper of a service's deny list; None for a service that has no place for one."""
    store = settings.open_document(NAME)
    return None if store is None else DenyListKeeper(settings.sealed(store, purpose=NAME), clock=clock)


class DenyListKeeper:
    """Holds the deny list of one service for one process.

    Args:
        store: where the list lives.
        clock: Unix seconds.

    Attributes:
        current: the list that is held, or None before the first load.
    """

    def __init__(self, store: SealedStore, *, clock: Callable[[], float]) -> None:
        self.current: DenyList | None = None
        self._store = store
        self._clock = clock
        self._error: str | None = None
        self._step = threading.Lock()
        self._pause = threading.Event()

    @property
    def shared(self) -> bool:
        """Whether other processes have this list too."""
        return self._store.store.shared

    def peek(self) -> DenyList:
        """The list as it is stored; holds and changes nothing.

        Raises:
            KeyStoreError: it cannot be read or opened.
        """
        return _parse(self._store.load())

    def refresh(self) -> DenyList | None:
        """Load, merge with what is held, write back what the store has lost; returns what is held now.

        Never raises for a store that fails: what is held goes on, and one line is logged.
        """
        try:
            self.change(lambda rules, _now: rules)
        except KeyStoreError as failed:
            if self._error != failed.reason.value:
                held = "the last one stays in force" if self.current is not None else "calls are refused"
                log.error(
                    "the deny list cannot be read, %s: %s: %s",
                    held,
                    failed.reason.value,
                    failed,
                    extra=fields("deny_list_failed", reason=failed.reason.value),
                )
            self._error = failed.reason.value
        else:
            if self._error is not None:
                log.info("the deny list can be read again", extra=fields("deny_list_recovered"))
            self._error = None
        return self.current

    def change(self, change: Callable[[DenyList, float], DenyList]) -> DenyList:
        """Take one step in which `change` is made to the list; returns the list that is then stored.

        Raises:
            KeyStoreError: the store failed; what was held is still held.
            Exception: whatever `change` raises; nothing was written.
        """
        with self._step:
            return despite_conflicts(lambda: self._attempt(change), self._pause.wait)

    def interrupt(self) -> None:
        """Cut short any pause of a step under way."""
        self._pause.set()

    def close(self) -> None:
        """Let go of the store; the list stays usable."""
        self.interrupt()
        self._store.close()

    def _attempt(self, change: Callable[[DenyList, float], DenyList]) -> DenyList:
        stored = self._store.load()
        loaded = _parse(stored)
        now = self._clock()
        rules = (loaded if self.current is None else self.current.merge(loaded)).pruned(now)
        rules = change(rules, now)
        # what only ran out is no reason to write: every process finds that out by itself
        if rules != loaded.pruned(now):
            self._store.swap(stored, rules.to_bytes())
            if isinstance(self._store.store, Notifier):
                self._store.store.publish(_CHANGED)
        return self._adopt(rules)

    def _adopt(self, rules: DenyList) -> DenyList:
        held = self.current
        if held is not None and rules == held:
            return held
        before = {} if held is None else held.rules
        for rule in rules.rules.values():
            if rule != before.get(rule.id):
                what = "in force" if rule.removed_at is None else "removed"
                log.warning(
                    "deny rule %s is %s: %s (%s)",
                    rule.id,
                    what,
                    rule.named(),
                    rule.why,
                    extra=fields("deny_rule", rule=rule.id, in_force=rule.removed_at is None),
                )
        self.current = rules
        return rules


def _parse(stored: Document | None) -> DenyList:
    return DenyList() if stored is None else DenyList.parse(stored.plain)
