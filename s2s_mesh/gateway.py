"""The door for services that are not Python: a front proxy asks here about each request (`forward_auth`).

It holds no rule of its own: `forward_auth` says which request is meant, `Inbound.admit` decides.
"""

from __future__ import annotations

import logging
import uuid
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from .doors import log_refusal, warn_of_sunset
from .drivers import drive_async
from .errors import Forbidden
from .forward_auth import REQUEST_ID, VERIFY, check_front, identity_fields, original
from .inbound import Admitted, RequestFacts
from .refusal import Refusal
from .service import Service

log: logging.Logger = logging.getLogger("s2s_mesh.access")
_VERIFY = VERIFY.encode()
_NO_STORE = {"cache-control": "no-store"}


class Gateway:
    """Answers a front proxy at `/verify`, and everybody at `/.well-known/*`, `/healthz` and `/readyz`.

    Args:
        service: decides, and is published; its `public_paths` are those of the application.
        front: which proxy asks: one of `forward_auth.FRONTS`.
        metrics: answers `/metrics`; None for nothing there.

    Raises:
        ConfigError: no such front.
    """

    def __init__(self, service: Service, *, front: str, metrics: ASGIApp | None = None) -> None:
        self._service = service
        self._front = check_front(front)
        self._metrics = metrics
        # a redirect to the path without a slash would be made of the Host header
        self._others = Router(
            [
                *service.root_routes,
                *service.routes,
                Route("/healthz", _alive),
                Route("/readyz", self._ready),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, for HTTP only; whoever runs it starts and ends the service."""
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        app: ASGIApp = self._others
        # "/verify*" too: what Envoy puts behind its prefix need not begin with a slash
        if raw_path.startswith(_VERIFY):
            app = await self._verify(scope, raw_path)
        elif self._metrics is not None and raw_path == b"/metrics":
            app = self._metrics
        await app(scope, receive, send)

    async def _verify(self, scope: Scope, raw_path: bytes) -> Response:
        now = self._service.clock()
        runtime = self._service.awake(now)
        try:
            asked = original(
                self._front,
                headers=scope["headers"],
                method=scope["method"],
                raw_path=raw_path,
                query=scope.get("query_string", b""),
                public_paths=self._service.public_paths,
            )
        except Forbidden as why:
            return _refused(scope["method"], raw_path, runtime.inbound.refused(why))
        outcome = runtime.inbound.admit(asked, now)
        if not isinstance(outcome, (Admitted, Refusal)):
            outcome = await drive_async(outcome, runtime, self._service.clock)
        if isinstance(outcome, Refusal):
            return _refused(asked.method, asked.raw_path, outcome)
        return _admitted(asked, outcome)

    async def _ready(self, _request: Request) -> Response:
        if self._service.ready:
            return PlainTextResponse("ready\n", headers=_NO_STORE)
        return PlainTextResponse("not ready\n", status_code=503, headers={**_NO_STORE, "retry-after": "1"})


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("alive\n", headers=_NO_STORE)


def _admitted(asked: RequestFacts, outcome: Admitted) -> Response:
    principal, path = outcome.principal, _decoded(asked.raw_path)
    request_id = str(uuid.uuid4())
    caller = "an anonymous caller" if principal is None else principal.issuer
    log.info("admitted %s %s: %s [request %s]", asked.method, quote(path), caller, request_id)
    headers = {**_NO_STORE, REQUEST_ID: request_id, **dict(identity_fields(principal))}
    if outcome.sunset is not None and principal is not None:
        headers["sunset"] = warn_of_sunset(asked.method, path, principal, outcome.sunset)
    return Response(headers=headers)


def _refused(method: str, raw_path: bytes, refusal: Refusal) -> Response:
    log_refusal(method, _decoded(raw_path), refusal)
    answer = Response(refusal.body, status_code=refusal.status)
    # as a list: there may be several challenges
    headers = [*refusal.headers, (REQUEST_ID, refusal.request_id)]
    answer.raw_headers = [(name.encode(), value.encode()) for name, value in headers]
    return answer


def _decoded(raw_path: bytes) -> str:
    return unquote_to_bytes(raw_path).decode("utf-8", "replace")
