"""ledger: behind wallets, and closed to everybody else."""

import logging

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service

logging.basicConfig(level=logging.INFO)
service = Service.from_env()


@requires("entries:write")
async def add_entry(request: Request) -> JSONResponse:
    """Say who was let in; a real ledger would write the entry down."""
    caller = request.user
    return JSONResponse({"caller": caller.issuer, "scopes": sorted(caller.scopes), "kid": caller.kid})


app = Starlette(
    routes=[*service.routes, Route("/entries", add_entry, methods=["POST"])],
    middleware=[service.middleware],
    lifespan=service.lifespan,
)
