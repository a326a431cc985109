"""intruder: perfectly good keys, a perfectly good JWKS, and nobody lists it in trust.toml."""

import httpx
from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s2s_mesh import Service

WALLETS = Config()("WALLETS_URL", default="http://127.0.0.1:8102")
service = Service.from_env()


async def attack(_: Request) -> Response:
    """Call wallets with a genuine token of our own."""
    async with httpx.AsyncClient(base_url=WALLETS, auth=service.auth(WALLETS)) as wallets:
        answer = await wallets.put("/wallets/42/card")
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


app = Starlette(
    routes=[*service.routes, Route("/attack", attack, methods=["POST"])],
    lifespan=service.lifespan,
)
