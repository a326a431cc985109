"""Every application in docs/frameworks.md runs as printed, on a real server, and lets in whom it should."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.urls import clear_url_caches

from s2s_mesh import Service
from s2s_mesh.jwks import JWKSet
from s2s_mesh.wellknown import JWKS

from .programs import ROOT
from .stands import Stand
from .stands_asgi import on_aiohttp, on_uvicorn
from .stands_wsgi import configure, on_werkzeug
from .tokens import EDGE, NOW, WALLETS, good, key

DOCS = "docs/frameworks.md"
CARD = "/wallets/42/card"
SERVERS = {
    "FastAPI": on_uvicorn,
    "Litestar": on_uvicorn,
    "Any WSGI application": on_werkzeug,
    "Flask": on_werkzeug,
    "aiohttp": on_aiohttp,
}


def section(title: str) -> list[str]:
    """The snippets of one section."""
    text = (ROOT / DOCS).read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return re.findall(r"^```python\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where `Service.from_env()` finds a trust file and a store."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/edge.jwks.json").write_bytes(JWKSet([key().public]).to_bytes())
    (tmp_path / "trust/trust.toml").write_text(
        f'version = 1\n[issuers."{EDGE}"]\njwks_file = "edge.jwks.json"\n'
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read", "cards:write"]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S2S_MESH_ISSUER", WALLETS)
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("snippet", "wallets"):
            del sys.modules[name]


def executed(code: str) -> dict[str, Any]:
    """The names of a snippet; its service lives at `NOW`."""
    module = type(sys)("snippet")
    sys.modules["snippet"] = module  # annotations are looked up there
    exec(code, module.__dict__)
    service: Service = module.__dict__["service"]
    service.clock = lambda: float(NOW)
    return module.__dict__


def check(service: Service, serving: AbstractContextManager[int]) -> None:
    """The caller is known, nobody else comes through, and our own keys are published."""
    with service, serving as port:
        site = Stand("docs", port)
        allowed = site.call(CARD, good(), method="PUT")
        assert (allowed.status, allowed.body) in [(200, {"caller": EDGE}), (200, EDGE.encode())]
        assert site.call(CARD, method="PUT").status == 401
        assert site.call(CARD, good(scope="cards:read"), method="PUT").status == 403
        assert site.call(JWKS).status == 200


@pytest.mark.parametrize("title", list(SERVERS))
def test_the_application_of_a_framework(title: str) -> None:
    """As printed."""
    (code,) = section(title)
    names = executed(code)
    check(names["service"], SERVERS[title](names["app"]))


def test_the_django_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its three files, as printed, in a package."""
    for code in section("Django"):
        path = tmp_path / code.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    mesh = __import__("wallets.mesh").mesh
    mesh.service.clock = lambda: float(NOW)
    configure(mesh.service)
    names: dict[str, Any] = {}
    exec((tmp_path / "wallets/settings.py").read_text(), names)
    del names["__builtins__"]
    with override_settings(ROOT_URLCONF="wallets.urls", **names):
        clear_url_caches()
        check(mesh.service, on_werkzeug(WSGIHandler()))
    clear_url_caches()


def called(port: int, token: bytes | None) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        fields = [] if token is None else [("authorization", "Bearer " + token.decode())]
        call: Any = channel.unary_unary("/wallets.Cards/Update")
        try:
            return str(call(b"limit=7", metadata=fields, timeout=30))
        except grpc.RpcError as error:
            return str(error.code().name)


def check_grpc(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(port, good()) == "b'limit=7'"
    assert capsys.readouterr().out == f"called by {EDGE}\n"
    assert called(port, None) == "UNAUTHENTICATED"
    assert called(port, good(scope="cards:read")) == "PERMISSION_DENIED"


def methods(cards: Any) -> Any:
    """What generated code registers."""
    handler: Any = grpc.unary_unary_rpc_method_handler(cards.Update)
    return grpc.method_handlers_generic_handler("wallets.Cards", {"Update": handler})


def test_the_grpc_server(capsys: pytest.CaptureFixture[str]) -> None:
    """In threads."""
    names = executed(section("gRPC")[0])
    server = names["server"]
    server.add_generic_rpc_handlers((methods(names["Cards"]()),))
    with names["service"]:
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        check_grpc(port, capsys)
        server.stop(None).wait()


def test_the_grpc_aio_server(capsys: pytest.CaptureFixture[str]) -> None:
    """On an event loop."""
    names = executed(section("gRPC")[1])

    async def run() -> None:
        server = names["make_server"]()
        server.add_generic_rpc_handlers((methods(names["Cards"]()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await asyncio.to_thread(check_grpc, port, capsys)
        await server.stop(None)

    with names["service"]:
        asyncio.run(run())


def test_the_extras_of_the_docs_exist() -> None:
    """What is to be installed is what pyproject.toml offers, and every door has its row."""
    text = (ROOT / DOCS).read_text(encoding="utf-8")
    offered = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    named = set(re.findall(r"`s2s-mesh\[(\w+)\]`", text))
    assert named <= set(offered)
    files = (ROOT / "s2s_mesh/integrations").glob("*.py")
    assert named == {path.stem for path in files if "from ..doors import" in path.read_text()} - {"wsgi"}
