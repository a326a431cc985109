"""A service of ours, an authorization server that knows its keys, a resource server, one clock for all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from s2s_mesh import OAuthClient, RotationSchedule, Service, TrustConfig
from s2s_mesh.movable_clock import MovableClock

from ..programs import http_server
from ..servers import free_port
from .node import HERE, node, node_modules

RESOURCE = "urn:cards"
TRUST = TrustConfig.parse("version = 1\n[defaults]\nallow_loopback_http = true")
FORM = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class AuthorizationServer:
    """oidc-provider and a resource server in a Node process.

    Attributes:
        issuer: of the authorization server.
        resource: URL of the resource server.
    """

    def __init__(self, said: bytes) -> None:
        self.issuer, self.resource = (json.loads(said)[name] for name in ("issuer", "resource"))
        self._http = httpx.Client(trust_env=False, timeout=30)

    def errors(self) -> list[str]:
        """Why it refused what it refused since the last time."""
        return list(self._http.get(f"{self.resource}/errors").json())

    def show(self, ahead: float) -> None:
        """Let its clock be this many seconds ahead of the true time."""
        self._http.get(f"{self.resource}/ahead", params={"seconds": ahead}).raise_for_status()

    def ask(self, client_id: str, assertion: str) -> httpx.Response:
        """Ask it for a token with whatever assertion."""
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "resource": RESOURCE,
            "client_assertion_type": FORM,
            "client_assertion": assertion,
        }
        return self._http.post(f"{self.issuer}/token", data=form)

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()


@contextmanager
def authorization_server(
    clients: Sequence[Mapping[str, Any]], *, algorithms: Sequence[str] = ("ES256",), ttl: int = 300
) -> Iterator[AuthorizationServer]:
    """Run it.

    Args:
        clients: metadata of each, as RFC 7591 has it.
        algorithms: with which assertions may be signed.
        ttl: seconds that its access tokens live.
    """
    node_modules()
    told = json.dumps({"clients": clients, "algorithms": algorithms, "ttl": ttl})
    process = subprocess.Popen(
        [node(), str(HERE / "oauth_server.mjs"), told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        _, problem = process.communicate(timeout=60)
        raise AssertionError(problem.decode())
    server = AuthorizationServer(said)
    try:
        yield server
    finally:
        server.close()
        process.communicate(timeout=60)  # which closes its input, and it ends


class Fleet:
    """One service, published for real, and the server that gives it tokens.

    Attributes:
        issuer: the service's id.
        server: the authorization server.
        fetches: when the service's JWKS was asked for, by its clock.
    """

    def __init__(self, service: Service, server: AuthorizationServer, fetches: list[float]) -> None:
        self.issuer = str(service.issuer)
        self.service = service
        self.server = server
        self.fetches = fetches
        self._ahead = 0.0

    def client(self, **options: Any) -> OAuthClient:
        """What an application makes."""
        options = {"scopes": ["cards:read"], "resource": RESOURCE, **options}
        return self.service.oauth_client(self.server.issuer, origins=[self.server.resource], **options)

    def forward(self, seconds: float) -> None:
        """Let time pass for everybody, and our housekeeper have done its work."""
        assert isinstance(self.service.clock, MovableClock)
        self._ahead += seconds
        self.service.clock.forward(seconds)
        self.service.running().keep_house_once()
        self.server.show(self._ahead)


@contextmanager
def fleet(
    *,
    algorithm: str = "ES256",
    schedule: RotationSchedule = RotationSchedule.DEFAULT,
    ttl: int = 300,
    algorithms: Sequence[str] | None = None,
) -> Iterator[Fleet]:
    """A service that serves its JWKS over HTTP, and an authorization server that has its jwks_uri."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    service = Service(
        issuer=issuer, trust=TRUST, key_store="memory://", algorithm=algorithm, schedule=schedule
    )
    service.clock = MovableClock()
    fetches: list[float] = []
    documents = Starlette(routes=service.routes)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/jwks.json"):
            fetches.append(service.clock())
        await documents(scope, receive, send)

    with service, http_server(app, port):
        client = {
            "client_id": issuer,
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "token_endpoint_auth_method": "private_key_jwt",
            "grant_types": ["client_credentials"],
        }
        with authorization_server([client], algorithms=algorithms or [algorithm], ttl=ttl) as server:
            yield Fleet(service, server, fetches)
