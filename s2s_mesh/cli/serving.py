"""Running a service under uvicorn: one ready line on stdout, logs on stderr, a clean end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from starlette.responses import JSONResponse
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError
from ..identity import Principal
from ..service import Service
from .environment import PASSING

_END_WITHIN = 5  # seconds that requests under way have, once the end is asked for
_LOOK_AGAIN = 0.01  # seconds


def caller_facts(service: Service) -> ASGIApp:
    """An application that answers everything with what is known of the caller; to be protected."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        caller: Principal = scope["user"]
        user = caller.user
        answer = {
            "caller": caller.issuer,
            "subject": caller.subject,
            "audience": caller.audience,
            "scopes": sorted(caller.scopes),
            "user": None if user is None else {"issuer": user.issuer, "subject": user.subject},
            "kid": caller.kid,
            "expires_in": int(caller.expires_at - service.clock()),
        }
        await JSONResponse(answer, headers={"cache-control": "no-store"})(scope, receive, send)

    return app


def only_documents(service: Service) -> ASGIApp:
    """An application that serves our own documents, whether or not a proxy cuts off the issuer's path."""
    # a redirect to the path without a slash would be made of the Host header
    return Router([*service.root_routes, *service.routes], redirect_slashes=False)


def run(app: ASGIApp, service: Service, *, host: str, port: int, beside: Beside | None = None) -> None:
    """Serve until SIGTERM or SIGINT, which is a good end.

    Args:
        app: the application.
        service: started before it, and ended after it.
        host, port: where.
        beside: another application, on a listener of its own.

    Raises:
        ConfigError: the address cannot be listened on.
        KeyStoreError: the ring cannot be had, and waiting does not help.
    """
    logging.basicConfig(force=True, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("s2s_mesh").setLevel(logging.INFO)
    listener = listen(host, port)
    server = _Server(app, listener, *([] if beside is None else [beside.listener]))
    # uvicorn raises its signals once more after a clean shutdown, for whoever held the handler before
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.end)
    with listener, service:
        manager = service.running().manager
        if (
            manager is not None
            and manager.last_error is not None
            and manager.last_error.reason not in PASSING
        ):
            raise manager.last_error
        with contextlib.nullcontext() if beside is None else _in_a_thread(beside):
            server.run(sockets=[listener])


class Beside(NamedTuple):
    """An application and the open socket that it gets."""

    app: ASGIApp
    listener: socket.socket


@contextlib.contextmanager
def _in_a_thread(beside: Beside) -> Iterator[None]:
    """Serve it in a thread with an event loop of its own; the block begins once it accepts connections."""
    server = _Server(beside.app)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [beside.listener]}, name="s2s-mesh-beside", daemon=True
    )
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(_LOOK_AGAIN)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket that is listened on.

    Raises:
        ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} (--host, --port): {error.strerror}; port 0 takes a free one"
        ) from None


class _Server(uvicorn.Server):
    """Says when it is ready, and where."""

    def __init__(self, app: ASGIApp, *listeners: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_END_WITHIN,
            )
        )
        self._urls = [_url(listener.getsockname()) for listener in listeners]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for url in self._urls:
            print(f"{url} ready", flush=True)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal that comes before, or after, uvicorn listens to it."""
        self.should_exit = True


def _url(address: Any) -> str:
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
