"""Keys for models: real ones, of two kinds, quickly made and the same in every run."""

from __future__ import annotations

import functools
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwcrypto import jwk

from s2s_mesh.keys import SigningKey, VerificationKey, thumbprint

ALGORITHMS = ("ES256", "Ed25519")


@functools.cache
def pool(number: int, alg: str = "ES256") -> SigningKey:
    """The n-th of an endless row of real keys, the same ones in every run."""
    private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if alg == "ES256":
        private = ec.derive_private_key(2**200 + number, ec.SECP256R1())
    else:
        private = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % number).digest())
    members = jwk.JWK.from_pyca(private).export(as_dict=True)
    public = {name: members[name] for name in ("kty", "crv", "x", "y") if name in members}
    return SigningKey(
        VerificationKey.parse({**public, "alg": alg, "kid": thumbprint(public)}), {"d": members["d"]}
    )


class Keys:
    """Hands out a new key of the pool each time.

    Attributes:
        made: all of them, by kid.
    """

    def __init__(self) -> None:
        self.made: dict[str, SigningKey] = {}

    def __call__(self, alg: str = "ES256") -> SigningKey:
        key = pool(len(self.made) + 1, alg)
        self.made[key.kid] = key
        return key
