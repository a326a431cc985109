"""The door for applications, in each situation that the house page names."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from s2s_mesh import (
    ConfigError,
    JWKSUnavailable,
    KeyStoreError,
    RotationSchedule,
    Service,
    StoreReason,
    TrustConfig,
)
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import b64url_decode
from s2s_mesh.wellknown import AUTHORIZATION_SERVER, JWKS, OPENID_CONFIGURATION

from .programs import Program, environment, http_server
from .servers import free_port, wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, frozen

EMPTY = TrustConfig(issuers={}, pairs={})
FAST = RotationSchedule.FAST_FOR_TESTS


def service(issuer: str = EDGE, **options: Any) -> Service:
    """A service whose ring is in memory."""
    return Service(**{"issuer": issuer, "trust": EMPTY, "key_store": "memory://", **options})


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("s2s-mesh")]


def get(app: Any, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=EDGE) as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(run())


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": True})


def app_of(made: Service, **options: Any) -> Starlette:
    return Starlette(routes=[*made.routes, Route("/", hello)], middleware=[made.middleware], **options)


# -- construction and life ------------------------------------------------------------------------------


def test_construction_opens_no_thread_socket_or_file(tmp_path: Path) -> None:
    """A service may be made at import time, before a server forks."""
    before = our_threads()
    made = service(key_store=f"file://{tmp_path}/ring", key_encryption_key="A" * 43)
    app_of(made, lifespan=made.lifespan)
    made.auth(WALLETS)
    service(key_store="redis://127.0.0.1:1/0", allow_unsealed_key_store=True)
    assert set(our_threads()) <= set(before)
    assert list(tmp_path.iterdir()) == []


def test_the_representation_shows_who_it_is_and_nothing_else() -> None:
    """No key store URL, no key-encryption key."""
    made = service(key_store="redis://:secret@127.0.0.1:1/0", key_encryption_key="A" * 43)
    assert repr(made) == f"Service(issuer='{EDGE}')"
    assert "secret" not in repr(made.settings)


def test_starting_is_counted_and_the_last_one_out_stops_it() -> None:
    """`with`, `async with` and `lifespan` may be nested in any order, and again afterwards."""
    made = service()

    async def nested() -> None:
        async with made.lifespan(None), made:
            assert made.ready

    for _ in range(2):
        with made:
            asyncio.run(nested())
            running = our_threads().count("s2s-mesh-housekeeper")
            assert made.ready
        # other tests of this process may have services of their own
        assert our_threads().count("s2s-mesh-housekeeper") < running


def test_first_use_starts_it_without_any_context() -> None:
    """A notebook calls `token` and nothing else."""
    made = service()
    assert made.token(WALLETS).count(".") == 2
    made.__exit__()


def test_a_lifespan_of_ones_own_composes_with_ours() -> None:
    """`async with service.lifespan(app):` inside the application's lifespan."""
    made = service()
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: Any) -> AsyncGenerator[None, None]:
        async with made.lifespan(app):
            seen.append("ready" if made.ready else "not ready")
            yield
            seen.append("stopping")

    async def run() -> None:
        async with app_of(made, lifespan=own).router.lifespan_context(None):
            pass

    asyncio.run(run())
    assert seen == ["ready", "stopping"]


def test_several_services_live_in_one_process() -> None:
    """Each has its own ring, and each refuses what is for the other."""
    edge, wallets = service(EDGE), service(WALLETS)
    with edge, wallets:
        assert edge.running().ring != wallets.running().ring
        assert get(app_of(edge), JWKS).content != get(app_of(wallets), JWKS).content


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_anew() -> None:
    """Pre-fork servers: the child has its own threads, and signs with the same ring from the same store."""
    read_end, write_end = os.pipe()
    made = service()
    parents = made.token(WALLETS)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        try:
            children = made.token(WALLETS)
            os.write(write_end, json.dumps([children, our_threads()]).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        token, threads = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert threads == ["s2s-mesh-housekeeper"]
    assert token != parents
    assert token.split(".")[0] == parents.split(".")[0]  # the same kid
    made.__exit__()


# -- our own documents ----------------------------------------------------------------------------------


def test_our_documents_are_public_whatever_credentials_come_along() -> None:
    """A bad token does not close the JWKS to anybody; any other method or path is protected."""
    made = service()
    with made:
        app = app_of(made)
        for path in (JWKS, OPENID_CONFIGURATION, AUTHORIZATION_SERVER):
            assert get(app, path, headers={"authorization": "Bearer a.b.c"}).status_code == 200
            assert get(app, path, method="HEAD").status_code == 200
            assert get(app, path, method="POST").status_code == 401
        for path in (JWKS + "/", "/x" + JWKS, "/.well-known/other", JWKS.upper()):
            assert get(app, path).status_code == 401


def test_the_jwks_is_what_verifies_our_tokens() -> None:
    """Sign, publish, verify: another service with only that document knows the caller."""
    made = service()
    with made:
        document = get(app_of(made), JWKS).content
        header = json.loads(_decoded(made.token(WALLETS).split(".")[0]))
        assert header["kid"] in JWKSet.parse(document).keys


def _decoded(segment: str) -> bytes:
    return b64url_decode(segment.encode())


def test_an_issuer_with_a_path_serves_below_it_and_at_the_root() -> None:
    """Routes relative to the issuer's path, and absolute ones with RFC 8414's host-root form."""
    made = service("https://example.com/edge")
    with made:
        mounted = Starlette(
            routes=[Mount("/edge", routes=made.routes), *made.root_routes], middleware=[made.middleware]
        )
        for path in ("/edge" + JWKS, "/edge" + OPENID_CONFIGURATION, AUTHORIZATION_SERVER + "/edge"):
            answer = get(mounted, path)
            assert answer.status_code == 200, path
        assert (
            get(mounted, "/edge" + OPENID_CONFIGURATION).json()["jwks_uri"]
            == f"https://example.com/edge{JWKS}"
        )


def test_wrap_protects_any_application_and_serves_for_it() -> None:
    """A bare ASGI callable gets protection, our documents, and a lifespan."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert made.ready
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})

    made = service()
    wrapped = made.wrap(bare)
    asyncio.run(wrapped({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    with made:
        first = get(wrapped, JWKS)
        assert first.status_code == 200
        assert get(wrapped, JWKS, headers={"if-none-match": first.headers["etag"]}).status_code == 304
        assert get(wrapped, "/").status_code == 401


def test_a_wrapped_app_has_ended_with_its_server() -> None:
    """The server waits for what is left to do: it hears that the application is down after the service."""
    made = service()
    with http_server(made.wrap(Starlette()), free_port()):
        assert made.look() is not None
    assert made.look() is None


def test_a_service_without_keys_verifies_and_serves_nothing() -> None:
    """`key_store=None`: no routes of its own, ready at once, and `token` says why not."""
    made = service(key_store=None)
    with made:
        assert (made.routes, made.root_routes) == ([], [])
        assert made.ready
        assert made.not_ready_reason is None
        assert get(app_of(made), JWKS).status_code == 401
        with pytest.raises(ConfigError, match="key_store=None"):
            made.token(WALLETS)


# -- a key store that cannot be used --------------------------------------------------------------------


def test_an_unreachable_store_leaves_it_running_not_ready_and_answering_503() -> None:
    """JWKS 503 with Retry-After, never an empty set; verification needs no keys of ours."""
    made = service(key_store="redis://127.0.0.1:1/0", allow_unsealed_key_store=True)
    app = app_of(made, lifespan=made.lifespan)
    with made:
        answer = get(app, JWKS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert b'"keys"' not in answer.content
        assert not made.ready
        assert made.not_ready_reason is not None
        assert get(app, "/").status_code == 401
        with pytest.raises(KeyStoreError) as failed:
            made.token(WALLETS)
        assert failed.value.reason is StoreReason.UNREACHABLE


def test_a_process_that_serves_no_routes_never_makes_the_first_ring(tmp_path: Path) -> None:
    """A cron job says what to start instead; once there is a ring it signs with a key that is old enough."""
    store = f"file://{tmp_path}/keys"
    job = service(key_store=store, allow_unsealed_key_store=True)
    with frozen() as clock, job:
        with pytest.raises(KeyStoreError, match="s2s-mesh keys init") as failed:
            job.token(WALLETS)
        assert failed.value.reason is StoreReason.NO_RING
        web = service(key_store=store, allow_unsealed_key_store=True)
        assert web.routes
        with web:
            web.token(WALLETS)
        with pytest.raises(KeyStoreError, match="in 30 s") as failed:
            job.token(WALLETS)
        assert failed.value.reason is StoreReason.NO_SIGNING_KEY
        clock.tick(31)
        assert job.token(WALLETS)


def test_token_asks_for_what_it_is_told_and_for_nobody_elses_audience() -> None:
    """Scopes are checked before signing; an identity provider is never an audience."""
    login = '[user_issuers."https://login.example.com/"]\naudiences = ["https://edge.example.com"]\n'
    trust = TrustConfig.parse(f'version = 1\n[[allow]]\nissuer = "{LEDGER}"\naudience = "{EDGE}"\n{login}')
    made = service(trust=trust)
    with made:
        for audience in ("wallets", "https://wallets.example.com/", "http://wallets.example.com"):
            with pytest.raises(ConfigError):
                made.token(audience)
        with pytest.raises(ConfigError, match="identity provider"):
            made.token("https://login.example.com")
        with pytest.raises(ConfigError):
            made.token(WALLETS, scopes="cards:read")
        assert made.token(WALLETS, scopes=["a"]) == made.token(WALLETS, scopes=("a",))
        assert made.token(WALLETS, scopes=["a"]) != made.token(WALLETS)


# -- together -------------------------------------------------------------------------------------------


def test_callers_whose_keys_cannot_be_had_get_503(tmp_path: Path) -> None:
    """JWKSUnavailable from `verify`, 503 with Retry-After through the door."""
    trust = TrustConfig.parse(
        "version = 1\n[defaults]\nallow_loopback_http = true\n"
        f'[[allow]]\nissuer = "http://127.0.0.1:1"\naudience = "{WALLETS}"\n'
    )
    caller = service("http://127.0.0.1:1", trust=trust)
    made = service(WALLETS, trust=trust)
    with caller, made:
        token = caller.token(WALLETS)
        with pytest.raises(JWKSUnavailable):
            made.verify(token)
        answer = get(app_of(made), "/", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_the_trust_file_is_reloaded_while_it_runs(tmp_path: Path) -> None:
    """A grant that is added holds within a second or two, without a restart."""
    path = tmp_path / "trust.toml"
    head = f'version = 1\n[issuers."{EDGE}"]\njwks_file = "edge.json"\n'
    path.write_text(f'{head}[[allow]]\nissuer = "{EDGE}"\naudience = "{LEDGER}"\n')
    edge = service(EDGE)
    wallets = service(WALLETS, trust=path, key_store=None)
    with edge, wallets:
        (tmp_path / "edge.json").write_bytes(get(app_of(edge), JWKS).content)
        token = edge.token(WALLETS)
        with pytest.raises(Exception, match="unknown_issuer"):
            wallets.verify(token)
        path.write_text(f'{head}[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n')
        wait_until(lambda: (EDGE, WALLETS) in wallets.running().verifier.trust.pairs, what="the new grant")
        assert wallets.verify(token).issuer == EDGE


SERVER = """
import os, sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from s2s_mesh import Service

service = Service.from_env()

async def pid(request):
    return JSONResponse({"pid": os.getpid()})

app = Starlette(routes=[*service.routes, Route("/pid", pid)],
                middleware=[service.middleware], lifespan=service.lifespan)
"""


def test_pre_forked_workers_hold_one_ring(tmp_path: Path) -> None:
    """uvicorn with two workers on an empty store: whichever answers, the JWKS is the same to the byte."""
    (tmp_path / "app.py").write_text(SERVER)
    (tmp_path / "trust.toml").write_text(
        f'version = 1\n[[allow]]\nissuer = "{LEDGER}"\naudience = "{EDGE}"\n'
    )
    variables = environment(
        S2S_MESH_ISSUER=EDGE,
        S2S_MESH_TRUST_FILE=str(tmp_path / "trust.toml"),
        S2S_MESH_KEY_STORE=f"file://{tmp_path}/keys",
        S2S_MESH_KEY_ENCRYPTION_KEY="A" * 43,
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}{JWKS}"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--workers", "2", "--port", str(port)]
    command += ["--timeout-worker-healthcheck", "60"]  # a worker that is only slow is not replaced
    with Program(command, variables, tmp_path).until_answering(url):
        documents = {answer.content for _ in range(40) if (answer := httpx.get(url)).status_code == 200}
    assert len(documents) == 1
    assert len(json.loads(documents.pop())["keys"]) == 2


def test_a_token_for_one_use_is_handed_out_to_nobody_else() -> None:
    """A route with `replay = "once"` would refuse whoever comes second."""
    with service() as made:
        first = made.token(WALLETS, once=True)
        kept = made.token(WALLETS)
        others = [made.token(WALLETS, once=True) for _ in range(2)]
        assert len({first, kept, *others}) == 4
        assert made.token(WALLETS) == kept


def test_a_fast_schedule_makes_short_tokens() -> None:
    """The test profile keeps its own inequality: no token outlives the drain."""
    made = service(schedule=FAST)
    with frozen(), made:
        payload = json.loads(_decoded(made.token(WALLETS).split(".")[1]))
        assert payload["exp"] - payload["iat"] == 2
        assert payload["iat"] == NOW
