"""ASAP callers for tests: a key server with real sockets, tokens as their signer makes them, our receiver."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from s2s_mesh.asap import PEM
from s2s_mesh.drivers import drive
from s2s_mesh.identity import Principal
from s2s_mesh.jwks_client import JWKSClient
from s2s_mesh.keys import SigningKey
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.trust import ForeignIssuer, TrustConfig
from s2s_mesh.verifier import Verifier

from .jwks_servers import Clock, Head, Peer, answer
from .tokens import ABSENT, NOW, WALLETS, key, sign

ISSUER = "team/edge"
SERVICE = "https://edge.example.com"
KID = f"{ISSUER}/k1"


class KeyServer(Peer):
    """A folder of PEM files over HTTP.

    Attributes:
        files: by path below the base URL.
        instead: what is answered instead of anything else, if not empty.
        cache_control: of good answers.
    """

    def __init__(self, files: Mapping[str, bytes] = {}, **options: Any) -> None:
        self.files: dict[str, bytes] = dict(files)
        self.instead: bytes = b""
        self.missing: str = "404 Not Found"
        self.cache_control: str = "max-age=300"
        super().__init__(self._talk_http, **options)

    @property
    def base(self) -> str:
        """The base URL."""
        return self.url("/keys/")

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [head.path.removeprefix("/keys/") for head in self.heads]

    def publish(self, kid: str, signer: SigningKey) -> None:
        """Put a key's file there."""
        self.files[kid] = signer.public.to_pem().encode()

    def _talk_http(self, _: Peer, connection: socket.socket) -> None:
        head = self.read_head(connection)
        connection.sendall(self.instead or self._answer(head))

    def _answer(self, head: Head) -> bytes:
        body = self.files.get(head.path.removeprefix("/keys/"))
        if body is None:
            return answer(b"no such file", status=self.missing, kind="text/plain")
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        fields = [f"ETag: {etag}", f"Cache-Control: {self.cache_control}"]
        if head.fields.get("if-none-match") == etag:
            return answer(b"", *fields, status="304 Not Modified", kind=None)
        return answer(body, *fields, kind=PEM)


LOOPBACK = "version = 1\n[defaults]\nallow_loopback_http = true\n"


def vouching(*servers: str, issuer: str = ISSUER, service: str = SERVICE, relaxed: str = "") -> str:
    """The lines of a trust file by which an ASAP issuer vouches for a service."""
    listed = ", ".join(f'"{server}"' for server in servers)
    return f"""[foreign_issuers."{issuer}"]
profile = "asap"
asap_key_servers = [{listed}]
{relaxed}
[[subject]]
issuer = "{issuer}"
subject = "{issuer}"
service = "{service}"
"""


def allowing(service: str = SERVICE, audience: str = WALLETS) -> str:
    """The lines by which a service may call another."""
    return f"""[[allow]]
issuer = "{service}"
audience = "{audience}"
scopes = ["cards:read"]
"""


def trust(*servers: str, relaxed: str = "", more: str = "") -> TrustConfig:
    """`team/edge` vouches for edge, which may call wallets."""
    text = LOOPBACK + vouching(*servers, relaxed=relaxed) + allowing() + more
    return TrustConfig.parse(text).for_audiences([WALLETS])


def source(*servers: str, kid: str = KID, **changes: Any) -> ForeignIssuer:
    """The entry of one key."""
    entry = trust(*servers).foreign_issuers[ISSUER]
    return msgspec.structs.replace(entry, asap_key=kid, **changes)


def token(
    signer: SigningKey | None = None,
    *,
    kid: str = KID,
    head: Mapping[str, Any] | None = None,
    now: int = NOW,
    **changes: Any,
) -> bytes:
    """As their signer makes it; `ABSENT` removes a member."""
    signer = signer or key()
    header = {"alg": signer.alg, "kid": kid, "typ": "JWT", **(head or {})}
    claims = {
        "iss": ISSUER,
        "sub": ISSUER,
        "aud": WALLETS,
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "jti": f"{now}:2834598234",
        **changes,
    }
    parts = [
        {name: value for name, value in part.items() if value is not ABSENT} for part in (header, claims)
    ]
    return sign(parts[0], parts[1], signer)


class Wallets:
    """Our receiver, with a clock that is set by hand."""

    def __init__(self, config: TrustConfig) -> None:
        self.clock = Clock()
        self.resolver = KeyResolver(JWKSCacheLimits())
        self.client = JWKSClient(self.resolver, config, self.clock)
        self.verifier = Verifier(audiences=[WALLETS], trust=config, resolver=self.resolver)

    def verify(self, what: bytes | None = None) -> Principal:
        """Verify in this thread; without a token, one that is good now."""
        what = what or token(now=int(self.clock()))
        known = self.verifier.cached(what, self.clock())
        return known or drive(self.verifier.verify(what, self.clock()), self.client, self.clock)

    def refresh(self) -> None:
        """Do what the housekeeper does, and wait for it."""
        self.client.refresh_due()
        for future in list(self.client._in_flight.values()):
            future.result(20)

    def __enter__(self) -> Wallets:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
