"""What says which certificate a client has, at every door: stripped where no proxy wrote it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import httpx
import litestar
import pytest
from aiohttp import web
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, JsonResponse
from litestar.config.cors import CORSConfig

from s2s_mesh import Service
from s2s_mesh.integrations import aiohttp as aiohttp_door
from s2s_mesh.integrations import django as django_door
from s2s_mesh.integrations import grpc as grpc_door
from s2s_mesh.integrations import grpc_calls
from s2s_mesh.integrations import wsgi as wsgi_door
from s2s_mesh.integrations.litestar import Protect as LitestarDoor

from . import stands_wsgi
from .certifying import bound, client
from .servers import free_port
from .stands import LOG, Stand, in_thread, service_of, with_log
from .tokens import EDGE, good

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

XFCC = b"x-forwarded-client-cert"
US, THIEF = client(), client("thief")
PROXY, STRANGER = ["127.0.0.1"], ["10.0.0.0/8"]
Lines = Sequence[tuple[bytes, bytes]]


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[None]:
    with with_log():
        yield


def shown(pairs: Any) -> dict[str, Any]:
    """What the application sees of certificates."""
    seen = {str(name).lower().replace("_", "-"): value for name, value in pairs}
    return {"fields": {name: value for name, value in seen.items() if "client" in name}}


@contextmanager
def in_aiohttp(
    service: Service, socket: Path | None = None, around: web.Application | None = None
) -> Iterator[int]:
    """On a port, or on a socket in a file; alone, or under `/inner` of another application."""
    loop, port = asyncio.new_event_loop(), free_port()

    async def read(request: web.Request) -> web.Response:
        body = await request.read()
        return web.json_response(
            {**shown(request.headers.items()), "size": len(body), "path": request.match_info["card"]}
        )

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/cards/{card}", read)
        aiohttp_door.protect(app, service)
        if around is not None:
            around.add_subapp("/inner", app)
        runner = web.AppRunner(app if around is None else around)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port) if socket is None else web.UnixSite(runner, socket)
        await site.start()
        return runner

    runner = loop.run_until_complete(start())
    with in_thread(loop.run_forever, lambda: loop.call_soon_threadsafe(loop.stop)):
        yield port
    loop.run_until_complete(runner.cleanup())
    loop.close()


@contextmanager
def in_wsgi(service: Service) -> Iterator[int]:
    def read(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("content-type", "application/json")])
        pairs = [(name[5:], value) for name, value in environ.items() if name.startswith("HTTP_")]
        return [json.dumps(shown(pairs)).encode()]

    with stands_wsgi.on_werkzeug(wsgi_door.protect(read, service)) as port:
        yield port


DOORS: dict[str, Callable[[Service], Any]] = {"aiohttp": in_aiohttp, "WSGI": in_wsgi}
OTHERS: Lines = [(b"client-cert", US.client_cert), (b"client-cert-chain", b":AA==:")]


@pytest.mark.hostile
@pytest.mark.parametrize("name", DOORS)
def test_no_certificate_of_a_stranger_reaches_the_application(name: str, tmp_path: Path) -> None:
    """Not once, not twice, not malformed; the rest of the request is as it was sent."""
    service = service_of(tmp_path, client_certificate_header=XFCC.decode(), trusted_proxies=STRANGER)
    with service, DOORS[name](service) as port:
        stand = Stand(name, port)
        for lines in (
            [(XFCC, US.xfcc)],
            [(XFCC, US.xfcc)] * 2,
            [(XFCC, b"x"), (b"x-odd", b"\xff\xfe")],
            OTHERS,
        ):
            got = stand.call("cards/7", good(), headers=lines, method="PUT")
            assert (got.status, got.body["fields"]) == (200, {})
            assert got.body.get("path", "7") == "7"
            assert stand.call("cards/7", bound(), headers=lines).reason == "proof_missing"
        lines = [(XFCC, US.xfcc), (b"x-client-name", sent := "Zo\xeb".encode())]
        seen = stand.call("cards/7", good(), headers=lines).body["fields"]["x-client-name"]
        assert seen.encode("utf-8" if name == "aiohttp" else "latin-1") == sent  # each in its own way


@pytest.mark.parametrize("name", DOORS)
def test_what_our_proxy_wrote_reaches_it(name: str, tmp_path: Path) -> None:
    """That field and no other, and the bound token is good."""
    service = service_of(tmp_path, client_certificate_header=XFCC.decode(), trusted_proxies=PROXY)
    with service, DOORS[name](service) as port:
        stand = Stand(name, port)
        got = stand.call("cards/7", bound(), headers=[(XFCC, US.xfcc), *OTHERS])
        assert (got.status, got.body["fields"]) == (200, {XFCC.decode(): US.xfcc.decode()})
        assert stand.call("cards/7", bound(), headers=[(XFCC, THIEF.xfcc)]).reason == "proof_mismatch"
        for badly in ([(XFCC, US.xfcc)] * 2, [(XFCC, b"x")]):
            assert (got := stand.call("cards/7", good(), headers=badly)).status == 400
            assert got.reason == "certificate_field"
        posing = [(XFCC, US.xfcc), (b"x-forwarded-for", b"127.0.0.1")]
        assert stand.call("cards/7", bound(), headers=posing).reason == "proof_missing"
        assert stand.call("cards/7", good(), headers=posing).body["fields"] == {}


@pytest.mark.hostile
def test_what_cannot_be_taken_out_any_more_is_refused(tmp_path: Path) -> None:
    """Of aiohttp's requests, whose content an application further out has read."""

    @web.middleware
    async def reading(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        response: web.StreamResponse = await handler(request)
        return response

    service = service_of(
        tmp_path, prefix="/inner/", client_certificate_header=XFCC.decode(), trusted_proxies=STRANGER
    )
    with (
        service,
        in_aiohttp(service, around=web.Application(middlewares=[reading])) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        fields = [(b"authorization", b"Bearer " + good())]
        assert http.put("/inner/cards/7", headers=fields, content=b"x").json()["size"] == 1
        assert http.put("/inner/cards/7", headers=[*fields, (XFCC, US.xfcc)]).json()["fields"] == {}
        got = http.put("/inner/cards/7", headers=[*fields, (XFCC, US.xfcc)], content=b"x")
        assert got.status_code == 400
        assert LOG.reason(got.json()["instance"]) == "certificate_field"


@pytest.mark.hostile
def test_over_a_unix_socket_there_is_no_proxy(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its peers have no address, whatever they say."""
    service = service_of(tmp_path, client_certificate_header=XFCC.decode(), trusted_proxies=PROXY)
    socket = tmp_path_factory.mktemp("s") / "s"
    with service, in_aiohttp(service, socket):
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://wallets") as http:
            for token, status in ((good(), 200), (bound(), 401)):
                fields = [(b"authorization", b"Bearer " + token), (XFCC, US.xfcc)]
                got = http.put("/cards/7", headers=fields)
                assert got.status_code == status
                assert got.json().get("fields", {}) == {}


def django_requests(peer: str, token: bytes) -> list[HttpRequest]:
    """The same request, as it comes over WSGI and over ASGI."""
    bearer = b"Bearer " + token
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/read",
        "REMOTE_ADDR": peer,
        "HTTP_AUTHORIZATION": bearer.decode(),
        "HTTP_X_FORWARDED_CLIENT_CERT": US.xfcc.decode(),
        "HTTP_CLIENT_CERT": "x",
        "wsgi.input": io.BytesIO(),
    }
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/read",
        "query_string": b"",
        "client": (peer, 5),
        "headers": [(b"authorization", bearer), (XFCC, US.xfcc), (b"client-cert", b"x")],
    }
    return [WSGIRequest(environ), ASGIRequest(scope, None)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "token", "wanted"),
    [
        ("127.0.0.1", bound(), {XFCC.decode(): US.xfcc.decode()}),
        ("192.0.2.1", good(), {}),
        ("192.0.2.1", bound(), 401),
        ("127.0.0.1", bound(THIEF.thumbprint), 401),
    ],
)
def test_in_django(tmp_path: Path, peer: str, token: bytes, wanted: Any) -> None:
    """Under WSGI and ASGI, in `request.headers` and `request.META` alike, whoever looked before."""
    service = service_of(tmp_path, client_certificate_header=XFCC.decode(), trusted_proxies=PROXY)
    stands_wsgi.configure(service)

    def view(request: HttpRequest) -> JsonResponse:
        meta = [(name[5:], value) for name, value in request.META.items() if name.startswith("HTTP_")]
        assert shown(meta) == shown(request.headers.items())
        if isinstance(request, ASGIRequest):
            assert {name for name, _ in request.scope["headers"] if b"client" in name} == {
                name.encode() for name in shown(meta)["fields"]
            }
        return JsonResponse({**shown(meta), "caller": request.principal.issuer})  # type: ignore[attr-defined]

    with service:
        for request in django_requests(peer, token):
            assert request.headers["client-cert"] == "x"  # as an outer middleware reads it
            answer = django_door.protect(view)(request)
            if wanted == 401:
                assert answer.status_code == 401
            else:
                assert json.loads(answer.content) == {"fields": wanted, "caller": EDGE}


def test_in_litestar(tmp_path: Path) -> None:
    """Which keeps the header fields once its CORS asked for them, outside of every middleware."""

    @litestar.get("/read")
    async def read(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
        return shown(request.headers.items())

    async def seen(peer: str) -> Any:
        transport = httpx.ASGITransport(app=app, client=(peer, 5))  # type: ignore[arg-type]
        fields = [(b"authorization", b"Bearer " + good()), (b"origin", b"https://page.example")]
        async with httpx.AsyncClient(transport=transport, base_url="http://wallets") as http:
            got = await http.get("/read", headers=[*fields, (XFCC, US.xfcc), *OTHERS])
        return got.json()["fields"]

    service = service_of(tmp_path, client_certificate_header=XFCC.decode(), trusted_proxies=PROXY)
    cors = CORSConfig(allow_origins=["https://page.example"])
    with service:
        app = litestar.Litestar([read], plugins=[LitestarDoor(service)], cors_config=cors)
        assert asyncio.run(seen("192.0.2.1")) == {}
        assert asyncio.run(seen("127.0.0.1")) == {XFCC.decode(): US.xfcc.decode()}


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:50412", "10.0.0.1"),
        ("ipv6:%5B::1%5D:50412", "::1"),
        ("ipv6:[fd00::7]:50412", "fd00::7"),
        ("unix:/run/socket", None),
        ("unix:10.0.0.1:1", None),
        ("", None),
    ],
)
def test_who_the_peer_of_a_grpc_call_is(peer: str, address: str | None) -> None:
    """As gRPC writes it."""

    class Context:
        def peer(self) -> str:
            return peer

        def auth_context(self) -> dict[str, Any]:
            return {}

    assert grpc_calls._peer_of(Context()) == (address, None)


def test_plain_functions_of_an_event_loop_server_stay_in_threads(tmp_path: Path) -> None:
    """Where the decision depends on who the peer is, too: the loop serves others meanwhile."""
    ran_in: list[threading.Thread] = []

    def read(_: bytes, context: Any) -> bytes:
        ran_in.append(threading.current_thread())
        return b"read"

    def watch(_: bytes, context: Any) -> Iterator[bytes]:
        ran_in.append(threading.current_thread())
        yield from (b"a", b"b")

    async def run() -> None:
        server = grpc.aio.server(interceptors=[grpc_door.AioInterceptor(service)])
        methods: dict[str, Any] = {
            "read": grpc.unary_unary_rpc_method_handler(read),
            "cards/watch": grpc.unary_stream_rpc_method_handler(watch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("wallets.Cards", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        fields = [("authorization", b"Bearer " + bound()), (XFCC.decode(), US.xfcc)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
            channel: Any = made
            ask, listen = (
                channel.unary_unary("/wallets.Cards/read"),
                channel.unary_stream("/wallets.Cards/cards/watch"),
            )
            assert await ask(b"", metadata=fields, timeout=30) == b"read"
            assert [message async for message in listen(b"", metadata=fields, timeout=30)] == [b"a", b"b"]
            for call in (ask(b"", metadata=fields[:1]), listen(b"", metadata=fields[:1])):
                assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        await server.stop(None)

    options: Any = {"client_certificate_header": XFCC.decode(), "trusted_proxies": PROXY}
    with service_of(tmp_path, prefix="/wallets.Cards/", methods=["POST"], **options) as service:
        asyncio.run(run())
    assert len(ran_in) == 2
    assert threading.main_thread() not in ran_in
