"""Verifiers that fetch keys, behind one face for the four situations."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jwt
import trustme

from s2s_mesh import Service, TrustConfig

from .contestants import OURS, fastapi_validator
from .endpoint import Endpoint, pem_kid
from .material import EDGE, WALLETS, Material, trust_text

LIFETIME = 2.0  # seconds that a set lives where a peer lets us say so
_TIMEOUT = 3.0
ALG = "ES256"
_threads = ThreadPoolExecutor(200)


class Peer(Protocol):
    """One library, set up for one endpoint."""

    async def verify(self, token: str) -> object:
        """Verify as an ASGI application would: raises where the token is refused."""

    def token(self, made: Material, kid: str | None = None) -> str:
        """A token as this library wants it, good now."""

    async def expire(self) -> None:
        """Let the lifetime of the set pass."""

    async def close(self) -> None:
        """Let go of what it holds."""


class Kind(NamedTuple):
    """One row of the table.

    Attributes:
        name: of the row.
        note: how it was set up for sets that end, where not as it comes.
        make: a peer with nothing in its memory, and whether its sets shall be short-lived; to be called on
            the event loop.
        tls: whether it insists on https.
    """

    name: str
    note: str
    make: Callable[[Endpoint, bool], Peer]
    tls: bool = False


class _Base:
    def token(self, made: Material, kid: str | None = None) -> str:
        return made.peer_token(kid=kid)

    async def expire(self) -> None:
        await asyncio.sleep(LIFETIME + 0.1)

    async def close(self) -> None:
        """Nothing is held."""


class _Ours(_Base):
    def __init__(self, endpoint: Endpoint, _short: bool) -> None:
        source = f'jwks_uri = "{endpoint.own_url}"\nallow_plain_http = true'
        self._late = 0.0
        self._service = Service(
            issuer=WALLETS, trust=TrustConfig.parse(trust_text(source)), key_store=None, verified_cache_size=0
        )
        self._service.clock = lambda: time.time() + self._late

    async def verify(self, token: str) -> object:
        return await self._service.verify_async(token)

    def token(self, made: Material, kid: str | None = None) -> str:
        now = int(self._service.clock())
        return made.token(kid=kid, iat=now, nbf=now, exp=now + 120)

    async def expire(self) -> None:
        # max-age left out means 300 s; the set is stale from then on, for an hour
        self._late = 400.0
        await asyncio.sleep(0.2)

    async def close(self) -> None:
        await asyncio.to_thread(self._service.__exit__)


class _PyJWKClient(_Base):
    def __init__(self, endpoint: Endpoint, short: bool) -> None:
        options: dict[str, Any] = {"lifespan": LIFETIME, "timeout": _TIMEOUT} if short else {}
        self._client = jwt.PyJWKClient(endpoint.url, **options)

    async def verify(self, token: str) -> object:
        return await asyncio.get_running_loop().run_in_executor(_threads, self._verify, token)

    def _verify(self, token: str) -> object:
        key = self._client.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=[ALG], audience=WALLETS, issuer=EDGE)


class _KeyFetcher(_Base):
    def __init__(self, endpoint: Endpoint, short: bool) -> None:
        from pyjwt_key_fetcher import AsyncKeyFetcher

        options: dict[str, Any] = {"cache_ttl": int(LIFETIME)} if short else {}
        self._fetcher: Any = AsyncKeyFetcher(
            static_issuer_config={EDGE: {"jwks_uri": endpoint.url}}, **options
        )

    async def verify(self, token: str) -> object:
        key = await self._fetcher.get_key(token)
        return jwt.decode(token, **{**key, "algorithms": [ALG]}, audience=WALLETS, issuer=EDGE)

    async def close(self) -> None:
        await self._fetcher._http_client.session.close()


class _JWKSClient(_Base):
    def __init__(self, endpoint: Endpoint, short: bool) -> None:
        from jwks_client import JWKSClient, JWTVerifier

        options: dict[str, Any] = {"ttl": LIFETIME} if short else {}
        self._client = JWKSClient(endpoint.url, **options)
        self._verifier = JWTVerifier(self._client, algorithms=[ALG], audience=WALLETS, issuer=EDGE)

    async def verify(self, token: str) -> object:
        return await self._verifier.verify(token)  # type: ignore[no-any-return,unused-ignore]

    async def close(self) -> None:
        await self._client.aclose()


class _FastAPIJWKS(_Base):
    def __init__(self, endpoint: Endpoint, _short: bool) -> None:
        self._validator = fastapi_validator(endpoint.url)

    async def verify(self, token: str) -> object:
        # its dependency calls this on the event loop, too
        return self._validator.validate_token(token)

    async def expire(self) -> None:
        from fastapi_jwks.validators import JWKSValidator

        JWKSValidator.jwks_data.cache.clear()


class _Atlassian(_Base):
    def __init__(self, endpoint: Endpoint, short: bool) -> None:
        import atlassian_jwt_auth
        from atlassian_jwt_auth.key import HTTPSPublicKeyRetriever

        HTTPSPublicKeyRetriever._class_session = None  # one memory for all retrievers
        self._options: dict[str, Any] = {"timeout": _TIMEOUT} if short else {}
        self._verifier: Any = atlassian_jwt_auth.JWTAuthVerifier(HTTPSPublicKeyRetriever(endpoint.base))

    async def verify(self, token: str) -> object:
        return await asyncio.get_running_loop().run_in_executor(_threads, self._verify, token)

    def _verify(self, token: str) -> object:
        return self._verifier.verify_jwt(token, WALLETS, verify=False, **self._options)

    def token(self, made: Material, kid: str | None = None) -> str:
        return made.peer_token(kid=kid or pem_kid(made), iss="edge", sub="edge", client_id="edge")


KINDS = (
    Kind(OURS, "clock moved by 400 s", _Ours),
    Kind("PyJWKClient", f"lifespan={LIFETIME:g}, timeout={_TIMEOUT:g}", _PyJWKClient),
    Kind("jwks-client", f"ttl={LIFETIME:g}", _JWKSClient),
    Kind("pyjwt-key-fetcher", f"cache_ttl={LIFETIME:g}", _KeyFetcher),
    Kind("fastapi-jwks", "its memory emptied by hand", _FastAPIJWKS),
    Kind("atlassian-jwt-auth", f"max-age={LIFETIME:g}, timeout={_TIMEOUT:g}", _Atlassian, tls=True),
)


def server_tls() -> ssl.SSLContext:
    """For the peer that insists on https; it is told not to look at the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context
