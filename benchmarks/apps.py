"""One application, protected in different ways: `python -m benchmarks.apps NAME FOLDER PORT [CPU]`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from s2s_mesh import Service

from .contestants import fastapi_validator
from .material import EDGE, WALLETS, receiver
from .proving import proof_receiver

OWN_SET, FOREIGN_SET, ENDPOINT = "own.json", "foreign.json", "endpoint.txt"
# fewer than the tokens of the fresh runs, so that every one of them is verified and remembered anew
SMALL_CACHE = 1000


async def _hello(_: Request) -> Response:
    return JSONResponse({"hello": "world"})


def _app(*middleware: Middleware, **options: Any) -> Starlette:
    return Starlette(routes=[Route("/", _hello)], middleware=list(middleware), **options)


def _ours(folder: Path, cache_size: int) -> Starlette:
    service = receiver(str(folder / OWN_SET), cache_size=cache_size)
    return _protected(service)


def _protected(service: Service) -> Starlette:
    return _app(service.middleware, lifespan=service.lifespan)


class _PyJWTMiddleware:
    """What one writes with PyJWT alone: keys prepared at start, found by kid."""

    def __init__(self, app: ASGIApp, keys: Mapping[str, jwt.PyJWK]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            try:
                value = next(value for name, value in scope["headers"] if name == b"authorization")
                token = value.removeprefix(b"Bearer ").decode("ascii")
                key = self._keys[jwt.get_unverified_header(token)["kid"]]
                scope["claims"] = jwt.decode(
                    token, key, algorithms=[key.algorithm_name], audience=WALLETS, issuer=EDGE
                )
            except (StopIteration, KeyError, UnicodeDecodeError, jwt.InvalidTokenError):
                await JSONResponse({"title": "Unauthorized"}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _pyjwt(folder: Path) -> Starlette:
    members = json.loads((folder / FOREIGN_SET).read_bytes())["keys"]
    return _app(Middleware(_PyJWTMiddleware, keys={member["kid"]: jwt.PyJWK(member) for member in members}))


def _fastapi(_: Path) -> Starlette:
    from fastapi import FastAPI

    app = FastAPI()
    app.get("/")(_hello_world)
    return app  # type: ignore[no-any-return,unused-ignore]


def _fastapi_jwks(folder: Path) -> Starlette:
    from fastapi import Depends, FastAPI
    from fastapi_jwks.dependencies import JWKSAuth

    validator = fastapi_validator((folder / ENDPOINT).read_text(encoding="utf-8"))
    app = FastAPI(dependencies=[Depends(JWKSAuth(validator))])
    app.get("/")(_hello_world)
    return app  # type: ignore[no-any-return,unused-ignore]


async def _hello_world() -> dict[str, str]:
    return {"hello": "world"}


NO_AUTH, FASTAPI = "no-auth", "fastapi"
APPS: Mapping[str, Callable[[Path], Starlette]] = {
    NO_AUTH: lambda _: _app(),
    "ours-fresh": lambda folder: _ours(folder, SMALL_CACHE),
    "ours": lambda folder: _ours(folder, 10_000),
    "ours-proof": lambda folder: _protected(proof_receiver(str(folder / OWN_SET))),
    "pyjwt": _pyjwt,
    FASTAPI: _fastapi,
    "fastapi-jwks": _fastapi_jwks,
}


def main(name: str, folder: str, port: str, cpu: str = "") -> None:
    """Serve one of `APPS` until killed, on one CPU if told."""
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})
    app = APPS[name](Path(folder))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
