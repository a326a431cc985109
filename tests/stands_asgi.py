"""The application of `stands.py` in FastAPI, Litestar, Starlette and aiohttp."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import litestar
from aiohttp import web
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Principal, Service, require
from s2s_mesh.integrations import aiohttp as aiohttp_door
from s2s_mesh.integrations import fastapi as fastapi_door
from s2s_mesh.integrations import litestar as litestar_door

from .programs import http_server
from .servers import free_port
from .stands import seen, users_of

BOTH = ["GET", "PUT"]


def known(user: Any) -> Any:
    """What an endpoint answers, with Starlette's user."""
    return seen(user if isinstance(user, Principal) else None)


@contextmanager
def on_uvicorn(app: Any) -> Iterator[int]:
    port = free_port()
    with http_server(app, port):
        yield port


# -- FastAPI ----------------------------------------------------------------------------------------------

Writer = Annotated[Principal, Depends(fastapi_door.require("cards:write"))]


@contextmanager
def in_fastapi(service: Service) -> Iterator[int]:
    app = FastAPI(routes=service.routes, middleware=[service.middleware], lifespan=service.lifespan)

    async def read(request: Request) -> Any:
        return known(request.user)

    def write(caller: Writer) -> Any:
        return seen(caller)

    async def user() -> Any:
        return users_of(service)

    for path in ("/read", "/open", "/proved", "/cards/{card}"):
        app.add_api_route(path, read, methods=BOTH)
    for path in ("/write", "/open/write"):
        app.add_api_route(path, write, methods=BOTH)
    app.add_api_route("/user", user)
    with on_uvicorn(app) as port:
        yield port


# -- Litestar ---------------------------------------------------------------------------------------------


@contextmanager
def in_litestar(service: Service) -> Iterator[int]:
    guards = [litestar_door.require("cards:write")]

    @litestar.route(["/read", "/open", "/proved", "/cards/{card:str}"], http_method=["GET", "PUT", "HEAD"])
    async def read(request: litestar.Request[Any, Any, Any]) -> Any:
        return known(request.user)

    @litestar.route(["/write", "/open/write"], http_method=["GET", "PUT"], guards=guards)
    async def write(request: litestar.Request[Any, Any, Any]) -> Any:
        return known(request.user)

    @litestar.get("/user")
    async def user() -> Any:
        return users_of(service)

    app = litestar.Litestar(
        [read, write, user],
        plugins=[litestar_door.Protect(service)],
        logging_config=None,
        openapi_config=None,
    )
    with on_uvicorn(app) as port:
        yield port


# -- aiohttp ----------------------------------------------------------------------------------------------


@contextmanager
def in_aiohttp(service: Service) -> Iterator[int]:
    async def read(request: web.Request) -> web.Response:
        return web.json_response(seen(request[aiohttp_door.PRINCIPAL]))

    class Write(web.View):
        @aiohttp_door.require("cards:write")
        async def get(self) -> web.Response:
            return web.json_response(seen(self.request[aiohttp_door.PRINCIPAL]))

        put = get

    async def user(_: web.Request) -> web.Response:
        return web.json_response(users_of(service))

    app = web.Application()
    for path in ("/read", "/open", "/proved", "/cards/{card}"):
        app.router.add_get(path, read)
        app.router.add_put(path, read)
    app.router.add_view("/write", Write)
    app.router.add_get("/open/write", aiohttp_door.require("cards:write")(read))
    app.router.add_put("/open/write", aiohttp_door.require("cards:write")(read))
    app.router.add_get("/user", user)
    aiohttp_door.protect(app, service)
    with on_aiohttp(app) as port:
        yield port


@contextmanager
def on_aiohttp(app: web.Application) -> Iterator[int]:
    """Its own server, on an event loop in a thread."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
    port = free_port()

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30)
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# -- Starlette --------------------------------------------------------------------------------------------


@contextmanager
def in_starlette(service: Service) -> Iterator[int]:
    async def read(request: Any) -> JSONResponse:
        return JSONResponse(known(request.user))

    async def user(_: Any) -> JSONResponse:
        return JSONResponse(users_of(service))

    paths = ("/read", "/open", "/proved", "/cards/{card}")
    routes = [Route(path, read, methods=BOTH) for path in paths]
    routes += [Route("/write", requires("cards:write")(read), methods=BOTH), Route("/user", user)]

    async def open_write(request: Any) -> JSONResponse:
        return JSONResponse(seen(require("cards:write")(request)))

    routes.append(Route("/open/write", open_write, methods=BOTH))
    with on_uvicorn(service.wrap(Starlette(routes=routes))) as port:
        yield port


STANDS: dict[str, Callable[[Service], Any]] = {
    "Starlette": in_starlette,
    "FastAPI": in_fastapi,
    "Litestar": in_litestar,
    "aiohttp": in_aiohttp,
}
