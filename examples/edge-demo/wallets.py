"""wallets: the resource API. What its routes want stands in trust.toml. It calls ledger in its own name."""

import logging

import httpx
from starlette.applications import Starlette
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
    caller, user = request.user.issuer, request.user.user
    said = {"caller": caller, "user": user and user.subject, "scopes": sorted(request.user.scopes)}
    return JSONResponse({**said, "kid": request.user.kid})


async def pay(request: Request) -> Response:
    """Book the payment in the ledger, as ourselves."""
    return _pass_on(await ledger.post("/entries", json={"wallet": request.path_params["id"]}))


async def entries(_: Request) -> Response:
    """Read the ledger for the user of this request."""
    for_user = service.auth(LEDGER, on_behalf_of=service.inbound_user)
    return _pass_on(await ledger.get("/entries", auth=for_user))


async def pay_wrongly(request: Request) -> Response:
    """Do not do this: pass the caller's token on. It is made out to us, and ledger refuses it."""
    theirs = {"authorization": request.headers["authorization"]}
    return _pass_on(await ledger.post("/entries", auth=None, headers=theirs))


def _pass_on(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


routes = [
    *service.routes,
    Route("/wallets/{id:int}/card", done, methods=["GET", "PUT"]),
    Route("/wallets/{id:int}/limit", done, methods=["PUT"]),
    Route("/wallets/{id:int}/settlements", done, methods=["POST"]),
    Route("/wallets/{id:int}/entries", entries, methods=["GET"]),
    Route("/wallets/{id:int}/payments", pay, methods=["POST"]),
    Route("/wallets/{id:int}/payments-done-wrongly", pay_wrongly, methods=["POST"]),
]
app = Starlette(routes=routes, middleware=[service.middleware], lifespan=service.lifespan)
