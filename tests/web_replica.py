"""One web process of an issuer, in this process: a service with its own housekeeper, and what it serves."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette

from s2s_mesh import Service, TrustConfig
from s2s_mesh.jwks import JWKSet
from s2s_mesh.wellknown import JWKS

from .tokens import Clock


class WebReplica:
    """Runs for the length of `with replica.service:`.

    Args:
        issuer: whose ring.
        key_store: its URL.
        kek: the key-encryption key; None leaves the ring open in the store.
        clock: moved by hand, so that no poll is due unless the test says so.
    """

    def __init__(self, issuer: str, key_store: str, kek: str | None, clock: Clock) -> None:
        self.service = Service(
            issuer=issuer,
            trust=TrustConfig.parse("version = 1"),
            key_store=key_store,
            key_encryption_key=kek,
            allow_unsealed_key_store=kek is None,
        )
        self.service.clock = clock
        self._app = Starlette(routes=self.service.routes)

    def jwks(self) -> httpx.Response:
        """The answer to whoever asks for its keys."""

        async def get() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url=self.service.issuer) as http:
                return await http.get(JWKS)

        return asyncio.run(get())

    def published(self) -> set[str]:
        """The key ids in the JWKS that it serves."""
        answer = self.jwks()
        assert answer.status_code == 200
        return set(JWKSet.parse(answer.content).keys)
