"""Workload Identity Tokens: an issuer names the key with which one of its processes proves its requests.

draft-ietf-wimse-workload-creds section 5.1; standards (b). Issuer and workload are the same service here, so
`sub` is `iss`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .claims import ClaimRules, check_times, check_token_id, new_token_id
from .errors import JWKSInvalid, Reason, TokenRejected
from .keys import UnusableKey, VerificationKey, thumbprint

TYPE = "wit+jwt"
LIFE = 3600  # seconds; none that lives longer is accepted
_PUBLIC = ("kty", "crv", "x", "y", "n", "e", "alg")


class ProofKey(msgspec.Struct, frozen=True, gc=False):
    """A public key that proves requests.

    Attributes:
        alg: as the WIT writes it; a proof's header must write the same.
        key: verifies.
        thumbprint: RFC 7638, what `cnf.jkt` of the access token must be.
    """

    alg: str
    key: VerificationKey
    thumbprint: str

    @classmethod
    def parse(cls, jwk: Any, *, legacy_eddsa: bool = False) -> ProofKey:
        """Check a `cnf.jwk`.

        Args:
            jwk: decoded; `alg` is required (workload-creds section 5.1), other members are ignored.
            legacy_eddsa: read `EdDSA` with the curve Ed25519 as RFC 9864's `Ed25519`, as the draft's own
                example needs. No door accepts it.

        Raises:
            TokenRejected: not a public key of ours, or one that holds private members.
        """
        if not isinstance(jwk, dict):
            raise TokenRejected(Reason.BAD_WIT, "cnf.jwk is not an object")
        alg = jwk.get("alg")
        known = "Ed25519" if legacy_eddsa and alg == "EdDSA" else alg
        try:
            # the id is of no meaning outside of a set; ours is the thumbprint
            key = VerificationKey.parse({**jwk, "alg": known, "kid": "cnf"})
        except UnusableKey as why:
            raise TokenRejected(Reason.BAD_WIT, f"cnf.jwk: {why}") from None
        except JWKSInvalid:
            raise TokenRejected(Reason.BAD_WIT, "cnf.jwk holds private or symmetric key material") from None
        return cls(str(alg), key, thumbprint(key.public_jwk))


class _Rules(msgspec.Struct, frozen=True, gc=False):
    """`ClaimRules` of an issuer, with the life of this kind of token."""

    issuer: str
    leeway: float
    max_token_life: float = LIFE


class Wit(msgspec.Struct, frozen=True, gc=False):
    """A claims set that obeys its rules.

    Attributes:
        token_id: `jti`.
        proof_key: `cnf.jwk`.
        not_before: Unix seconds from which it may be accepted, leeway included.
        expires_at: Unix seconds, `exp` as written.
    """

    token_id: str
    proof_key: ProofKey
    not_before: float
    expires_at: int


def build(*, issuer: str, key: VerificationKey, now: float) -> dict[str, Any]:
    """The claims of a new WIT.

    Args:
        issuer: ourselves.
        key: the public half of the proof key.
        now: Unix seconds.
    """
    issued_at = int(now)
    jwk = {name: key.public_jwk[name] for name in _PUBLIC if name in key.public_jwk}
    return {
        "iss": issuer,
        "sub": issuer,
        "iat": issued_at,
        "exp": issued_at + LIFE,
        "jti": new_token_id(),
        "cnf": {"jwk": jwk},
    }


def validate(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> Wit:
    """Check every claim (workload-creds section 5.1; standards (b)).

    Args:
        claims: as decoded; not authentic before the signature holds.
        rules: of the issuer of the access token beside it. Its longest token life is not that of a WIT.
        now: Unix seconds.

    Raises:
        TokenRejected: naming the first claim that does not hold.
    """
    if claims.get("iss") != rules.issuer:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not the issuer of the access token")
    if claims.get("sub") != rules.issuer:
        raise TokenRejected(Reason.BAD_SUBJECT, "sub is not the issuer itself")
    if "aud" in claims:
        raise TokenRejected(Reason.WRONG_AUDIENCE, "a WIT has no aud")
    not_before, expires_at = check_times(claims, _Rules(rules.issuer, rules.leeway), now)
    token_id = check_token_id(claims)
    cnf = claims.get("cnf")
    if not isinstance(cnf, dict) or len(cnf) != 1:
        raise TokenRejected(Reason.BAD_WIT, "cnf is not one jwk")
    return Wit(token_id, ProofKey.parse(cnf.get("jwk")), not_before, expires_at)
