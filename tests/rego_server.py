"""A real Rego engine behind a real HTTP server, with the one part of OPA's REST API that decisions need.

OPA's own program cannot be had from a package index. This one answers `POST /v1/data/...` as OPA does: the
value of the rule, nothing where it is undefined, 400 for a body that is no input, 500 where it contradicts
itself. It shares no code with `s2s_mesh.integrations.rego`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .programs import http_server
from .servers import free_port, missing


def need_rego() -> None:
    """Skip the test where the engine is not installed, or fail where everything is required."""
    try:
        import regopy  # noqa: F401
    except ImportError:
        missing("regopy: pip install 's2s-mesh[rego]'")


class RegoServer:
    """Answers for the rules of one file."""

    def __init__(self, file: Path) -> None:
        from regopy import Interpreter
        from regopy.rego_shared import LogLevel

        self._engine = Interpreter()
        self._engine.log_level = LogLevel.NONE
        self._engine.add_module(file.name, file.read_text(encoding="utf-8"))
        self._bundles: dict[str, Any] = {}
        self.asked = 0
        self.app = Starlette(routes=[Route("/v1/data/{rule:path}", self._data, methods=["POST"])])

    async def _data(self, request: Request) -> JSONResponse:
        self.asked += 1
        try:
            given = json.loads(await request.body())["input"]
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"code": "invalid_parameter"}, status_code=400)
        rule = request.path_params["rule"].replace("/", ".")
        if rule not in self._bundles:
            self._bundles[rule] = self._engine.build(f"found := data.{rule}")
        self._engine.set_input_term(json.dumps(given, ensure_ascii=False))
        results = self._engine.query_bundle(self._bundles[rule]).results
        if not results:
            return JSONResponse({"code": "internal_error"}, status_code=500)
        found = results[0].bindings
        return JSONResponse({"result": found["found"]} if "found" in found else {})


@contextmanager
def rego_server(file: Path) -> Iterator[str]:
    """Serve the rules of a file for the length of the block; the value is the URL of the server."""
    port = free_port()
    with http_server(RegoServer(file).app, port):
        yield f"http://127.0.0.1:{port}"
