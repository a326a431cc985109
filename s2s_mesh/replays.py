"""Remembering what is good once, for routes with `replay = "once"` or `proof = "wpt"`: opened when needed."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from .effects import UseOnce
from .settings import Settings
from .store.replay import ReplayStore
from .trust import TrustConfig

_WORKERS = 8


class Replays:
    """The replay store of one service in one process, asked on threads of its own.

    Args:
        settings: say where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: ReplayStore | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def open_for(self, trust: TrustConfig) -> None:
        """Open the store if a route needs it.

        Raises:
            ConfigError: the key store is none that every replica can ask in an instant.
        """
        if self._store is None and any(rule.replay == "once" or rule.proof == "wpt" for rule in trust.routes):
            self._store = self._settings.open_replays()

    def begin(self, effect: UseOnce) -> Future[bool] | None:
        """See `Outside.begin`."""
        if self._store is None:
            return None
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="s2s-mesh-replay")
        try:
            return self._pool.submit(self._store.use, effect.issuer, effect.jti, effect.seconds)
        except RuntimeError:  # the interpreter ends, or the machine has no thread to give
            return None

    def close(self) -> None:
        """Let go of threads and store."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()
