"""Workload Proof Tokens: one request, signed for by the key that a WIT names.

draft-ietf-wimse-wpt-02 section 2, with the additions of profile `wpt-02` (standards (b)): `iat` and `htm` are
required.
"""

from __future__ import annotations

from typing import Any

import msgspec

from . import jws
from .claims import check_times, check_token_id, new_token_id
from .errors import Reason, TokenRejected
from .jws import token_hash
from .keys import SigningKey
from .strict_json import encode
from .target_uri import TargetURI
from .users import USER_TOKEN_FIELD
from .wit import ProofKey

TYPE = "wpt+jwt"
LIFE = 60  # seconds, of those we make
MAX_LIFE = 120  # seconds, of those we accept


class Binding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a proof is bound to.

    Attributes:
        method: of the request, as sent.
        uri: where the request goes.
        wit: the Workload Identity Token beside it.
        access_token: what stands behind `Bearer`.
        txn_token: the transaction token beside it, or None.
        user_token: the user's own token beside it, or None.
    """

    method: str
    uri: TargetURI
    wit: bytes
    access_token: bytes
    txn_token: bytes | None = None
    user_token: bytes | None = None

    @property
    def others(self) -> dict[str, str]:
        """`oth`: hashes of what travels beside it and has no claim of its own, by field (section 2)."""
        return {} if self.user_token is None else {USER_TOKEN_FIELD: token_hash(self.user_token)}


class Wpt(msgspec.Struct, frozen=True, gc=False):
    """A proof that holds; what is left is that it may be used once.

    Attributes:
        token_id: `jti`.
        expires_at: Unix seconds, `exp` as written.
    """

    token_id: str
    expires_at: int


class _Rules(msgspec.Struct, frozen=True, gc=False):
    issuer: str
    leeway: float
    max_token_life: float = MAX_LIFE


def sign(key: SigningKey, binding: Binding, now: float) -> str:
    """A new proof for one request.

    Args:
        key: the private half of the key that the WIT names.
        binding: the request, and what travels with it.
        now: Unix seconds.
    """
    issued_at = int(now)
    claims: dict[str, Any] = {
        "aud": str(binding.uri),
        "iat": issued_at,
        "exp": issued_at + LIFE,
        "jti": new_token_id(),
        "wth": token_hash(binding.wit),
        "ath": token_hash(binding.access_token),
        "htm": binding.method,
    }
    if binding.txn_token is not None:
        claims["tth"] = token_hash(binding.txn_token)
    if binding.others:
        claims["oth"] = binding.others
    return key.sign_compact(jws.b64url_encode(encode({"alg": key.alg, "typ": TYPE})), claims)


def verify(
    token: bytes, key: ProofKey, binding: Binding, *, now: float, leeway: float, additions: bool = True
) -> Wpt:
    """Check a proof in the order of standards (b).

    Args:
        token: the field's value.
        key: from the WIT.
        binding: what the receiver sees; its URI has the configured origin, never that of the Host field.
        now: Unix seconds.
        leeway: seconds by which clocks may differ.
        additions: whether `iat` and `htm` must be there. The draft's own example has neither; no door does
            without.

    Raises:
        TokenRejected: naming the first thing that does not hold.
    """
    decoded = jws.decode(token, with_kid=False)
    header, claims = decoded.header, decoded.claims
    if header.typ != TYPE:
        raise TokenRejected(Reason.BAD_TYPE, f"expected typ {TYPE}")
    if header.alg != key.alg:
        raise TokenRejected(Reason.KEY_MISMATCH, f"alg is not {key.alg} as in cnf.jwk")
    if not key.key.verify(decoded.signing_input, decoded.signature):
        raise TokenRejected(Reason.BAD_SIGNATURE, "the signature is not that of the key in cnf.jwk")
    _check_target(claims.get("aud"), binding.uri)
    if not additions:
        claims = {"iat": int(now), "htm": binding.method, **claims}
    check_times(claims, _Rules("", leeway), now)
    for name, bound in (
        ("wth", binding.wit),
        ("ath", binding.access_token),
        ("tth", binding.txn_token),
    ):
        if claims.get(name) != (None if bound is None else token_hash(bound)):
            raise TokenRejected(Reason.BAD_WPT, f"{name} is not the hash of the token beside it")
    if claims.get("oth", {}) != binding.others:
        raise TokenRejected(Reason.BAD_WPT, "oth is not the hashes of the other fields that are known here")
    if claims.get("htm") != binding.method:
        raise TokenRejected(Reason.BAD_WPT, "htm is not the method of the request")
    return Wpt(check_token_id(claims), claims["exp"])


def _check_target(aud: Any, uri: TargetURI) -> None:
    try:
        matches = isinstance(aud, str) and TargetURI.parse(aud) == uri
    except ValueError as why:
        raise TokenRejected(Reason.WRONG_AUDIENCE, f"aud: {why}") from None
    if not matches:
        raise TokenRejected(Reason.WRONG_AUDIENCE, f"aud is not {uri}")
