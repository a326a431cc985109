"""`Depends(require(...))` in a real FastAPI application: the caller, or the same refusals as everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from s2s_mesh import ConfigError, Principal, require

from .receiver import Receiver
from .tokens import EDGE, NOW, WALLETS, good, key

Anybody = Annotated[Principal, Depends(require())]
Writer = Annotated[Principal, Depends(require("cards:read", "cards:write"))]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    receiver = Receiver(tmp_path, edge_keys=[key()], public_paths=["/open"])
    receiver.service.clock = lambda: float(NOW)  # pydantic cannot be imported while freezegun works
    made = FastAPI(middleware=[receiver.service.middleware])

    @made.get("/me")
    async def me(caller: Anybody) -> str:
        return caller.issuer

    @made.put("/cards")
    def cards(caller: Writer) -> list[str]:
        return sorted(caller.scopes)

    @made.get("/open")
    async def public(caller: Anybody) -> str:
        return caller.issuer

    yield made
    receiver.close()


def call(app: FastAPI, method: str, path: str, token: bytes | None) -> httpx.Response:
    async def send() -> httpx.Response:
        fields = {} if token is None else {"authorization": f"Bearer {token.decode()}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=WALLETS) as http:
            return await http.request(method, path, headers=fields)

    return asyncio.run(send())


def test_the_endpoint_gets_the_caller(app: FastAPI) -> None:
    """In coroutines and in plain functions."""
    assert call(app, "GET", "/me", good()).json() == EDGE
    assert call(app, "PUT", "/cards", good()).json() == ["cards:read", "cards:write"]


@pytest.mark.parametrize("scope", ["cards:read", "cards:write"])
def test_a_missing_scope_is_the_full_403(app: FastAPI, scope: str) -> None:
    """With the challenge that names what is missing, as RFC 6750 section 3 has it."""
    refused = call(app, "PUT", "/cards", good(scope=scope))
    assert refused.status_code == 403
    missing = ({"cards:read", "cards:write"} - {scope}).pop()
    assert f'error="insufficient_scope", scope="{missing}"' in refused.headers["www-authenticate"]
    assert refused.headers["content-type"] == "application/problem+json"


def test_an_anonymous_caller_of_a_public_path_is_no_caller(app: FastAPI) -> None:
    """401, where the endpoint wants somebody."""
    assert call(app, "GET", "/open", None).status_code == 401
    assert call(app, "GET", "/open", good()).json() == EDGE
    assert call(app, "GET", "/me", None).status_code == 401


def test_what_is_no_scope_is_refused_when_the_application_starts() -> None:
    """Not with the first request."""
    with pytest.raises(ConfigError):
        require("cards write")
