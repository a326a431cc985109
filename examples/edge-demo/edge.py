"""edge: the experience API that browsers and apps talk to. It calls wallets, as itself."""

import logging

import httpx
from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s2s_mesh import Service

logging.basicConfig(level=logging.INFO)
WALLETS = Config()("WALLETS_URL", default="http://127.0.0.1:8102")
service = Service.from_env()
wallets = httpx.AsyncClient(base_url=WALLETS, auth=service.auth(WALLETS))  # puts a token on every request


async def card(request: Request) -> Response:
    """Read or change a card."""
    return await ask_wallets(request, "card")


async def pay(request: Request) -> Response:
    """Pay with a wallet."""
    return await ask_wallets(request, "payments")


async def ask_wallets(request: Request, what: str) -> Response:
    """Ask wallets, and pass its answer on."""
    answer = await wallets.request(request.method, f"/wallets/{request.path_params['wallet_id']}/{what}")
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


# No service calls edge, so there is no `service.middleware` here. How people log in, the demo leaves out.
app = Starlette(
    routes=[
        *service.routes,
        Route("/cards/{wallet_id:int}", card, methods=["GET", "PUT"]),
        Route("/payments/{wallet_id:int}", pay, methods=["POST"]),
    ],
    lifespan=service.lifespan,
)
