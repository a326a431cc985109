"""Tokens for a neighbour: who gets one, what for, and everything that gets none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.errors import KeyStoreError, StoreReason
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import decode
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.token_door import TokenDoor

from .hostile import rows
from .tokens import LEDGER, LOGIN, WALLETS, frozen, key

MARK = ("S2S-Mesh-Request", "true")
ASKED = f"/token?audience={LEDGER}"
TRUST = """
version = 1
[user_issuers."{login}"]
audiences = ["{wallets}"]
jwks_file = "{keys}"
"""
Lines = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenDoor]:
    """The tokens of wallets."""
    keys = tmp_path_factory.mktemp("login") / "jwks.json"
    keys.write_bytes(JWKSet([key().public]).to_bytes())
    trust = TrustConfig.parse(TRUST.format(login=LOGIN, wallets=WALLETS, keys=keys).encode())
    with frozen(), Service(issuer=WALLETS, trust=trust, key_store="memory://") as service:
        yield TokenDoor(service)


def ask(
    door: TokenDoor,
    url: str = ASKED,
    headers: Lines = (MARK,),
    *,
    method: str = "GET",
    host: str = "127.0.0.1:9001",
) -> httpx.Response:
    """One request."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(door)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            request = httpx.Request(method, f"http://{host}{url}", headers=headers)
            return await http.send(request)

    with frozen():
        return asyncio.run(send())


def claims(answer: httpx.Response) -> dict[str, Any]:
    """What the token in an answer says."""
    assert answer.status_code == 200, answer.text
    return decode(answer.json()["access_token"].encode()).claims


def test_a_token(door: TokenDoor) -> None:
    """A token of this service for the audience, with its seconds to live, which nobody may store."""
    answer = ask(door)
    assert {**answer.json(), "access_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "expires_in": 120,
    }
    assert answer.headers["cache-control"] == "no-store"
    said = claims(answer)
    assert (said["iss"], said["aud"], "scope" in said) == (WALLETS, LEDGER, False)


def test_scopes(door: TokenDoor) -> None:
    """Scopes that are asked for stand in the token."""
    for url in (f"{ASKED}&scopes=cards:read+cards:write", f"{ASKED}&scopes=cards%3Aread%20cards:write"):
        assert claims(ask(door, url))["scope"] == "cards:read cards:write"


def test_tokens_are_kept_unless_they_are_for_once(door: TokenDoor) -> None:
    """The same one as long as it is good; with `once` a new one each time."""
    assert claims(ask(door))["jti"] == claims(ask(door, f"{ASKED}&once=false"))["jti"]
    once = {claims(ask(door, f"{ASKED}&once=true"))["jti"] for _ in range(3)}
    assert len(once) == 3


@pytest.mark.parametrize("host", ["127.0.0.1:9001", "127.0.0.1", "localhost:9001", "LOCALHOST", "[::1]:9001"])
def test_names_of_this_machine(door: TokenDoor, host: str) -> None:
    """Loopback addresses and localhost may stand in Host."""
    assert ask(door, host=host).status_code == 200


TABLE: list[tuple[str, str, str, Lines, str, int | None]] = [
    ("as it should be", "GET", ASKED, [MARK], "127.0.0.1:9001", None),
    ("no field", "GET", ASKED, [], "127.0.0.1:9001", 403),
    ("the field twice", "GET", ASKED, [MARK, MARK], "127.0.0.1:9001", 403),
    ("another value", "GET", ASKED, [(MARK[0], "True")], "127.0.0.1:9001", 403),
    ("an underscore", "GET", ASKED, [("S2S_Mesh_Request", "true")], "127.0.0.1:9001", 403),
    *(
        (name, "GET", ASKED, [MARK, (name, "x")], "127.0.0.1:9001", 403)
        for name in (
            *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Anything", "X_Forwarded_For"),
            *("Forwarded", "Via", "X-Real-IP", "Origin", "Referer", "Sec-Fetch-Site"),
        )
    ),
    ("a name that points here", "GET", ASKED, [MARK], "rebound.example.com:9001", 403),
    ("a name that begins well", "GET", ASKED, [MARK], "127.0.0.1.example.com", 403),
    ("an address of the network", "GET", ASKED, [MARK], "10.0.0.1:9001", 403),
    ("POST", "POST", ASKED, [MARK], "127.0.0.1:9001", 405),
    ("OPTIONS", "OPTIONS", ASKED, [MARK], "127.0.0.1:9001", 405),
    ("another path", "GET", "/tokens", [MARK], "127.0.0.1:9001", 404),
    ("a slash more", "GET", f"/token/?audience={LEDGER}", [MARK], "127.0.0.1:9001", 404),
    ("no audience", "GET", "/token", [MARK], "127.0.0.1:9001", 400),
    ("an empty audience", "GET", "/token?audience=", [MARK], "127.0.0.1:9001", 400),
    ("two audiences", "GET", f"{ASKED}&audience={WALLETS}", [MARK], "127.0.0.1:9001", 400),
    ("no service id", "GET", "/token?audience=ledger", [MARK], "127.0.0.1:9001", 400),
    ("plain http", "GET", "/token?audience=http://ledger.example.com", [MARK], "127.0.0.1:9001", 400),
    ("an identity provider", "GET", f"/token?audience={LOGIN[:-1]}", [MARK], "127.0.0.1:9001", 400),
    ("an unknown parameter", "GET", f"{ASKED}&scope=x", [MARK], "127.0.0.1:9001", 400),
    ("no scope", "GET", f"{ASKED}&scopes=", [MARK], "127.0.0.1:9001", 400),
    ("bad scopes", "GET", f"{ASKED}&scopes=a%22b", [MARK], "127.0.0.1:9001", 400),
    ("once or not", "GET", f"{ASKED}&once=1", [MARK], "127.0.0.1:9001", 400),
    ("no pair", "GET", f"{ASKED}&x", [MARK], "127.0.0.1:9001", 400),
    ("not UTF-8", "GET", f"{ASKED}&scopes=%ff", [MARK], "127.0.0.1:9001", 400),
    ("a long query", "GET", f"{ASKED}&scopes={'a' * 4096}", [MARK], "127.0.0.1:9001", 400),
]


@pytest.mark.parametrize(("method", "url", "headers", "host", "status"), rows(TABLE))
def test_no_token(
    door: TokenDoor,
    caplog: pytest.LogCaptureFixture,
    method: str,
    url: str,
    headers: Lines,
    host: str,
    status: int | None,
) -> None:
    """What a page, a proxy or a tricked server could send gets no token; a program that errs is told why."""
    answer = ask(door, url, headers, method=method, host=host)
    assert answer.status_code == (status or 200)
    assert answer.headers["cache-control"] == "no-store"
    if status is None:
        assert answer.json()["access_token"] not in caplog.text
        return
    assert {*answer.json()} == {"error", "error_description"}
    assert "no token handed out: " in caplog.text


def test_logs_hold_no_token(door: TokenDoor, caplog: pytest.LogCaptureFixture) -> None:
    """Handing one out leaves nothing of it in the log."""
    with caplog.at_level(logging.DEBUG):
        token = ask(door, f"{ASKED}&once=true").json()["access_token"]
    assert token.split(".")[2] not in caplog.text


class Away(MemoryStore):
    """A store that cannot be reached."""

    def load(self) -> bytes | None:
        raise KeyStoreError(StoreReason.UNREACHABLE, "connection refused by 192.0.2.7")


def test_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """Without a ring the answer is 503, and why stands in the log only."""
    with (
        frozen(),
        Service(issuer=WALLETS, trust=TrustConfig.parse(b"version = 1"), key_store=Away()) as service,
    ):
        answer = ask(TokenDoor(service))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "192.0.2.7" not in answer.text
    assert "unreachable: " in caplog.text
