"""Clouds nearby: one HTTPS server with the token endpoints of four of them, which verify as the real ones do.

It fetches our discovery document and our JWKS over HTTP, once, verifies with a library that is not ours
(joserfc), and compares issuer, subject and audience byte by byte with what is registered. What it
answers has each provider's own form; credentials of AWS are made by moto, which verifies no signature itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import httpx
import trustme
from joserfc import errors as jose_errors
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s2s_mesh import Service, TrustConfig
from s2s_mesh.cli import serving

from .command_line import MovableTime, Terminal
from .programs import http_server
from .servers import free_port

HOST = "localhost"
TENANT = "72f988bf-0000-0000-0000-2d7cd011db47"
CLIENT = "11111111-2222-3333-4444-555555555555"
POOL = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/mesh/providers/edge"
CLUSTER = "https://kubernetes.example.com"
ROLE = "arn:aws:iam::123456789012:role/edge-example-com"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
REGISTERED = {
    "aws": "sts.amazonaws.com",
    "gcp": POOL,
    "azure": "api://AzureADTokenExchange",
    "k8s": CLUSTER,
}
VERIFIED = {
    "aws": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
    "gcp": ["RS256", "ES256"],
    "azure": ["RS256"],
    "k8s": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"],
}


class Refused(Exception):
    """A token is not exchanged; the text says why."""


class Clouds:
    """The token endpoints of four providers.

    Args:
        issuer: of ours, that is registered with all of them.
        clock: Unix seconds.
        moto: where moto's server listens, or None.

    Attributes:
        kids: of the keys that signed what was accepted, in order.
    """

    def __init__(self, issuer: str, clock: Callable[[], float], moto: str | None = None) -> None:
        self.kids: list[str] = []
        self._clock = clock
        self._issuer = issuer
        self._moto = moto
        self._keys: KeySet | None = None
        self.app = Starlette(
            routes=[
                Route("/", self._aws, methods=["POST"]),
                Route("/v1/token", self._gcp, methods=["POST"]),
                Route(f"/{TENANT}/oauth2/v2.0/token", self._azure, methods=["POST"]),
                Route("/api/v1/namespaces/default/pods", self._k8s),
            ]
        )

    def verify(self, provider: str, token: str) -> None:
        """Accept a token as the provider does.

        Raises:
            Refused: as the provider does.
        """
        try:
            decoded = jwt.decode(token, self._jwks(), algorithms=VERIFIED[provider])
        except (jose_errors.JoseError, ValueError) as why:
            raise Refused(f"signature: {why}") from None
        claims, now = decoded.claims, self._clock()
        if decoded.header.get("typ") != "JWT" or not decoded.header.get("kid"):
            raise Refused("header")
        if not {"iss", "sub", "aud", "exp", "iat"} <= claims.keys() or len(claims["sub"]) > 127:
            raise Refused("claims are missing")
        if (claims["iss"], claims["sub"]) != (self._issuer, self._issuer):
            raise Refused("issuer or subject")
        if claims["aud"] != REGISTERED[provider]:
            raise Refused("audience")
        if type(claims["exp"]) is not int or type(claims["iat"]) is not int or claims["iat"] > now + 300:
            raise Refused("times")
        if claims["exp"] <= now:
            raise Refused("expired")
        self.kids.append(decoded.header["kid"])

    def _jwks(self) -> KeySet:
        """The keys, from where the discovery document says; fetched once, whatever is missing in them."""
        if self._keys is None:
            document = httpx.get(f"{self._issuer}/.well-known/openid-configuration").raise_for_status().json()
            assert document["issuer"] == self._issuer
            keys = httpx.get(document["jwks_uri"]).raise_for_status().json()
            self._keys = KeySet.import_key_set(keys)
        return self._keys

    async def _form(self, request: Request) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}

    async def _judged(self, provider: str, token: str) -> str | None:
        """Why it is refused, or None."""
        try:
            await asyncio.to_thread(self.verify, provider, token)
        except Refused as why:
            return str(why)
        return None

    async def _aws(self, request: Request) -> Response:
        form = await self._form(request)
        if form["Action"] == "AssumeRoleWithWebIdentity":
            why = await self._judged("aws", form["WebIdentityToken"])
            if why is not None:
                code = "ExpiredTokenException" if why == "expired" else "InvalidIdentityToken"
                return Response(
                    '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender'
                    f"</Type><Code>{code}</Code><Message>{escape(why)}</Message></Error>"
                    "<RequestId>1</RequestId></ErrorResponse>",
                    400,
                    media_type="text/xml",
                )
        assert self._moto is not None
        wanted = ("content-type", "authorization")
        kept = {name: value for name, value in request.headers.items() if name in wanted}
        async with httpx.AsyncClient() as http:
            answer = await http.post(self._moto, content=await request.body(), headers=kept)
        return Response(answer.content, answer.status_code, media_type="text/xml")

    async def _gcp(self, request: Request) -> Response:
        form = await self._form(request)
        assert (form["audience"], form["subject_token_type"]) == (POOL, JWT_TYPE)
        why = await self._judged("gcp", form["subject_token"])
        if why is not None:
            return JSONResponse({"error": "invalid_grant", "error_description": why}, 400)
        return JSONResponse(
            {
                "access_token": "ya29.d.edge",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        )

    async def _azure(self, request: Request) -> Response:
        form = await self._form(request)
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert (form["client_id"], form["grant_type"]) == (CLIENT, "client_credentials")
        why = await self._judged("azure", form["client_assertion"])
        if why is not None:
            code = "AADSTS700024" if why == "expired" else "AADSTS700212"
            return JSONResponse({"error": "invalid_client", "error_description": f"{code}: {why}"}, 401)
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": "eyJ.edge"})

    async def _k8s(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        why = await self._judged("k8s", token)
        if why is not None:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized"}
            return JSONResponse({**status, "code": 401, "message": why}, 401)
        return JSONResponse({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})


class Authority:
    """A certificate authority, and this machine's certificate.

    Attributes:
        path: of the authority's certificate, PEM.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.path = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.path)
        own = authority.issue_cert(HOST)
        self.chain, self.key = str(folder / "own.pem"), str(folder / "own.key")
        own.private_key_pem.write_to_path(self.key)
        for number, pem in enumerate(own.cert_chain_pems):
            pem.write_to_path(self.chain, append=number > 0)

    @contextmanager
    def https_server(self, app: Any, port: int | None = None) -> Iterator[str]:
        """Serve an ASGI application over TLS, in a thread, for the length of the block; gives its URL."""
        port = port or free_port()
        with http_server(
            app,
            port,
            lifespan="off",
            headers=[("connection", "close")],  # SDKs keep theirs, and the end would wait for them
            ssl_certfile=self.chain,
            ssl_keyfile=self.key,
        ):
            yield f"https://{HOST}:{port}"


@contextmanager
def published(terminal: Terminal, moved: MovableTime, *, age: float, **changes: str) -> Iterator[str]:
    """Our issuer, with a ring of `age` seconds, published by a real service; gives its URL."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    terminal.environment |= {"S2S_MESH_ISSUER": issuer, "S2S_MESH_ROTATION": "cloud-federation", **changes}
    with moved.ago(age):
        terminal.create_ring()
    trust = TrustConfig.parse("version = 1\n[defaults]\nallow_loopback_http = true")
    service = Service.from_env(terminal.environment, trust=trust)
    with service, http_server(serving.only_documents(service), port):
        yield issuer
