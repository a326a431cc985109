"""A user's own token, made by an identity provider: what it must say to be evidence of that user.

Its form is not that of our tokens: `typ` is often left out, times may be fractions, `aud` may be a list. All
of it is checked as strictly as that allows (standards (a)2, (c) mode B, rules U2 and U5).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from . import users
from .claims import check_times
from .errors import Reason, TokenRejected
from .identity import EndUser
from .trust import UserIssuer

UNTYPED = "jwt"  # what a token without `typ` counts as (RFC 7519 section 5.1)
_MAX_AUDIENCES = 10


class UserToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user's token that obeys its rules; authentic only after its signature holds.

    Attributes:
        user: whom it names, until when, and how it logged in; without the token itself.
        token_id: `jti`; "" where the provider gives none.
    """

    user: EndUser
    token_id: str


def validate(
    claims: Mapping[str, Any],
    rules: UserIssuer,
    now: float,
    *,
    audiences: Collection[str],
    services: Collection[str],
) -> UserToken:
    """Check every claim that decides something; others are ignored.

    Args:
        claims: as decoded.
        rules: of the identity provider found in the trust file.
        now: Unix seconds.
        audiences: of which one must stand in `aud`.
        services: ids of services, which no user may have.

    Raises:
        TokenRejected: naming the first claim that does not hold.
    """
    if claims.get("iss") != rules.issuer:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not the identity provider whose rules apply")
    _check_audience(claims.get("aud"), audiences, several=rules.multi_aud)
    _, expires_at = check_times(_whole_times(claims), rules, now)
    if "act" in claims:
        raise _bad("the token is that of somebody who acts for the user (act), not the user's own")
    # whatever the provider calls a transaction is none of ours
    own = {name: value for name, value in claims.items() if name != "txn"}
    if "auth_time" in own:
        own["auth_time"] = _whole(own["auth_time"], math.floor)
    user = users.identity(own, issuer=rules.issuer, services=services, expires_at=expires_at)
    jti = claims.get("jti")
    return UserToken(user=user, token_id=jti if isinstance(jti, str) else "")


def check_may_act(claims: Mapping[str, Any], caller: str) -> None:
    """Where a token says who may act for its user, that is this caller and nobody else (RFC 8693, 4.4).

    Args:
        claims: as decoded.
        caller: the service that carries the user, verified.

    Raises:
        TokenRejected: `BAD_USER`.
    """
    if "may_act" not in claims:
        return
    named = claims["may_act"]
    # services are their own issuers, so what is left out is the same
    if not isinstance(named, dict) or named.get("sub") != caller or named.get("iss", caller) != caller:
        raise _bad(f"may_act does not name {caller}, which carries the user")


def check_bound(claims: Mapping[str, Any], proved: str | None) -> None:
    """Refuse a token that is bound to a key as a plain bearer (RFC 9449 section 7.2).

    Args:
        claims: as decoded.
        proved: thumbprint of the key whose possession was proved to us; None for none.

    Raises:
        TokenRejected: `PROOF_MISSING`, or `PROOF_MISMATCH`.
    """
    if "cnf" not in claims:
        if proved is not None:
            raise TokenRejected(Reason.PROOF_MISMATCH, "the token is bound to no key; a proof came along")
        return
    if proved is None:
        raise TokenRejected(Reason.PROOF_MISSING, "the token is bound to a key (cnf), and nobody proved it")
    if claims["cnf"] != {"jkt": proved}:
        raise TokenRejected(Reason.PROOF_MISMATCH, "cnf is not one jkt, that of the key that was proved")


def _check_audience(aud: Any, accepted: Collection[str], *, several: bool) -> None:
    named = aud if isinstance(aud, list) else [aud]
    if (
        not 0 < len(named) <= (_MAX_AUDIENCES if several else 1)
        or not all(isinstance(one, str) for one in named)
        or not any(one in accepted for one in named)
    ):
        among = "among its audiences" if several else "as its only audience"
        raise TokenRejected(
            Reason.WRONG_AUDIENCE, f"expected {' or '.join(sorted(accepted)) or 'nobody'} {among}"
        )


def _whole_times(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Times as whole seconds: a token is never good for longer than it says."""
    roundings = {"iat": math.floor, "nbf": math.ceil, "exp": math.floor}
    return {name: _whole(claims[name], how) for name, how in roundings.items() if name in claims}


def _whole(value: Any, rounding: Any) -> Any:
    # NaN and infinity are no JSON to `strict_json`; huge ones are out of range for `check_times`
    return rounding(value) if type(value) is float else value


def _bad(detail: str) -> TokenRejected:
    return TokenRejected(Reason.BAD_USER, detail)
