"""The ASGI middleware: HTTP, websockets, mounts, public paths, and Starlette's own decorator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocket

from s2s_mesh import ConfigError, Principal, Service
from s2s_mesh.asgi import MeshCredentials
from s2s_mesh.errors import Reason

from .receiver import Receiver, read
from .tokens import EDGE, WALLETS, frozen, good, key

GOOD = good()
AUTHORIZED = [(b"authorization", b"Bearer " + GOOD)]


def ask(
    app: ASGIApp, path: str, *, token: bytes | None = GOOD, method: str = "GET", root_path: str = ""
) -> httpx.Response:
    """One request to an application, without a server."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url=WALLETS) as http:
            headers = {} if token is None else {"authorization": f"Bearer {token.decode()}"}
            return await http.request(method, path, headers=headers)

    return asyncio.run(run())


async def handshake(
    app: ASGIApp, *, headers: list[tuple[bytes, bytes]], extensions: dict[str, Any] | None = None
) -> list[Message]:
    """Open a websocket by hand and return all that the application sent."""
    sent: list[Message] = []
    incoming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/ws",
        "raw_path": b"/ws",
        "query_string": b"",
        "headers": headers,
        "extensions": extensions or {},
        "subprotocols": [],
    }
    await app(scope, receive, send)
    return sent


def test_starlettes_own_decorator_gets_our_full_403(receiver: Receiver) -> None:
    """`@requires` refuses with the challenge that names the scope, no-store, and a logged reason."""
    assert receiver.call(GOOD, method="PUT", path="/write").body == {"caller": EDGE}
    verdict = receiver.call(good(scope="cards:read"), method="PUT", path="/write")
    assert (verdict.status, verdict.reason) == (403, Reason.MISSING_SCOPE.value)
    assert verdict.headers["www-authenticate"].endswith('error="insufficient_scope", scope="cards:write"')
    assert verdict.headers["cache-control"] == "no-store"
    assert verdict.headers["content-type"] == "application/problem+json"


def test_the_first_missing_of_several_scopes_is_named(receiver: Receiver) -> None:
    """`@requires([has, has not])` names the one that is missing."""
    verdict = receiver.call(GOOD, path="/admin")
    assert verdict.headers["www-authenticate"].endswith('scope="cards:admin"')


def test_the_applications_own_403_is_left_alone(receiver: Receiver) -> None:
    """A 403 that has nothing to do with scopes passes unchanged."""
    verdict = receiver.call(GOOD, path="/forbidden-by-app")
    assert (verdict.status, verdict.body, verdict.reason) == (403, {"own": True}, None)


def test_an_application_may_look_for_a_scope_and_go_on_without_it(receiver: Receiver) -> None:
    """Only a 403 is completed; any other answer passes, whatever scope was looked for."""

    async def look(request: Request) -> JSONResponse:
        return JSONResponse({"admin": "cards:admin" in request.auth.scopes})

    app = Starlette(routes=[Route("/", look)], middleware=[receiver.service.middleware])
    assert ask(app, "/").json() == {"admin": False}


def test_granted_scopes_are_a_tuple_and_the_first_miss_is_remembered() -> None:
    """What `request.auth` and its `scopes` are."""
    caller = Principal(
        issuer=EDGE,
        subject=EDGE,
        audience=EDGE,
        scopes=frozenset({"a", "b"}),
        kid="k",
        expires_at=0,
        claims={},
    )
    credentials = MeshCredentials(caller)
    scopes = credentials.scopes
    assert isinstance(scopes, tuple)
    assert "a" in scopes
    assert credentials.missing is None
    assert "c" not in scopes
    assert "d" not in scopes
    assert [credentials.missing, *sorted(scopes)] == ["c", "a", "b"]
    assert MeshCredentials(None).scopes == ()


def test_a_streamed_answer_passes_unchanged(receiver: Receiver) -> None:
    """Every message of the application reaches the server in order."""

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b", b"c"]))

    app = Starlette(routes=[Route("/", stream)], middleware=[receiver.service.middleware])
    assert ask(app, "/").content == b"abc"


@pytest.mark.parametrize(
    ("token", "path", "status", "caller"),
    [
        pytest.param(GOOD, "/open", 200, EDGE, id="public path, good token"),
        pytest.param(None, "/open", 200, None, id="public path, no token"),
        pytest.param(b"a.b.c", "/open", 401, None, id="public path, bad token"),
        pytest.param(None, "/read", 401, None, id="other path, no token"),
        pytest.param(None, "/open/", 401, None, id="not exactly the public path"),
        pytest.param(None, "/open/x", 401, None, id="below the public path"),
        pytest.param(None, "//open", 401, None, id="another spelling"),
        pytest.param(None, "/write-open", 403, None, id="public path behind @requires"),
    ],
)
def test_a_public_path_lets_anonymous_callers_in_and_bad_credentials_out(
    tmp_path: Path, token: bytes | None, path: str, status: int, caller: str | None
) -> None:
    """Present but invalid is refused everywhere; anonymous users have no scopes at all."""

    @requires("cards:write")
    async def needs_scope(request: Request) -> JSONResponse:
        raise AssertionError("an anonymous caller has no scope")

    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], public_paths=["/open", "/write-open"])
        routes = [Route("/open", read), Route("/read", read), Route("/write-open", needs_scope)]
        app = Starlette(routes=routes, middleware=[receiver.service.middleware])
        answer = ask(app, f"{WALLETS}{path}", token=token)
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["caller"] == caller
        receiver.close()


def test_a_public_path_is_meant_below_root_path(tmp_path: Path) -> None:
    """Behind a proxy prefix the application's own paths are what counts."""
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], public_paths=["/open"])
        app = Starlette(routes=[Route("/open", read)], middleware=[receiver.service.middleware])
        assert ask(app, f"{WALLETS}/prefix/open", token=None, root_path="/prefix").status_code == 200
        assert ask(app, f"{WALLETS}/prefix/open", token=None).status_code == 401
        receiver.close()


def test_the_application_never_sees_identity_that_the_client_sent(receiver: Receiver) -> None:
    """`request.user` comes from the token, whatever headers say (row 72)."""
    spoofed = [(b"x-caller", b"https://admin.example.com"), (b"x-user", b"root")]
    assert receiver.call(GOOD, headers=spoofed).body["caller"] == EDGE


# -- websockets -----------------------------------------------------------------------------------------


def websocket_app(service: Service) -> Starlette:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.user.issuer)
        await websocket.close()

    return Starlette(routes=[WebSocketRoute("/ws", echo)], middleware=[service.middleware])


def test_a_websocket_handshake_needs_a_token_like_any_request(receiver: Receiver) -> None:
    """With a good token the application runs and knows the caller; without one it is never reached."""
    app = websocket_app(receiver.service)
    admitted = asyncio.run(handshake(app, headers=AUTHORIZED))
    assert [message["type"] for message in admitted] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert admitted[1]["text"] == EDGE
    refused = asyncio.run(handshake(app, headers=[]))
    assert refused == [{"type": "websocket.close", "code": 1008, "reason": ""}]


def test_a_refused_websocket_gets_the_full_answer_where_the_server_can_send_it(receiver: Receiver) -> None:
    """The ASGI extension `websocket.http.response` carries status, challenge and body."""
    sent = asyncio.run(
        handshake(websocket_app(receiver.service), headers=[], extensions={"websocket.http.response": {}})
    )
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == 401
    assert (b"www-authenticate", f'Bearer realm="{WALLETS}"'.encode()) in sent[0]["headers"]


def test_the_deny_rules_of_routes_hold_for_websockets_as_get(receiver: Receiver) -> None:
    """A handshake is a GET; a bad token is refused before the application."""
    sent = asyncio.run(
        handshake(websocket_app(receiver.service), headers=[(b"authorization", b"Bearer a.b.c")])
    )
    assert [message["type"] for message in sent] == ["websocket.close"]


# -- mounts ---------------------------------------------------------------------------------------------


def plain(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("plain")


def test_a_second_middleware_on_one_request_path_is_a_configuration_error(receiver: Receiver) -> None:
    """Two answers to one question would mask each other."""
    inner = Starlette(routes=[Route("/", plain)], middleware=[receiver.service.middleware])
    outer = Starlette(routes=[Mount("/inner", inner)], middleware=[receiver.service.middleware])
    with pytest.raises(ConfigError, match="one per request path"):
        ask(outer, "/inner/")


def test_sibling_mounts_may_have_a_middleware_each(receiver: Receiver) -> None:
    """Two protected sub-applications beside an open one."""
    protected = Starlette(routes=[Route("/", plain)], middleware=[receiver.service.middleware])
    app = Starlette(
        routes=[
            Mount("/a", protected),
            Mount("/b", app=protected),
            Mount("/open", routes=[Route("/", plain)]),
        ]
    )
    assert ask(app, "/a/").status_code == 200
    assert ask(app, "/b/").status_code == 200
    assert ask(app, "/a/", token=None).status_code == 401
    assert ask(app, "/open/", token=None).status_code == 200


def test_what_is_neither_http_nor_websocket_passes(receiver: Receiver) -> None:
    """Lifespan messages go to the application untouched."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(receiver.service.wrap(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    middleware = receiver.service.middleware
    protected: Any = middleware.cls(app, *middleware.args, **middleware.kwargs)
    asyncio.run(protected({"type": "lifespan"}, None, None))
    assert seen == ["lifespan", "lifespan"]


def test_a_server_that_sends_no_raw_path_is_no_way_around_the_rules(tmp_path: Path) -> None:
    """Without `raw_path` the decoded path is judged, encoded again."""
    rule = f'[[route]]\naudience = "{WALLETS}"\npath = "/a b"\nmethods = ["GET"]\n'
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], trust=rule)
        app = Starlette(
            routes=[Route("/a b", plain), Route("/c", plain)], middleware=[receiver.service.middleware]
        )

        async def without_raw_path(scope: Any, receive: Any, send: Any) -> None:
            await app({name: value for name, value in scope.items() if name != "raw_path"}, receive, send)

        assert ask(without_raw_path, "/a%20b").status_code == 200
        assert ask(without_raw_path, "/c").status_code == 403
        receiver.close()
