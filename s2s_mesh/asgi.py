"""Inbound: a pure ASGI middleware for HTTP requests and websocket handshakes. It holds no rule of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .certificates import Peer, ProxyField
from .context import SERVING, serving
from .doors import (
    MARK,
    TWICE,
    Door,
    answer_document,
    document_at,
    log_refusal,
    missing_scope,
    nobody,
    wanted_scopes,
    warn_of_sunset,
)
from .drivers import drive_async
from .errors import ConfigError
from .identity import Principal
from .inbound import Admitted, RequestFacts
from .refusal import Refusal


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
        missing: the first scope that was asked for and is missing, or None; empty where no more was asked
            for than a caller that is known.
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
    wanted = wanted_scopes(scopes)

    def caller(connection: HTTPConnection) -> Principal:
        principal = connection.user
        if not isinstance(principal, Principal):
            connection.auth.missing = ""
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
        self._proxies = service.proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if MARK in scope:
            raise ConfigError(TWICE)
        scope[MARK] = True
        if self._proxies is not None:
            strip(scope, self._proxies)
        if kind == "http" and "/.well-known/" in scope["path"]:
            document = document_at(self._service, scope["method"], _route_path(scope))
            if document is not None:
                await self._well_known(document, scope, receive, send)
                return
        now = self._service.clock()
        runtime = self._service.awake(now)
        outcome = runtime.inbound.admit(
            facts_of(scope, public=bool(self._public_paths) and _route_path(scope) in self._public_paths), now
        )
        if not isinstance(outcome, Admitted):
            if not isinstance(outcome, Refusal):
                outcome = await drive_async(outcome, runtime, self._service.clock)
            if isinstance(outcome, Refusal):
                _log_refusal(scope, outcome)
                await _refuse(kind, scope, send, outcome)
                return
        principal = outcome.principal
        if outcome.sunset is not None and principal is not None:
            send = _with_sunset(scope, send, principal, outcome.sunset)
        scope["user"] = UnauthenticatedUser() if principal is None else principal
        scope["auth"] = credentials = MeshCredentials(principal)

        def send_unless_refused(message: Message) -> Awaitable[None]:
            # no coroutine of its own, which would cost one more for each message
            if credentials.missing is None or kind != "http":
                return send(message)
            return self._send_full_answer(message, scope, send, credentials)

        user = None if principal is None else principal.user
        if user is None and SERVING.get() is None:
            await self.app(scope, receive, send_unless_refused)
            return
        # also for none: called in the process of another request, this one must not show that one's user
        with serving(self._service, user):
            await self.app(scope, receive, send_unless_refused)

    async def _send_full_answer(
        self, message: Message, scope: Scope, send: Send, credentials: MeshCredentials
    ) -> None:
        """Starlette's `@requires` answers a bare 403; ours names the scope and is logged. So with our 401."""
        if credentials.replaced:
            return
        status = 403 if credentials.missing else 401
        if message["type"] != "http.response.start" or message["status"] != status:
            await send(message)
            return
        credentials.replaced = True
        if credentials.missing:
            refusal = missing_scope(self._service, credentials.principal, credentials.missing)
        else:
            refusal = nobody(self._service)
        _log_refusal(scope, refusal)
        await _refuse("http", scope, send, refusal)

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


def facts_of(scope: Scope, *, public: bool) -> RequestFacts:
    """What a decision rests on; see `RequestFacts`."""
    return RequestFacts(
        headers=scope["headers"],
        method=scope.get("method", "GET"),  # a websocket handshake is a GET
        raw_path=scope.get("raw_path") or quote(scope["path"]).encode(),
        query=scope.get("query_string", b""),
        public=public,
        connection=scope,
        look=peer_of,
    )


def peer_of(scope: Scope) -> Peer:
    """Who is at the other end, as the server says: `client`, and the TLS extension of ASGI."""
    client, tls = scope.get("client"), (scope.get("extensions") or {}).get("tls") or {}
    chain = () if tls.get("client_cert_error") else tls.get("client_cert_chain") or ()
    first = next(iter(chain), None)
    return Peer(
        None if client is None else str(client[0]),
        None if first is None else str(first).encode("ascii", "replace"),
    )


def strip(scope: Scope, proxies: ProxyField) -> None:
    """Take out what says who presents a certificate, but for what a proxy of ours says."""
    scope["headers"] = proxies.without_foreign(scope["headers"], peer_of(scope).address)


def _with_sunset(scope: Scope, send: Send, principal: Principal, ends_at: float) -> Send:
    """Tell the caller, and the log, when its old credential ends."""
    sunset = warn_of_sunset(scope.get("method", "WEBSOCKET"), scope["path"], principal, ends_at)

    async def send_with_sunset(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers = [*message.get("headers", ()), (b"sunset", sunset.encode())]
            message = {**message, "headers": headers}
        await send(message)

    return send_with_sunset


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


def _log_refusal(scope: Scope, refusal: Refusal) -> None:
    log_refusal(scope.get("method", "WEBSOCKET"), scope["path"], refusal)
