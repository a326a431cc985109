"""An identity provider for tests: a real HTTP server with discovery, and tokens for its users."""

from __future__ import annotations

import json
import socket
from typing import Any

from s2s_mesh.keys import SigningKey

from .jwks_servers import Peer, answer, jwks
from .tokens import ABSENT, EDGE, NOW, key, sign

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"
ALICE = "248289761001"


def idp_key(name: str = "login") -> SigningKey:
    """The provider's key; most sign RS256."""
    return key("RS256", name)


def user_claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Good claims of a user's token for edge at `NOW`; `ABSENT` removes a member."""
    members = {
        "iss": issuer,
        "sub": ALICE,
        "aud": EDGE,
        "iat": NOW,
        "exp": NOW + 1800,
        "jti": "login-1",
        "azp": "web-app",
        "scope": "openid cards:read cards:write",
        "auth_time": NOW - 60,
        "acr": "urn:example:loa:2",
        "amr": ["pwd", "otp"],
        **changes,
    }
    return {name: value for name, value in members.items() if value is not ABSENT}


def user_header(signer: SigningKey, **changes: Any) -> dict[str, Any]:
    """A header as most providers write it."""
    members = {"alg": signer.alg, "typ": "JWT", "kid": signer.kid, **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


def user_token(
    issuer: str, signer: SigningKey | None = None, head: dict[str, Any] | None = None, **changes: Any
) -> bytes:
    """A good token of a user, with changed header or claims where told."""
    signer = signer or idp_key()
    return sign(user_header(signer, **(head or {})), user_claims(issuer, **changes), signer)


class IdentityProvider(Peer):
    """Publishes a discovery document and a key set, at paths as common providers have them.

    Attributes:
        said: what it answers, by path; change it to make the provider hostile.
    """

    def __init__(self, *signers: SigningKey) -> None:
        self.said: dict[str, bytes] = {}
        super().__init__(self._talk_http)
        self.describe()
        self.publish(*(signers or (idp_key(),)))

    @property
    def issuer(self) -> str:
        """With a slash at the end, as Auth0 has it."""
        return self.url("/")

    def describe(self, *fields: str, **changes: Any) -> None:
        """Serve a discovery document, changed where told."""
        members = {
            "issuer": self.issuer,
            "authorization_endpoint": self.url("/authorize"),
            "token_endpoint": self.url("/token"),
            "jwks_uri": self.url(KEYS),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "acr", "amr", "auth_time"],
            **changes,
        }
        body = json.dumps({name: value for name, value in members.items() if value is not ABSENT}).encode()
        self.said[DISCOVERY] = answer(body, *fields, kind="application/json; charset=utf-8")

    def publish(self, *signers: SigningKey) -> None:
        """Serve these keys from now on."""
        self.said[KEYS] = answer(jwks(*signers), "Cache-Control: max-age=300", kind="application/json")

    def _talk_http(self, _: Peer, connection: socket.socket) -> None:
        head = self.read_head(connection)
        connection.sendall(self.said.get(head.path, answer(status="404 Not Found")))
