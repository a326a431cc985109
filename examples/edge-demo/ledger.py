"""ledger: behind wallets, and closed to everybody else. What each route wants stands in trust.toml."""

import logging

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service

logging.basicConfig(level=logging.INFO)
service = Service.from_env()


async def done(request: Request) -> JSONResponse:
    """Say who was let in; a real ledger would read its entries, or write one."""
    caller, user = request.user.issuer, request.user.user
    said = {"caller": caller, "user": user and user.subject, "scopes": sorted(request.user.scopes)}
    return JSONResponse({**said, "kid": request.user.kid})


app = Starlette(
    routes=[*service.routes, Route("/entries", done, methods=["GET", "POST"])],
    middleware=[service.middleware],
    lifespan=service.lifespan,
)
