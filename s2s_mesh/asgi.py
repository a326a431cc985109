"""Inbound: a pure ASGI middleware for HTTP requests and websocket handshakes. It holds no rule of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import quote

from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .claims import check_scopes
from .context import SERVING, serving
from .drivers import drive_async
from .errors import ConfigError, Forbidden, Reason
from .identity import Principal
from .inbound import Admitted, RequestFacts
from .refusal import Refusal
from .runtime import Runtime
from .wellknown import DOCUMENTS, Answer, WellKnown

log = logging.getLogger("s2s_mesh.access")
_MARK = "s2s_mesh.service"


class Door(Protocol):
    """What the middleware needs of a `Service`."""

    @property
    def well_known(self) -> WellKnown | None:
        """Our own documents; None for a service that only verifies."""

    @property
    def public_paths(self) -> frozenset[str]:
        """Exact paths that also let anonymous callers in."""

    @property
    def clock(self) -> Callable[[], float]:
        """Unix seconds."""

    def awake(self, now: float) -> Runtime:
        """The living parts in this process, started or woken if need be."""


class GrantedScopes(tuple[str, ...]):
    """The scopes of a request; tells the credentials the first one that was asked for and is missing."""

    credentials: MeshCredentials

    def __contains__(self, scope: object) -> bool:
        if super().__contains__(scope):
            return True
        if self.credentials.missing is None:
            self.credentials.missing = str(scope)
        return False


class MeshCredentials(AuthCredentials):
    """`request.auth`; Starlette's `@requires` reads its `scopes`.

    Attributes:
        principal: the caller, or None.
        missing: the first scope that was asked for and is missing, or None.
        replaced: whether the application's answer was replaced by ours for that.
    """

    # of the class until they change: most requests never ask
    missing: str | None = None
    replaced = False
    _scopes: Any = None

    def __init__(self, principal: Principal | None) -> None:
        self.principal = principal

    @property
    def scopes(self) -> Any:  # type: ignore[override]
        """Made when first asked for. Starlette says list, which would not remember what was asked for."""
        if self._scopes is None:
            self._scopes = GrantedScopes(() if self.principal is None else self.principal.scopes)
            self._scopes.credentials = self
        return self._scopes


def require(*scopes: str) -> Callable[[HTTPConnection], Principal]:
    """Make a dependency that returns the caller and refuses one without these scopes.

    For FastAPI: `caller: Annotated[Principal, Depends(require("cards:write"))]`. Starlette's own
    `@requires("cards:write")` does the same for endpoints that take a request.

    Args:
        scopes: all of them are needed; none means any caller that is known.

    Raises:
        ConfigError: something that is no scope (RFC 6749 section 3.3).
    """
    wanted = sorted(check_scopes(scopes)) if scopes else []

    def caller(connection: HTTPConnection) -> Principal:
        principal = connection.user
        if not isinstance(principal, Principal):
            raise HTTPException(401, headers={"www-authenticate": "Bearer"})
        # asking for it lets the middleware say in the 403 which scope it is
        if any(scope not in connection.auth.scopes for scope in wanted):
            raise HTTPException(403)
        return principal

    return caller


class MeshMiddleware:
    """Lets a request through with `scope["user"]` and `scope["auth"]` set, or refuses it.

    Args:
        app: the ASGI application behind.
        service: decides.
        serve_well_known: also answer for our own documents, where `app` has no routes for them.
    """

    def __init__(self, app: ASGIApp, service: Door, *, serve_well_known: bool = False) -> None:
        self.app = app
        self._service = service
        self._serve_well_known = serve_well_known
        self._public_paths = service.public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if _MARK in scope:
            raise ConfigError(
                "this request already passed an s2s_mesh middleware: one per request path; use it on the "
                "outer application or on the mounted one, not on both"
            )
        scope[_MARK] = True
        if kind == "http" and "/.well-known/" in scope["path"]:
            document = self._document(scope)
            if document is not None:
                await self._well_known(document, scope, receive, send)
                return
        now = self._service.clock()
        runtime = self._service.awake(now)
        outcome = runtime.inbound.admit(self._facts(scope), now)
        if not isinstance(outcome, Admitted):
            if not isinstance(outcome, Refusal):
                outcome = await drive_async(outcome, runtime, self._service.clock)
            if isinstance(outcome, Refusal):
                log_refusal(scope.get("method", "WEBSOCKET"), scope["path"], outcome)
                await _refuse(kind, scope, send, outcome)
                return
        principal = outcome.principal
        if outcome.sunset is not None and principal is not None:
            send = _with_sunset(scope, send, principal, outcome.sunset)
        scope["user"] = UnauthenticatedUser() if principal is None else principal
        scope["auth"] = credentials = MeshCredentials(principal)

        def send_unless_403(message: Message) -> Awaitable[None]:
            # no coroutine of its own, which would cost one more for each message
            if credentials.missing is None or kind != "http":
                return send(message)
            return self._send_full_403(message, scope, send, credentials, runtime)

        user = None if outcome.principal is None else outcome.principal.user
        if user is None and SERVING.get() is None:
            await self.app(scope, receive, send_unless_403)
            return
        # also for none: called in the process of another request, this one must not show that one's user
        with serving(self._service, user):
            await self.app(scope, receive, send_unless_403)

    async def _send_full_403(
        self, message: Message, scope: Scope, send: Send, credentials: MeshCredentials, runtime: Runtime
    ) -> None:
        """Starlette's `@requires` answers a bare 403; ours names the scope and is logged."""
        if credentials.replaced:
            return
        if message["type"] != "http.response.start" or message["status"] != 403:
            await send(message)
            return
        credentials.replaced = True
        caller = None if credentials.principal is None else credentials.principal.issuer
        missing = Forbidden(
            Reason.MISSING_SCOPE,
            f"{caller or 'anonymous'} lacks {credentials.missing}",
            scope=credentials.missing,
        )
        refusal = runtime.inbound.forbidden(missing, caller=caller)
        log_refusal(scope["method"], scope["path"], refusal)
        await _refuse("http", scope, send, refusal)

    def _document(self, scope: Scope) -> str | None:
        """Which of our own documents is asked for; they are public whatever credentials come along."""
        well_known = self._service.well_known
        if well_known is None or scope["method"] not in ("GET", "HEAD"):
            return None
        path = _route_path(scope)
        return path if path in DOCUMENTS else well_known.absolute_paths.get(path)

    async def _well_known(self, document: str, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._serve_well_known:
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"if-none-match")
        answer = answer_document(
            self._service, document, scope["method"], None if given is None else given.decode("latin-1")
        )
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _facts(self, scope: Scope) -> RequestFacts:
        return RequestFacts(
            headers=scope["headers"],
            method=scope.get("method", "GET"),  # a websocket handshake is a GET
            raw_path=scope.get("raw_path") or quote(scope["path"]).encode(),
            query=scope.get("query_string", b""),
            public=bool(self._public_paths) and _route_path(scope) in self._public_paths,
        )


def answer_document(service: Door, document: str, method: str, if_none_match: str | None) -> Answer:
    """Answer for one of our own documents from the ring in memory; wakes the housekeeper if there is none."""
    well_known, now = service.well_known, service.clock()
    assert well_known is not None  # noqa: S101 - only services with keys have these routes
    runtime = service.awake(now)
    return well_known.answer(document, runtime.ring, now, method=method, if_none_match=if_none_match)


def _with_sunset(scope: Scope, send: Send, principal: Principal, ends_at: float) -> Send:
    """Tell the caller, and the log, when its old credential ends."""
    sunset = warn_of_sunset(scope.get("method", "WEBSOCKET"), scope["path"], principal, ends_at)

    async def send_with_sunset(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers = [*message.get("headers", ()), (b"sunset", sunset.encode())]
            message = {**message, "headers": headers}
        await send(message)

    return send_with_sunset


def warn_of_sunset(method: str, path: str, principal: Principal, ends_at: float) -> str:
    """Log that an old credential was used, and return what Sunset says of its end (RFC 8594 section 3).

    No Deprecation field (RFC 9745): its value is the day on which that began, which no [[legacy]] row says.

    Args:
        method, path: of the request; the path decoded.
        principal: who used it.
        ends_at: Unix seconds.
    """
    sunset = formatdate(ends_at, usegmt=True)
    log.warning(
        "%s used an old credential, which ends at %s: %s %s",
        principal.issuer,
        sunset,
        method,
        quote(path),
    )
    return sunset


def _route_path(scope: Scope) -> str:
    """The path below `root_path`, as Starlette's router sees it."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    below = path.removeprefix(root_path)
    return below if below.startswith("/") else path


async def _refuse(kind: str, scope: Scope, send: Send, refusal: Refusal) -> None:
    prefix = "http.response"
    if kind == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        prefix = "websocket.http.response"
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    await send({"type": f"{prefix}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": refusal.body})


def log_refusal(method: str, path: str, refusal: Refusal) -> None:
    """Tell the operator why; the caller has the request id only. `path` is decoded."""
    facts: dict[str, Any] = {
        "reason": refusal.reason.value,
        "status": refusal.status,
        "claimed_issuer": refusal.claimed_issuer,
        "request_id": refusal.request_id,
    }
    # nobody who merely knocks without a credential should fill the log
    level = logging.INFO if refusal.reason is Reason.NO_CREDENTIAL else logging.WARNING
    log.log(
        level,
        "refused %s %s: %s: %s [claimed issuer %s, request %s]",
        method,
        quote(path),
        refusal.reason.value,
        refusal.detail,
        refusal.claimed_issuer,
        refusal.request_id,
        extra={"s2s_mesh": facts},
    )
