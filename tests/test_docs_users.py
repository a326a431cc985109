"""What docs/users.md shows is what the program does: its snippets are executed, its token is compared."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import EndUser, NoUser, Reason, Service, TrustConfig
from s2s_mesh import claims as claims_

from .docs_snippets import snippets
from .programs import ROOT, http_server
from .servers import free_port
from .tokens import EDGE, LEDGER, LOGIN, NOW, WALLETS

DOCS = "docs/users.md"
AT_EDGE, AT_WALLETS, WITH_EVIDENCE = range(3)


class Fleet:
    """Edge and wallets as printed, with loopback names, and a ledger."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ports = {name: free_port() for name in (EDGE, WALLETS, LEDGER)}
        self._monkeypatch = monkeypatch
        self.trust = folder / "trust.toml"
        text = self.localised(snippets(DOCS, "toml")[0])
        self.trust.write_text(
            text.replace("version = 1\n", "version = 1\n[defaults]\nallow_loopback_http = true\n")
        )
        monkeypatch.setenv("S2S_MESH_TRUST_FILE", str(self.trust))
        monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")

    def localised(self, text: str) -> str:
        for name, port in self._ports.items():
            text = text.replace(name, f"http://127.0.0.1:{port}")
        return text

    def run(self, issuer: str, number: int) -> dict[str, Any]:
        """The names that a snippet defines, run by the environment of this issuer."""
        self._monkeypatch.setenv("S2S_MESH_ISSUER", self.localised(issuer))
        names: dict[str, Any] = {}
        exec(compile(self.localised(snippets(DOCS, "python")[number]), DOCS, "exec"), names)
        return names

    def serve(self, stack: ExitStack, issuer: str, app: Any) -> None:
        stack.enter_context(http_server(app, self._ports[issuer]))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, monkeypatch)


def ledger_app(service: Service) -> Starlette:
    async def entries(request: Request) -> JSONResponse:
        user = request.user.user
        return JSONResponse([request.user.issuer, user.subject, user.unverified_history[0].subject])

    return Starlette(
        routes=[Route("/entries", entries), *service.routes],
        middleware=[service.middleware],
        lifespan=service.lifespan,
    )


def closing(app: Any, http: httpx.AsyncClient) -> Any:
    """The application, which has its client closed at the end."""

    async def closed(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if scope["type"] == "lifespan":
            await http.aclose()

    return closed


def test_the_services_as_printed(fleet: Fleet) -> None:
    """Edge's session reaches ledger through wallets."""
    edge, wallets = fleet.run(EDGE, AT_EDGE), fleet.run(WALLETS, AT_WALLETS)
    ledger = Service(issuer=fleet.localised(LEDGER), trust=fleet.trust, key_store="memory://")
    session = {"sub": "u1", "expires_at": time.time() + 60, "auth_time": int(time.time()) - 60}
    edge_app = Starlette(routes=edge["service"].routes, lifespan=edge["service"].lifespan)
    with ExitStack() as stack:
        fleet.serve(stack, EDGE, edge_app)
        fleet.serve(stack, WALLETS, closing(wallets["app"], wallets["http"]))
        fleet.serve(stack, LEDGER, ledger_app(ledger))
        assert edge["card_of"](session) == {
            "owner": "u1",
            "asked_by": fleet.localised(EDGE),
            "entries": [fleet.localised(WALLETS), "u1", fleet.localised(EDGE)],
        }
    with pytest.raises(NoUser):
        _ = wallets["service"].inbound_user


def test_evidence_travels_beside_the_token(fleet: Fleet) -> None:
    """In a field of its own, by the transport as printed."""
    names = fleet.run(EDGE, WITH_EVIDENCE)
    seen: list[str | None] = []

    async def wallets(request: Request) -> JSONResponse:
        seen.append(request.headers.get("s2s-user-token"))
        return JSONResponse({})

    app = Starlette(routes=[Route("/wallets/42/card", wallets)])
    user = EndUser(issuer=LOGIN, subject="u1", expires_at=time.time() + 60, user_token="u.s.er")
    with ExitStack() as stack:
        fleet.serve(stack, WALLETS, app)
        names["card_of"](user)
    names["service"].__exit__()
    assert seen == ["u.s.er"]


def test_the_trust_file() -> None:
    """It is good, without a warning."""
    assert TrustConfig.parse(snippets(DOCS, "toml")[0]).warnings == ()


def test_the_token() -> None:
    """Its claims are those that wallets makes of a user that edge carried, member by member."""
    (shown,) = (json.loads(text) for text in snippets(DOCS, "json"))
    user = EndUser(
        issuer=LOGIN,
        subject="248289761001",
        expires_at=NOW + 60,
        auth_time=NOW - 60,
        amr=("mfa",),
        carried_by=EDGE,
    )
    built = claims_.build(issuer=WALLETS, audience=LEDGER, scopes=None, now=NOW, life=120, user=user)
    assert {**built, "jti": shown["jti"]} == shown
    assert msgspec.json.decode(msgspec.json.encode(built)) == built


def test_every_reason_about_users_is_explained() -> None:
    """Each has a line in the table."""
    text = (ROOT / DOCS).read_text(encoding="utf-8")
    reasons = {reason.value for reason in Reason if "user" in reason.value}
    assert {reason for reason in reasons if f"| `{reason}` | " in text} == reasons
