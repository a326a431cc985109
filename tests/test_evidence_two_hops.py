"""A user from an identity provider through edge and wallets to ledger: all over real sockets."""

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
from starlette.routing import BaseRoute, Route

from s2s_mesh import EndUser, Service

from .identity_provider import ALICE, DISCOVERY, IdentityProvider, user_token
from .programs import http_server
from .servers import free_port
from .targets import CLIENT

TRUST = """
version = 1
[defaults]
allow_loopback_http = true
[user_issuers."{login}"]
audiences = ["{edge}"]
discovery = true
[[txn]]
trust_domain = "https://example.com"
issuer = "{edge}"
audience = "{wallets}"
[[txn]]
trust_domain = "https://example.com"
issuer = "{edge}"
audience = "{ledger}"
[[allow]]
issuer = "{edge}"
audience = "{wallets}"
scopes = ["cards:read", "cards:write"]
may_act_for = ["{login}"]
[[allow]]
issuer = "{wallets}"
audience = "{ledger}"
scopes = ["entries:write", "entries:delete"]
may_act_for = ["{login}"]
[[route]]
audience = "{wallets}"
path = "/card"
methods = ["GET"]
scopes = ["cards:read"]
user = "proven"
[[route]]
audience = "{wallets}"
path = "/safe"
methods = ["GET"]
scopes = ["cards:read"]
user = "proven"
proof = "wpt"
[[route]]
audience = "{wallets}"
path = "/buy"
methods = ["GET"]
scopes = ["cards:write"]
user = "txn"
[[route]]
audience = "{ledger}"
path = "/entries"
methods = ["GET"]
scopes = ["entries:write"]
user = "txn"
[[route]]
audience = "{ledger}"
path = "/entries/all"
methods = ["GET"]
scopes = ["entries:delete"]
user = "txn"
[[route]]
audience = "{ledger}"
path = "/proven"
methods = ["GET"]
user = "proven"
"""


class Mesh:
    """An identity provider, and three services, two of them behind a uvicorn of their own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.provider = stack.enter_context(IdentityProvider())
        ports = {name: free_port() for name in ("edge", "wallets", "ledger")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        file = folder / "trust.toml"
        file.write_text(TRUST.format(login=self.provider.issuer, **urls))
        self.edge, self.wallets, self.ledger = (
            Service(issuer=url, trust=file, key_store="memory://") for url in urls.values()
        )
        routes: dict[Service, list[BaseRoute]] = {
            self.edge: [],
            self.wallets: [Route("/card", whose), Route("/safe", whose), Route("/buy", self.buy)],
            self.ledger: [Route(path, whose) for path in ("/entries", "/entries/all", "/proven")],
        }
        for service, port in zip(routes, ports.values(), strict=True):
            app = Starlette(
                routes=[*routes[service], *service.routes],
                middleware=[service.middleware],
                lifespan=service.lifespan,
            )
            stack.enter_context(http_server(app, port))

    async def buy(self, _: Request) -> JSONResponse:
        """Asks ledger in the same transaction."""
        user = self.wallets.inbound_user
        carrying = self.wallets.transport(self.ledger.issuer, proof="bearer", on_behalf_of=user)
        async with httpx.AsyncClient(transport=carrying, **CLIENT) as http:
            written = await http.get(f"{self.ledger.issuer}/entries")
            deleted = await http.get(f"{self.ledger.issuer}/entries/all")
        return JSONResponse({"written": written.json(), "deleted": deleted.status_code})

    def login(self, **changes: Any) -> EndUser:
        """A user with a fresh token, verified at the edge."""
        now = int(time.time())
        times = {"iat": now, "exp": now + 600, "auth_time": now}
        token = user_token(self.provider.issuer, aud=self.edge.issuer, **{**times, **changes})
        return self.edge.verify_user(token)

    def get(self, path: str, user: EndUser, *, proof: str = "bearer") -> httpx.Response:
        """Edge asks wallets on behalf of a user."""
        carrying = self.edge.transport(self.wallets.issuer, proof=proof, on_behalf_of=user)
        with httpx.Client(transport=carrying, **CLIENT) as http:
            return http.get(f"{self.wallets.issuer}{path}")


async def whose(request: Request) -> JSONResponse:
    """Caller and user, as this service knows them."""
    user = request.user.user
    return JSONResponse(
        {
            "caller": request.user.issuer,
            "user": [user.issuer, user.subject, user.mode],
            "txn": user.txn,
            "scopes": sorted(request.user.scopes),
        }
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        yield Mesh(tmp_path_factory.mktemp("evidence"), stack)


def test_wallets_verifies_the_user_at_the_provider(mesh: Mesh) -> None:
    """The user's own token goes along, and wallets asks the provider itself; with and without proof."""
    user = mesh.login()
    for path, proof in (("/card", "bearer"), ("/card", "wpt"), ("/safe", "wpt")):
        answer = mesh.get(path, user, proof=proof)
        assert answer.status_code == 200, (path, proof)
        assert answer.json()["user"] == [mesh.provider.issuer, ALICE, "proven"]
    # each of the three services, once
    assert [head.path for head in mesh.provider.heads].count(DISCOVERY) == 3


def test_a_word_without_evidence_is_not_enough(mesh: Mesh) -> None:
    """Neither without a token of the user's, nor with that of another user."""
    alice, bob = mesh.login(), mesh.login(sub="bob")
    changed = {name: getattr(alice, name) for name in ("issuer", "subject", "expires_at")}
    assert mesh.get("/card", EndUser(**changed)).status_code == 403
    assert mesh.get("/card", EndUser(**changed, user_token=bob.user_token)).status_code == 403
    assert mesh.get("/card", EndUser(**changed, user_token=alice.user_token)).status_code == 200


def test_a_transaction_reaches_ledger_unchanged(mesh: Mesh) -> None:
    """Wallets cannot change what edge began: the same user and transaction, for what it is for."""
    user = mesh.edge.transaction(
        mesh.login(),
        trust_domain="https://example.com",
        scopes=["cards:write", "entries:write"],
        user_scopes=["cards:write", "entries:write"],
    )
    body = mesh.get("/buy", user).json()
    assert body["written"] == {
        "caller": mesh.wallets.issuer,
        "user": [mesh.provider.issuer, ALICE, "txn"],
        "txn": user.txn,
        "scopes": ["entries:write"],
    }
    # wallets may delete, and this transaction is not for that
    assert body["deleted"] == 403


def test_a_service_on_the_way_cannot_begin_one(mesh: Mesh) -> None:
    """Ledger takes transactions that edge minted, and none that wallets would like to."""
    own = mesh.wallets.transaction(
        EndUser(issuer=mesh.provider.issuer, subject="anybody", expires_at=time.time() + 60),
        trust_domain="https://example.com",
        scopes=["entries:write"],
        user_scopes=["entries:write"],
    )
    carrying = mesh.wallets.transport(mesh.ledger.issuer, proof="bearer", on_behalf_of=own)
    with httpx.Client(transport=carrying, **CLIENT) as http:
        assert http.get(f"{mesh.ledger.issuer}/entries").status_code == 403
        assert http.get(f"{mesh.ledger.issuer}/proven").status_code == 403
