"""edge: the experience API that browsers and apps talk to. It calls wallets, as itself or for a user."""

import httpx
from starlette.applications import Starlette
from starlette.config import Config
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s2s_mesh import EndUser, MeshError, Service, TokenRejected

WALLETS = Config()("WALLETS_URL", default="http://127.0.0.1:8102")
service = Service.from_env()
wallets = httpx.AsyncClient(base_url=WALLETS, auth=service.auth(WALLETS))  # puts a token on every request


async def as_itself(request: Request) -> Response:
    """Cards and payments: no user goes along."""
    return _pass_on(await wallets.request(request.method, request.url.path))


async def entries(request: Request) -> Response:
    """What a wallet was used for. The user goes along, on our word."""
    for_user = service.auth(WALLETS, on_behalf_of=await _user(request))
    return _pass_on(await wallets.get(request.url.path, auth=for_user))


async def limit(request: Request) -> Response:
    """Change a limit. The user's own token goes along, and a proof that this very request is ours."""
    carrying = service.transport(WALLETS, on_behalf_of=await _user(request))
    async with httpx.AsyncClient(base_url=WALLETS, transport=carrying) as http:
        return _pass_on(await http.put(request.url.path))


async def _user(request: Request) -> EndUser:
    """Who is logged in: the user of the token in Authorization, whatever other fields say."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return await service.verify_user_async(token)
    except TokenRejected as why:
        raise HTTPException(401, headers={"www-authenticate": "Bearer"}) from why
    except MeshError as why:
        raise HTTPException(503) from why


def _pass_on(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


# No service calls edge, so there is no `service.middleware` here, which would refuse users' tokens.
routes = [
    Route("/wallets/{id:int}/card", as_itself, methods=["GET", "PUT"]),
    Route("/wallets/{id:int}/payments", as_itself, methods=["POST"]),
    Route("/wallets/{id:int}/entries", entries),
    Route("/wallets/{id:int}/limit", limit, methods=["PUT"]),
]
app = Starlette(routes=[*service.routes, *routes], lifespan=service.lifespan)
