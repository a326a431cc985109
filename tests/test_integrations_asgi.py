"""The doors for FastAPI, Litestar, aiohttp and Django under ASGI, where one differs from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import litestar
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from fastapi import Depends, FastAPI

from s2s_mesh import ConfigError, Principal, Service
from s2s_mesh.errors import Reason
from s2s_mesh.integrations import aiohttp as aiohttp_door
from s2s_mesh.integrations import fastapi as fastapi_door
from s2s_mesh.integrations import litestar as litestar_door
from s2s_mesh.wellknown import JWKS

from .stands import Stand, service_of, with_log
from .stands_asgi import on_aiohttp, on_uvicorn
from .stands_wsgi import configure, on_werkzeug
from .tokens import WALLETS, good

GOOD = good()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = service_of(tmp_path)
    with with_log(), made:
        yield made


def test_openapi_shows_the_scheme_and_the_scopes_of_each_operation() -> None:
    """As OpenAPI 3.1 has it for schemes other than OAuth: the names that an operation needs."""
    app = FastAPI()

    @app.put("/write")
    async def write(caller: Annotated[Principal, Depends(fastapi_door.require("cards:write"))]) -> None:
        """Wants a scope."""

    @app.get("/open")
    async def open_to_all() -> None:
        """Wants nothing."""

    document = app.openapi()
    assert document["openapi"].startswith("3.1")
    (scheme,) = document["components"]["securitySchemes"].items()
    assert scheme[0] == "s2s_mesh"
    assert (scheme[1]["type"], scheme[1]["scheme"], scheme[1]["bearerFormat"]) == ("http", "bearer", "JWT")
    operation = document["paths"]["/write"]["put"]
    assert operation["security"] == [{"s2s_mesh": ["cards:write"]}]
    assert "parameters" not in operation
    assert "security" not in document["paths"]["/open"]["get"]


@pytest.mark.parametrize("door", [aiohttp_door, fastapi_door, litestar_door])
def test_what_is_no_scope_is_refused_at_once(door: Any) -> None:
    """Not with the first request."""
    with pytest.raises(ConfigError):
        door.require("cards write")


def test_an_encoded_slash_makes_no_public_path(tmp_path: Path) -> None:
    """aiohttp's router takes `%2F` for a part of a segment, so `/open%2Fwrite` is another route there."""
    service = service_of(tmp_path)
    app = web.Application()

    async def any_segment(request: web.Request) -> web.Response:
        return web.json_response({"segment": request.match_info["x"]})

    app.router.add_get("/{x}", any_segment)
    aiohttp_door.protect(app, service)
    with on_aiohttp(app) as port:
        site = Stand("aiohttp", port)
        assert site.call("/open").body == {"segment": "open"}
        assert site.call("/open%2Fwrite").status == 401
        assert site.call("/open%2Fwrite", GOOD).status == 403


def test_aiohttp_keeps_both_fields(tmp_path: Path) -> None:
    """So that two credentials are refused as two."""
    service = service_of(tmp_path)
    app = web.Application()
    aiohttp_door.protect(app, service)
    with with_log(), on_aiohttp(app) as port:
        twice = Stand("aiohttp", port).call("/read", GOOD, headers=[(b"authorization", b"Basic eDp5")])
        assert twice.reason == Reason.SEVERAL_CREDENTIALS.value


def test_two_doors_of_aiohttp_are_a_mistake(tmp_path: Path) -> None:
    """As of any other framework."""
    service = service_of(tmp_path)
    app = web.Application()
    inner = web.Application()

    async def read(_: web.Request) -> web.Response:
        raise AssertionError("nobody comes here")

    inner.router.add_get("/7", read)
    aiohttp_door.protect(inner, service)
    app.add_subapp("/cards", inner)
    aiohttp_door.protect(app, service)
    with on_aiohttp(app) as port:
        assert Stand("aiohttp", port).call("/cards/7", GOOD).status == 500


def test_require_without_the_door_is_a_mistake() -> None:
    """And lets nobody in."""

    @aiohttp_door.require()
    async def read(_: web.Request) -> web.Response:
        raise AssertionError("nobody comes here")

    with pytest.raises(ConfigError, match="came by without passing it"):
        asyncio.run(read(make_mocked_request("GET", "/read")))


# -- applications that anybody may call ---------------------------------------------------------------------


def check_open(port: int) -> None:
    site = Stand("open", port)
    assert site.call("/").status == 200
    assert site.call(JWKS).body["keys"]
    assert site.call("/nothing").status == 404


def test_publish_in_aiohttp(tmp_path: Path) -> None:
    """Our documents are served, and nothing is asked."""
    app = web.Application()

    async def home(_: web.Request) -> web.Response:
        return web.Response(text="for everybody")

    app.router.add_get("/", home)
    aiohttp_door.publish(app, service_of(tmp_path))
    with on_aiohttp(app) as port:
        check_open(port)


def test_publish_in_litestar(tmp_path: Path) -> None:
    """Our documents are served, and nothing is asked."""

    @litestar.get("/")
    async def home() -> str:
        return "for everybody"

    plugin = litestar_door.Publish(service_of(tmp_path))
    with on_uvicorn(litestar.Litestar([home], plugins=[plugin], logging_config=None)) as port:
        check_open(port)


def test_publish_in_django(service: Service) -> None:
    """Under both interfaces."""
    configure(service)
    with override_settings(
        MIDDLEWARE=["s2s_mesh.integrations.django.publish"], ROOT_URLCONF="tests.open_urls"
    ):
        with on_werkzeug(WSGIHandler()) as port:
            check_open(port)
        with on_uvicorn(ASGIHandler()) as port:
            check_open(port)


def test_litestar_of_a_service_without_keys_serves_no_documents(tmp_path: Path) -> None:
    """It only verifies."""
    service_of(tmp_path)
    trust = "version = 1\n"
    (tmp_path / "open.toml").write_text(trust)
    service = Service(issuer=WALLETS, trust=tmp_path / "open.toml", key_store=None)
    app = litestar.Litestar([], plugins=[litestar_door.Publish(service)], logging_config=None)
    with on_uvicorn(app) as port:
        assert Stand("open", port).call(JWKS).status == 404
