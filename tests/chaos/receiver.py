"""The program of a receiver's replica: lets nobody in but those whom its trust file names."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service

from .serving import serve


async def take_entry(request: Request) -> JSONResponse:
    """Say who calls, and with which key."""
    return JSONResponse({"caller": request.user.issuer, "kid": request.user.kid})


def application() -> Starlette:
    """The receiver that the environment describes."""
    service = Service.from_env(key_store=None)
    return Starlette(
        routes=[Route("/entries", take_entry, methods=["POST"])],
        middleware=[service.middleware],
        lifespan=service.lifespan,
    )


if __name__ == "__main__":
    serve(application())
