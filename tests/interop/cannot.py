"""What foreign verifiers cannot do: the one list, with the reason and what they say instead."""

from __future__ import annotations

from typing import NamedTuple


class Limit(NamedTuple):
    """One of them.

    Attributes:
        because: the reason, as the docs have it.
        says: what stands in its refusal, or "" where it says nothing.
    """

    because: str
    says: str


_RFC_9864 = "it knows the algorithm by its older name `EdDSA` only"
_RECOMMENDED = "its validator leaves the choice to joserfc, which takes ES256 and RS256 unless told otherwise"

# by verifier and algorithm
CANNOT = {
    ("jsonwebtoken + jwks-rsa", "Ed25519"): Limit("it knows no EdDSA of any name", "Unknown key type"),
    ("fast-jwt + get-jwks", "Ed25519"): Limit(
        "get-jwks turns keys into PEM with jwk-to-pem, which knows RSA and EC", "Cannot fetch key"
    ),
    ("Envoy jwt_authn", "Ed25519"): Limit(_RFC_9864, "Jwt header [alg] is not supported"),
    ("mod_auth_openidc", "Ed25519"): Limit("its library cjose knows no EdDSA of any name", ""),
    ("PyJWKClient", "Ed25519"): Limit(_RFC_9864, "did not contain any usable keys"),
    ("Authlib", "ES384"): Limit(_RECOMMENDED, "is not recommended"),
    ("Authlib", "PS256"): Limit(_RECOMMENDED, "is not recommended"),
    ("Authlib", "Ed25519"): Limit(_RECOMMENDED, "is not recommended"),
}
