"""A trust domain as SPIRE serves it: keys without `alg`, random key ids, X.509 roots beside them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from s2s_mesh.keys import SigningKey

from .tokens import ABSENT, NOW, key, sign

DOMAIN = "spiffe://example.org"
SUBJECT = f"{DOMAIN}/ns/payments/sa/settlement"
KID = "Vw1ZfMVe3oFvAnZNBVzhyVkxnWmvyFQZ"
LATER_KID = "bR8nS1zqU3mXw0c2Y5pTjKd7LhGeAfIo"


def signer(alg: str = "ES256", name: str = "spire") -> SigningKey:
    """One of the authority's keys; under what id it is published is another matter."""
    return key(alg, name)


def entry(owner: SigningKey, kid: str = KID, **changes: Any) -> dict[str, Any]:
    """A key of a bundle; `ABSENT` removes a member."""
    return _present({**owner.public.public_jwk, "kid": kid, "use": "jwt-svid", "alg": ABSENT, **changes})


def x509_root() -> dict[str, Any]:
    """What a bundle holds for X.509-SVIDs: a root, without a key id."""
    root = x509.load_pem_x509_certificate(trustme.CA().cert_pem.bytes())
    members = {name: value for name, value in signer(name="x509").public.public_jwk.items() if len(name) < 4}
    encoded = base64.b64encode(root.public_bytes(Encoding.DER)).decode()
    return {**members, "kid": "", "use": "x509-svid", "x5c": [encoded]}


def bundle(*entries: Mapping[str, Any], sequence: Any = 7, hint: Any = 300) -> bytes:
    """A bundle; `ABSENT` removes a member."""
    members = {"keys": [x509_root(), *entries], "spiffe_sequence": sequence, "spiffe_refresh_hint": hint}
    return json.dumps(_present(members)).encode()


def svid(
    audience: Any, owner: SigningKey | None = None, head: Mapping[str, Any] | None = None, **changes: Any
) -> bytes:
    """A JWT-SVID as SPIRE makes it: five minutes, no `jti`, no `iss`; `ABSENT` removes a member."""
    owner = owner or signer()
    header = {"alg": owner.alg, "kid": KID, "typ": "JWT", **(head or {})}
    claims = {"aud": [audience], "exp": NOW + 300, "iat": NOW, "sub": SUBJECT, **changes}
    return sign(_present(header), _present(claims), owner)


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}
