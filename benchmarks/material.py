"""One key and one token per algorithm, in every form that some library wants them."""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwcrypto import jwk as jwcrypto_jwk

from s2s_mesh import RotationSchedule, Service, TrustConfig
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import PRIVATE_MEMBERS, SigningKey, VerificationKey, thumbprint
from s2s_mesh.store.memory import MemoryStore

EDGE = "https://edge.example.com"
WALLETS = "https://wallets.example.com"
SCOPE = "cards:read cards:write"
LIFE = 900  # seconds, the longest a receiver accepts, so that no run outlives its token
_SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "RS256": ("RS256", {"kty": "RSA", "size": 2048}),
    "RS256-3072": ("RS256", {"kty": "RSA", "size": 3072}),
    "ES256": ("ES256", {"kty": "EC", "crv": "P-256"}),
    "Ed25519": ("Ed25519", {"kty": "OKP", "crv": "Ed25519"}),
}
KINDS = tuple(_SHAPES)


class Material(NamedTuple):
    """A key and what was made with it.

    Attributes:
        kind: a name out of `KINDS`.
        key: as s2s_mesh holds it; its `alg` is ours.
        peer_alg: the same algorithm under the name that other libraries know (RFC 8037's for Ed25519).
        private_key, public_key: pyca's objects.
        private_pem, public_pem: PKCS 8 and SubjectPublicKeyInfo.
        private_jwk, public_jwk: with kid, use, and the `alg` of `peer_alg`.
    """

    kind: str
    key: SigningKey
    peer_alg: str
    private_key: Any
    public_key: Any
    private_pem: bytes
    public_pem: bytes
    private_jwk: Mapping[str, str]
    public_jwk: Mapping[str, str]

    @property
    def jwks(self) -> Mapping[str, Any]:
        """The set that the issuer publishes, for the other libraries."""
        return {"keys": [self.public_jwk]}

    def token(self, *, kid: str | None = None, **changes: Any) -> str:
        """The token for us: every claim that the others' has."""
        return _sign(self, self.key.alg, kid or self.key.kid, claims(**changes))

    def peer_token(self, *, kid: str | None = None, **changes: Any) -> str:
        """The same for the others: only the name of the algorithm may differ."""
        return _sign(self, self.peer_alg, kid or self.key.kid, claims(**changes))

    def raw_verify(self) -> Callable[[], object]:
        """The bare cryptography of one verification: what no library can save."""
        signing_input, _, last = self.token().encode().rpartition(b".")
        signature = b64url_decode(last)
        if self.key.alg == "RS256":
            scheme, digest = padding.PKCS1v15(), hashes.SHA256()
            return functools.partial(self.public_key.verify, signature, signing_input, scheme, digest)
        if self.key.alg == "ES256":
            der = encode_dss_signature(
                int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            )
            return functools.partial(self.public_key.verify, der, signing_input, ec.ECDSA(hashes.SHA256()))
        return functools.partial(self.public_key.verify, signature, signing_input)

    def raw_sign(self) -> Callable[[], object]:
        """The bare cryptography of one signature."""
        signing_input = self.token().encode().rpartition(b".")[0]
        if self.key.alg == "RS256":
            return functools.partial(
                self.private_key.sign, signing_input, padding.PKCS1v15(), hashes.SHA256()
            )
        if self.key.alg == "ES256":
            return functools.partial(self.private_key.sign, signing_input, ec.ECDSA(hashes.SHA256()))
        return functools.partial(self.private_key.sign, signing_input)


@functools.cache
def material(kind: str, _name: str = "first") -> Material:
    """The material of one kind; the same for the same arguments."""
    alg, shape = _SHAPES[kind]
    members = jwcrypto_jwk.JWK.generate(**shape).export(as_dict=True)
    public = {member: value for member, value in members.items() if member not in PRIVATE_MEMBERS}
    private = {member: value for member, value in members.items() if member in PRIVATE_MEMBERS}
    named = {**public, "kid": thumbprint(public), "use": "sig"}
    key = SigningKey(VerificationKey.parse({**named, "alg": alg}), private)
    peer_alg = "EdDSA" if alg == "Ed25519" else alg
    public_jwk = {**named, "alg": peer_alg}
    private_key = jwt.PyJWK({**public_jwk, **private}).key
    public_key = private_key.public_key()
    return Material(
        kind,
        key,
        peer_alg,
        private_key,
        public_key,
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        {**public_jwk, **private},
        public_jwk,
    )


def claims(**changes: Any) -> dict[str, Any]:
    """Fresh claims of a token from edge to wallets: one shape for everybody."""
    now = int(time.time())
    return {
        "iss": EDGE,
        "sub": EDGE,
        "client_id": EDGE,
        "aud": WALLETS,
        "iat": now,
        "nbf": now,
        "exp": now + LIFE,
        "jti": secrets.token_urlsafe(16),
        "scope": SCOPE,
        **changes,
    }


def _sign(made: Material, alg: str, kid: str, payload: Mapping[str, Any]) -> str:
    parts = ({"alg": alg, "kid": kid, "typ": "at+jwt"}, payload)
    signing_input = b".".join(
        b64url_encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts
    )
    return (signing_input + b"." + b64url_encode(made.key.sign(signing_input))).decode()


# -- our two services -------------------------------------------------------------------------------------


def trust_text(source: str) -> str:
    """A trust file in which edge may call wallets; `source` is the TOML line that says where its keys are."""
    return f"""
version = 1
[defaults]
allow_loopback_http = true
[issuers."{EDGE}"]
{source}
algorithms = ["RS256", "ES256", "Ed25519"]
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
"""


def jwks_document(*made: Material) -> bytes:
    """The set that edge publishes, with our names of the algorithms."""
    return JWKSet(each.key.public for each in made).to_bytes()


def receiver(jwks_file: str, *, cache_size: int) -> Service:
    """The service wallets, which reads edge's keys from a file."""
    trust = TrustConfig.parse(trust_text(f"jwks_file = {json.dumps(jwks_file)}"))
    return Service(issuer=WALLETS, trust=trust, key_store=None, verified_cache_size=cache_size)


def caller(made: Material) -> Service:
    """The service edge, which signs with this key."""
    store = MemoryStore()
    keys = iter([made, material(made.kind, "second")])
    ring = KeyRing(EDGE, RotationSchedule.DEFAULT).advance(time.time(), generate=lambda: next(keys).key)
    store.swap(None, ring.to_bytes())
    trust = TrustConfig.parse(trust_text('jwks_uri = "https://edge.example.com/.well-known/jwks.json"'))
    return Service(issuer=EDGE, trust=trust, key_store=store, algorithm=made.key.alg)
