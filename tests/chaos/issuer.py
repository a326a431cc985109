"""The program of an issuer's replica: serves its JWKS and calls the receivers."""

from __future__ import annotations

import os

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s2s_mesh import Service

from .calls import Calls
from .serving import serve


def application() -> Starlette:
    """The issuer that the environment describes; `/begin`, `/tally` and `/end` are the runner's."""
    service = Service.from_env()
    calls = Calls(
        service,
        os.environ["CHAOS_NAME"],
        os.environ["CHAOS_AUDIENCES"].split(","),
        float(os.environ["CHAOS_CALLS_PER_SECOND"]),
    )

    async def begin(_request: Request) -> Response:
        calls.begin()
        return Response()

    async def tally(request: Request) -> Response:
        answer = Response(msgspec.json.encode(calls.tally))
        if request.method == "POST":
            calls.tally.slowest = 0.0
        return answer

    async def end(_request: Request) -> Response:
        await calls.end()
        return Response()

    control = [
        Route("/begin", begin, methods=["POST"]),
        Route("/tally", tally, methods=["GET", "POST"]),
        Route("/end", end, methods=["POST"]),
    ]
    return Starlette(routes=[*service.routes, *control], lifespan=service.lifespan)


if __name__ == "__main__":
    serve(application())
