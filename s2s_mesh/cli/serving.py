"""Running a service under uvicorn: one ready line on stdout, logs on stderr, a clean end."""

from __future__ import annotations

import logging
import signal
import socket
from types import FrameType

import uvicorn
from starlette.responses import JSONResponse
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError
from ..identity import Principal
from ..service import Service
from .environment import PASSING

_END_WITHIN = 5  # seconds that requests under way have, once the end is asked for


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


def run(app: ASGIApp, service: Service, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, which is a good end.

    Raises:
        ConfigError: the address cannot be listened on.
        KeyStoreError: the ring cannot be had, and waiting does not help.
    """
    logging.basicConfig(force=True, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("s2s_mesh").setLevel(logging.INFO)
    listener = _listen(host, port)
    server = _Server(
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
        ),
        listener,
    )
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
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} (--host, --port): {error.strerror}; port 0 takes a free one"
        ) from None


class _Server(uvicorn.Server):
    """Says when it is ready, and where."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        host, port = listener.getsockname()[:2]
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        print(f"{self._url} ready", flush=True)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal that comes before, or after, uvicorn listens to it."""
        self.should_exit = True
