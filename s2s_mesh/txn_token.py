"""Transaction tokens: one service of a trust domain has verified a user, and says so to all the others.

draft-ietf-oauth-transaction-tokens-10 (standards (c), mode C). The token travels unchanged from service to
service, each of which adds its own service token and binds it to this one by `tth`. The draft's `sub` is
unique in the trust domain only; `sub_id` (RFC 9493) says whose user it is, as in our service tokens, and is
required here, as `iss` is, by which the key is found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from . import users
from .claims import ClaimRules, check_times, new_token_id, split_scopes
from .errors import Reason, TokenRejected
from .identity import EndUser

TYPE = "txntoken+jwt"
DEFAULT_LIFE = 300
MAX_LIFE = 900  # seconds; minutes, says the draft


class TxnToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claims set that obeys its rules.

    Attributes:
        user: whom it names, for how long, in which transaction; without the token itself.
        scopes: what the transaction is for, at most.
    """

    user: EndUser
    scopes: frozenset[str]


class _Rules(msgspec.Struct, frozen=True, gc=False):
    """`ClaimRules` of an issuer, with the life of this kind of token."""

    issuer: str
    leeway: float
    max_token_life: float = MAX_LIFE


def build(
    *,
    issuer: str,
    trust_domain: str,
    user: EndUser,
    scopes: Collection[str],
    now: float,
    life: int = DEFAULT_LIFE,
    tctx: Mapping[str, Any] | None = None,
    rctx: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The claims of a new transaction token (section 5.2). None of the user's own tokens is in it.

    Args:
        issuer: ourselves: who mints, and `req_wl`, the service that asked for it.
        trust_domain: within which it holds.
        user: verified, not expired; the token does not outlive it.
        scopes: what the transaction is for, as narrowly as possible.
        now: Unix seconds.
        life: seconds until it expires, at most.
        tctx, rctx: JSON objects: what must not change on the way, and the circumstances.
    """
    issued_at = int(now)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": trust_domain,
        "iat": issued_at,
        "exp": int(min(issued_at + life, user.expires_at)),
        "txn": new_token_id(),
        **users.identity_claims(user),
        "scope": " ".join(sorted(scopes)),
        "req_wl": issuer,
    }
    contexts = {"tctx": tctx, "rctx": rctx}
    return {**claims, **{name: value for name, value in contexts.items() if value is not None}}


def validate(
    claims: Mapping[str, Any], rules: ClaimRules, trust_domain: str, services: Collection[str], now: float
) -> TxnToken:
    """Check every claim (section 5.2; standards (c) mode C). `jti` is not used: `txn` may come many times.

    Args:
        claims: as decoded; not authentic before the signature holds.
        rules: of the issuer that may mint. Its longest token life is not that of a transaction token.
        trust_domain: for which it may.
        services: ids of services, which no user may have.
        now: Unix seconds.

    Raises:
        TokenRejected: naming the first claim that does not hold.
    """
    if claims.get("iss") != rules.issuer:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not the issuer whose rules apply")
    if claims.get("aud") != trust_domain:
        raise TokenRejected(Reason.WRONG_AUDIENCE, f"aud is not the trust domain {trust_domain}")
    _, expires_at = check_times(claims, _Rules(rules.issuer, rules.leeway), now)
    if claims.get("req_wl") != rules.issuer:
        raise _bad("req_wl is not the issuer, which mints for itself only")
    if "cnf" in claims or "act" in claims:
        raise _bad("a transaction token has neither cnf nor act")
    for name in ("tctx", "rctx"):
        if not isinstance(claims.get(name, {}), dict):
            raise _bad(f"{name} is not an object")
    if claims.get("txn") is None:
        raise _bad("txn is missing")
    user = users.identity(claims, issuer=users.user_issuer(claims), services=services, expires_at=expires_at)
    return TxnToken(user=user, scopes=split_scopes(claims.get("scope")))


def _bad(detail: str) -> TokenRejected:
    return TokenRejected(Reason.BAD_USER, detail)
