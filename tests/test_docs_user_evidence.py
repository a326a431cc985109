"""What docs/user-evidence.md shows is what the program does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from s2s_mesh import EndUser
from s2s_mesh.trust import TrustConfig

from .carrying import LOGIN
from .docs_snippets import snippets
from .identity_provider import IdentityProvider, user_token
from .tokens import EDGE, NOW, WALLETS, frozen

DOCS = "docs/user-evidence.md"
AT_THE_EDGE, PROVEN, TXN = range(3)
COMES_IN, BEGINS = range(2)


def run(number: int, folder: Path, trust: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a snippet as edge, and return its names."""
    (folder / "trust.toml").write_text(f"version = 1\n{trust}")
    monkeypatch.setenv("S2S_MESH_ISSUER", EDGE)
    monkeypatch.setenv("S2S_MESH_TRUST_FILE", str(folder / "trust.toml"))
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")
    names: dict[str, Any] = {}
    exec(compile(snippets(DOCS, "python")[number], DOCS, "exec"), names)
    return names


@pytest.mark.parametrize("number", [AT_THE_EDGE, PROVEN, TXN])
def test_the_trust_files(number: int) -> None:
    """Each is good without a warning, and says what the text says."""
    config = TrustConfig.parse("version = 1\n" + snippets(DOCS, "toml")[number])
    assert [warning for warning in config.warnings if "nobody may call anybody" not in warning] == []
    wallets = config.for_audiences([WALLETS])
    assert [rule.user for rule in wallets.routes] == [[], ["proven"], ["txn"]][number]
    assert bool(wallets.transactions) is (number == TXN)
    assert set(wallets.user_issuers) == (set() if number == TXN else {LOGIN})


def test_where_users_come_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's token names the user; without a good one there is 401, and without the provider 503."""
    with IdentityProvider() as provider, frozen():
        trust = snippets(DOCS, "toml")[AT_THE_EDGE].replace(LOGIN, provider.issuer)
        loopback = f"[defaults]\nallow_loopback_http = true\n{trust}"
        names = run(COMES_IN, tmp_path, loopback, monkeypatch)
        app = Starlette(routes=[Route("/card", names["card"])])

        async def ask(token: str) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=EDGE) as http:
                return await http.get("/card", headers={"authorization": f"Bearer {token}"})

        good = user_token(provider.issuer).decode()
        provider.describe(issuer="https://other.example.com")
        later = asyncio.run(ask(good))
        assert (later.status_code, later.headers["retry-after"]) == (503, "5")
        provider.describe()
        monkeypatch.setattr(names["service"], "clock", lambda: NOW + 1)
        names["service"].__exit__()
        answer = asyncio.run(ask(good))
        assert answer.json() == {"user": "248289761001", "of": provider.issuer}
        assert asyncio.run(ask(good + "x")).status_code == 401
        assert asyncio.run(ask("")).status_code == 401
        names["service"].__exit__()


def test_transactions_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user who granted the scope."""
    with IdentityProvider() as provider, frozen():
        names = run(BEGINS, tmp_path, "", monkeypatch)
        token = user_token(provider.issuer).decode()
        user = EndUser(issuer=LOGIN, subject="1", expires_at=NOW + 900, user_token=token)
        begun = names["begin"](user)
        assert (begun.user_token, begun.expires_at) == (None, NOW + 300)
        assert begun.txn_token is not None
        names["service"].__exit__()
