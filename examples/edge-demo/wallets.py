"""wallets: the resource API. Each route says which scope it needs; ledger is called with an own token."""

import logging

import httpx
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s2s_mesh import Service

logging.basicConfig(level=logging.INFO)
LEDGER = Config()("LEDGER_URL", default="http://127.0.0.1:8103")
service = Service.from_env()
ledger = httpx.AsyncClient(base_url=LEDGER, auth=service.auth(LEDGER))  # puts our token on every request


async def done(request: Request) -> JSONResponse:
    """Say who was let in; a real service would do its work here."""
    caller = request.user
    return JSONResponse({"caller": caller.issuer, "scopes": sorted(caller.scopes), "kid": caller.kid})


@requires("cards:write")
async def pay(request: Request) -> Response:
    """Book the payment in the ledger."""
    answer = await ledger.post("/entries", json={"wallet": request.path_params["wallet_id"]})
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


@requires("cards:write")
async def pay_wrongly(request: Request) -> Response:
    """Do not do this: pass the caller's token on. It is made out to us, and ledger refuses it."""
    theirs = {"authorization": request.headers["authorization"]}
    async with httpx.AsyncClient(base_url=LEDGER, headers=theirs) as as_somebody_else:
        answer = await as_somebody_else.post("/entries")
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


app = Starlette(
    routes=[
        *service.routes,
        Route("/wallets/{wallet_id:int}/card", requires("cards:read")(done), methods=["GET"]),
        Route("/wallets/{wallet_id:int}/card", requires("cards:write")(done), methods=["PUT"]),
        Route("/wallets/{wallet_id:int}/settlements", requires("settlements:write")(done), methods=["POST"]),
        Route("/wallets/{wallet_id:int}/payments", pay, methods=["POST"]),
        Route("/wallets/{wallet_id:int}/payments-done-wrongly", pay_wrongly, methods=["POST"]),
    ],
    middleware=[service.middleware],
    lifespan=service.lifespan,
)
