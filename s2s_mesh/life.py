"""The life of a `Service` in one process: starts at first use, is counted, stops; anew after a fork."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .clock import now
from .errors import KeyStoreError
from .jwks_fetch import fetch
from .observer import Snapshot
from .runtime import Runtime
from .settings import Settings
from .snapshot import is_ready, snapshot

if TYPE_CHECKING:
    from typing_extensions import Self


class ServiceLife:
    """What of a `Service` begins and ends: its living parts, started when they are needed.

    Args:
        settings: checked; nothing is opened before the first use.

    Attributes:
        clock: Unix seconds, the one clock of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Callable[[], float] = now
        self._serves = False
        # asks issuers for their keys; nothing but s2s_mesh.testing ever puts anything else here
        self._fetch = fetch
        self._store = settings.open_key_store()
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()
        self._users = 0
        _services.add(self)
        settings.observers.watch(self.look)

    def running(self) -> Runtime:
        """The living parts in this process; starts them at first use."""
        runtime = self._runtime
        if runtime is None:
            with self._lock:
                runtime = self._runtime
                if runtime is None:
                    runtime = Runtime(self.settings, self._store, serves=self._serves_jwks, clock=self.clock)
                    runtime.client.fetch = self._fetch
                    runtime.start()
                    self._runtime = runtime
        return runtime

    def awake(self, now: float) -> Runtime:
        """`running`, and if housekeeping is overdue at `now`, woken; for all that a caller waits for."""
        runtime = self._runtime or self.running()
        runtime.check_overdue(now)
        return runtime

    def __enter__(self) -> Self:
        with self._lock:
            self._users += 1
        runtime = self.running()
        if runtime.manager is not None:
            try:
                runtime.manager.refresh()
            except KeyStoreError:  # logged; the housekeeper retries, and the service turns ready by itself
                runtime.kick()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users = max(self._users - 1, 0)
            if self._users:
                return
            runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    @asynccontextmanager
    async def lifespan(self, _app: Any = None) -> AsyncGenerator[None, None]:
        """A lifespan for Starlette; `async with service.lifespan(app):` inside a lifespan of your own."""
        async with self:
            yield

    @property
    def ready(self) -> bool:
        """Whether this process holds a ring (or needs none); for a readiness probe."""
        return is_ready(self.running())

    @property
    def not_ready_reason(self) -> str | None:
        """Why `ready` is false: the store's last error, for the operator; None when ready."""
        runtime = self.running()
        if runtime.manager is None or is_ready(runtime):
            return None
        return str(runtime.manager.last_error or "the key ring is being loaded")

    def look(self) -> Snapshot | None:
        """How things stand in this process, for observers; None where the service does not run (yet)."""
        runtime = self._runtime
        return None if runtime is None else snapshot(runtime, self.clock())

    def load(self) -> None:
        """Make sure that the ring is in memory; may block for seconds.

        Raises:
            KeyStoreError: it cannot be had.
            ConfigError: this service only verifies.
        """
        self.running().load_ring()

    async def load_async(self) -> None:
        """`load`, off the event loop."""
        runtime = self.running()
        if runtime.manager is None or runtime.manager.usable is None:
            await asyncio.to_thread(runtime.load_ring)

    def never_mint_for(self, issuer: str) -> None:
        """Make no service token out to this authorization server from now on, as `oauth_client` does."""
        self.settings.authorization_servers.add(issuer)
        runtime = self._runtime
        if runtime is not None:
            runtime.never_mint_for(issuer)

    def serves_documents(self) -> None:
        """Say that this process answers for our own documents, so that it may sign with a key at once."""
        self._serves = True

    def _serves_jwks(self) -> bool:
        return self._serves

    def _after_fork(self) -> None:
        """In the child there are no threads, and sockets and locks are the parent's."""
        self._lock = threading.Lock()
        self._runtime = None
        if self._store is not None and self._store.shared:
            self._store = self.settings.open_key_store()


_services: weakref.WeakSet[ServiceLife] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for service in list(_services):
        service._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
