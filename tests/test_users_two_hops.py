"""A user on the way from the edge through wallets to ledger, over real sockets, with keys fetched by JWKS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import EndUser, Service

from .programs import http_server
from .servers import free_port
from .targets import CLIENT
from .tokens import LOGIN

TRUST = """
version = 1
[defaults]
allow_loopback_http = true
[[allow]]
issuer = "{edge}"
audience = "{wallets}"
may_act_for = ["https://login.example.com/"]
[[allow]]
issuer = "{wallets}"
audience = "{ledger}"
may_act_for = ["https://login.example.com/"]
[[allow]]
issuer = "{edge}"
audience = "{ledger}"
[[route]]
audience = "{wallets}"
path = "/wallet"
methods = ["GET"]
user = "asserted"
[[route]]
audience = "{ledger}"
path = "/entries"
methods = ["GET"]
user = "asserted"
[[route]]
audience = "{ledger}"
path = "/totals"
methods = ["GET"]
"""


class Mesh:
    """Three services, each behind a uvicorn of its own."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in ("edge", "wallets", "ledger")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        file = folder / "trust.toml"
        file.write_text(TRUST.format(**urls))
        self.services = {
            name: Service(issuer=url, trust=file, key_store="memory://") for name, url in urls.items()
        }
        self.edge, self.wallets, self.ledger = self.services.values()
        self.ports = ports

    async def wallet(self, request: Request) -> JSONResponse:
        """Asks ledger on behalf of whoever asks wallets; and for the totals as itself."""
        auth = self.wallets.auth(self.ledger.issuer, on_behalf_of=self.wallets.inbound_user)
        own = self.wallets.auth(self.ledger.issuer)
        async with httpx.AsyncClient(**CLIENT) as http:
            entries = await http.get(f"{self.ledger.issuer}/entries", auth=auth)
            totals = await http.get(f"{self.ledger.issuer}/totals", auth=own)
            mixed = await http.get(f"{self.ledger.issuer}/totals", auth=auth)
        return JSONResponse(
            {
                "caller": request.user.issuer,
                "entries": entries.json(),
                "totals": totals.json(),
                "mixed": mixed.status_code,
            }
        )

    async def entries(self, request: Request) -> JSONResponse:
        """Whom ledger sees."""
        user = request.user.user
        return JSONResponse(
            {
                "caller": request.user.issuer,
                "subject": request.user.subject,
                "user": None if user is None else [user.issuer, user.subject, user.acr],
                "carried_by": None if user is None else user.carried_by,
                "history": [] if user is None else [actor.subject for actor in user.unverified_history],
                "expires_at": None if user is None else user.expires_at,
            }
        )

    def run(self, stack: ExitStack) -> None:
        routes = {
            "edge": [],
            "wallets": [Route("/wallet", self.wallet)],
            "ledger": [Route("/entries", self.entries), Route("/totals", self.entries)],
        }
        for name, service in self.services.items():
            app = Starlette(
                routes=[*routes[name], *service.routes],
                middleware=[service.middleware],
                lifespan=service.lifespan,
            )
            stack.enter_context(http_server(app, self.ports[name]))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    made = Mesh(tmp_path_factory.mktemp("hops"))
    with ExitStack() as stack:
        made.run(stack)
        yield made


def user(**changes: Any) -> EndUser:
    return EndUser(**{"issuer": LOGIN, "subject": "u1", "expires_at": time.time() + 60, **changes})


def test_ledger_sees_the_user_its_caller_and_who_carried_the_user_before(mesh: Mesh) -> None:
    """Caller wallets, for the edge's user, who came through edge; for the totals wallets acts as itself."""
    at_edge = user(acr="urn:mfa")
    with httpx.Client(auth=mesh.edge.auth(mesh.wallets.issuer, on_behalf_of=at_edge), **CLIENT) as http:
        body = http.get(f"{mesh.wallets.issuer}/wallet").json()
    entries, totals = body["entries"], body["totals"]
    assert body["caller"] == mesh.edge.issuer
    assert entries["caller"] == entries["carried_by"] == mesh.wallets.issuer
    assert entries["user"] == [LOGIN, "u1", "urn:mfa"]
    assert entries["history"] == [mesh.edge.issuer]
    assert entries["expires_at"] <= at_edge.expires_at
    assert (totals["caller"], totals["subject"], totals["user"]) == (*[mesh.wallets.issuer] * 2, None)
    assert body["mixed"] == 403


def test_edge_may_not_take_the_way_that_it_was_not_granted(mesh: Mesh) -> None:
    """It may call ledger, and carries nobody there."""
    with httpx.Client(auth=mesh.edge.auth(mesh.ledger.issuer, on_behalf_of=user()), **CLIENT) as http:
        assert http.get(f"{mesh.ledger.issuer}/entries").status_code == 401
    with httpx.Client(auth=mesh.edge.auth(mesh.ledger.issuer), **CLIENT) as http:
        assert http.get(f"{mesh.ledger.issuer}/entries").status_code == 403
        assert http.get(f"{mesh.ledger.issuer}/totals").json()["caller"] == mesh.edge.issuer
