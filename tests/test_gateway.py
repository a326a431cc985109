"""The gateway as an ASGI application: verdicts, documents, probes; real fronts have a file of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from s2s_mesh import Service
from s2s_mesh.errors import ConfigError, KeyStoreError, StoreReason
from s2s_mesh.forward_auth import IDENTITY
from s2s_mesh.gateway import Gateway
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.wellknown import JWKS

from .migrating import KEY, row
from .receiver import Receiver
from .tokens import EDGE, LEDGER, WALLETS, frozen, good, key

ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
scopes = ["cards:read"]
"""
Lines = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def wallets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with keys, a route rule and a public path."""
    with frozen():
        receiver = Receiver(
            tmp_path_factory.mktemp("gateway"),
            edge_keys=[key()],
            trust=ROUTES,
            key_store="memory://",
            public_paths=["/open"],
        )
        yield receiver.service
        receiver.close()


def get(gateway: Gateway, path: str, headers: Lines = (), method: str = "GET") -> httpx.Response:
    """One request to the gateway."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9000") as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(send())


def traefik(method: str, uri: str, token: bytes | None = None) -> list[tuple[str, str]]:
    """What Traefik asks with, as its ForwardAuth middleware makes it."""
    fields = [] if token is None else [("authorization", f"Bearer {token.decode()}")]
    return [
        *fields,
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "wallets.example.com"),
        ("x-forwarded-method", method),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-uri", uri),
    ]


@pytest.mark.parametrize(
    ("method", "uri", "token", "status", "caller"),
    [
        ("GET", "/read", good(), 200, EDGE),
        ("GET", "/read?x=1", good(), 200, EDGE),
        ("GET", "/open", None, 200, ""),
        ("GET", "/read", None, 401, None),
        ("GET", "/read", good(exp=0), 401, None),
        ("PUT", "/read", good(), 403, None),
        ("GET", "//read", good(), 403, None),
        ("GET", "/open/../read", None, 401, None),
        ("GET", "/read?access_token=x", good(), 400, None),
    ],
)
def test_traefik(
    wallets: Service, method: str, uri: str, token: bytes | None, status: int, caller: str | None
) -> None:
    """Traefik's contract: it hands on what a 200 holds, and every other answer to its client."""
    with frozen():
        answer = get(Gateway(wallets, front="traefik"), "/verify", traefik(method, uri, token))
    assert (answer.status_code, answer.headers.get("s2s-caller")) == (status, caller)
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["s2s-request-id"]) == 36
    if status == 200:
        assert set(IDENTITY) <= set(answer.headers)
        assert answer.content == b""
    else:
        assert answer.json()["instance"] == f"urn:uuid:{answer.headers['s2s-request-id']}"


def test_a_token_that_was_seen_before(wallets: Service) -> None:
    """The second request with a token is judged by its route as the first one is."""
    gateway = Gateway(wallets, front="envoy")
    token = [("authorization", f"Bearer {good(jti='A' * 22).decode()}")]
    with frozen():
        assert [get(gateway, "/verify/read", token).status_code for _ in range(3)] == [200, 200, 200]
        assert get(gateway, "/verify/write", token).status_code == 403


def test_what_is_logged(wallets: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Path and method of the request that was meant, as sent; no token, no query, nothing odd."""
    gateway = Gateway(wallets, front="envoy")
    token = good().decode()
    with frozen(), caplog.at_level(logging.INFO, "s2s_mesh.access"):
        get(gateway, "/verify/read?secret", [("authorization", f"Bearer {token}")])
        get(gateway, "/verify//%2e%2e/x%1b[31m%ff;y", [("authorization", f"Bearer {token}")])
        get(gateway, "/verify")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith(f"admitted GET /read: {EDGE} [request ")
    assert lines[1].startswith("refused GET //../x%1B%5B31m%EF%BF%BD%3By: bad_path: ")
    assert lines[2].startswith("refused GET /verify: front_contract: the path below /verify is not one path")
    assert token.split(".")[2] not in caplog.text
    assert "secret" not in caplog.text


def test_an_old_credential(tmp_path: Path) -> None:
    """It is told when it ends; where Basic would do, a 401 says so beside Bearer."""
    old = row(migration="prefer") + row("basic", issuer=LEDGER)
    receiver = Receiver(tmp_path, edge_keys=[key()], key_store="memory://", trust=old)
    gateway = Gateway(receiver.service, front="envoy")
    with frozen():
        known = get(gateway, "/verify/read", [("x-api-key", KEY)])
        assert (known.status_code, known.headers["s2s-caller"]) == (200, EDGE)
        assert known.headers["sunset"].endswith(" GMT")
        unknown = get(gateway, "/verify/read")
        assert [challenge.split()[0] for challenge in unknown.headers.get_list("www-authenticate")] == [
            "Bearer",
            "Basic",
        ]
    receiver.close()


def test_documents_and_probes(wallets: Service) -> None:
    """What concerns everybody is answered beside `/verify`, and nothing else is."""
    gateway = Gateway(wallets, front="nginx")
    with frozen(), wallets:
        assert len(get(gateway, JWKS).json()["keys"]) == 2
        assert get(gateway, "/healthz").text == "alive\n"
        assert (get(gateway, "/readyz").status_code, get(gateway, "/readyz").text) == (200, "ready\n")
        for path in ("/", "/metrics", "/token", f"{JWKS}/", "/VERIFY", "//verify"):
            assert get(gateway, path).status_code == 404
        assert get(gateway, "/healthz", method="POST").status_code == 405


def test_metrics(wallets: Service) -> None:
    """Whoever has metrics has them answered there."""
    gateway = Gateway(wallets, front="nginx", metrics=PlainTextResponse("requests 1\n"))
    assert get(gateway, "/metrics").text == "requests 1\n"
    assert get(gateway, "/metrics/x").status_code == 404


class Away(MemoryStore):
    """A store that cannot be reached."""

    def load(self) -> bytes | None:
        raise KeyStoreError(StoreReason.UNREACHABLE, "connection refused by 192.0.2.7")


def test_not_ready(tmp_path: Path) -> None:
    """Without a ring it is alive and not ready; where its store is stays in the log."""
    receiver = Receiver(tmp_path, edge_keys=[key()])
    service = Service(issuer=WALLETS, trust=tmp_path / "trust.toml", key_store=Away())
    with service:
        gateway = Gateway(service, front="nginx")
        answer = get(gateway, "/readyz")
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "not ready\n", "1")
        assert get(gateway, "/healthz").status_code == 200
    receiver.close()


def test_an_unknown_front(wallets: Service) -> None:
    """A front that is none is said at once."""
    with pytest.raises(ConfigError, match="'apache' is not a front; expected one of nginx, caddy"):
        Gateway(wallets, front="apache")
