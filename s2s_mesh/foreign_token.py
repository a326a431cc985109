"""A foreign issuer's token: whose it is, what it must say, and for which of our services it vouches.

Questions, each answered by one function, all of them before a key is looked up: `find`, `header`, `validate`
(with `audience` and `subject`), `service`. How strict `validate` is, is said in the trust file, one
relaxation at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from . import asap, svid
from .claims import Claims, check_times, check_token_id, confirmation, no_certificate, split_scopes
from .errors import Reason, TokenRejected
from .identity import ServiceId
from .jws import Header
from .trust import ForeignIssuer, TrustConfig
from .trust_values import ASAP, SPIFFE

_UNTYPED = "jwt"  # what a token without `typ` counts as (RFC 7519 section 5.1), where that is allowed
_MAX_AUDIENCES = 10
# RFC 8693, RFC 9493: somebody else is meant than whom the issuer vouches for
_OF_USERS = ("act", "sub_id")


def find(claims: Mapping[str, Any], issuers: Mapping[str, ForeignIssuer]) -> ForeignIssuer | None:
    """The issuer that a token names, byte by byte; None for any that the trust file does not list.

    A JWT-SVID names it by the trust domain of `sub`; its `iss`, where it has one, means nothing there.

    Args:
        claims: as decoded; nothing of it is authentic.
        issuers: by issuer.
    """
    issuer = claims.get("iss", "")
    if not isinstance(issuer, str):
        return None
    known = issuers.get(issuer)
    if known is None or known.profile == SPIFFE:
        known = issuers.get(svid.trust_domain_of(claims.get("sub")))
        return known if known is not None and known.profile == SPIFFE else None
    return known


def header(found: Header, rules: ForeignIssuer) -> Header:
    """The header by the issuer's rules: with the `typ` that a token without one counts as.

    Raises:
        TokenRejected: `BAD_KID`, the key is none of this issuer's.
    """
    if rules.profile == ASAP:
        asap.check_key_id(found.kid, rules.issuer)
    if not found.typ and rules.allow_missing_typ:
        return found._replace(typ=_UNTYPED)
    return found


def validate(
    claims: Mapping[str, Any],
    rules: ForeignIssuer,
    audiences: Collection[str],
    now: float,
    certificate: Callable[[], str] = no_certificate,
) -> Claims:
    """Check every claim that decides something, except whom `sub` means.

    Args:
        claims: as decoded.
        rules: of the issuer that `find` found.
        audiences: our own identifiers.
        now: Unix seconds.
        certificate: as for `claims.validate`; no other binding is good here, whatever came along.

    Raises:
        TokenRejected: naming the first claim that does not hold.
    """
    if rules.profile == SPIFFE:
        claims = svid.completed(claims, rules.issuer, now)
    if claims.get("iss") != rules.issuer:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not the issuer whose rules apply")
    own = audience(claims.get("aud"), rules, audiences)
    not_before, expires_at = check_times(claims, rules, now)
    if any(name in claims for name in _OF_USERS):
        raise TokenRejected(Reason.BAD_USER, "act or sub_id: a foreign issuer vouches for no users here")
    bound = None
    if "cnf" in claims:
        bound = confirmation(claims["cnf"], with_proof=False, certificate=certificate)
    without_id = rules.allow_missing_jti and "jti" not in claims
    return Claims(
        subject=subject(claims, rules),
        audience=own,
        token_id="" if without_id else check_token_id(claims),
        not_before=not_before,
        expires_at=expires_at,
        scopes=None if rules.ignore_scope or "scope" not in claims else split_scopes(claims["scope"]),
        confirmation=bound,
    )


def audience(aud: Any, rules: ForeignIssuer, own: Collection[str]) -> str:
    """Which of our own identifiers `aud` means.

    Args:
        aud: the claim; foreign.
        rules: of the issuer.
        own: our identifiers.

    Raises:
        TokenRejected: `WRONG_AUDIENCE`, none of them, or somebody else as well where that is not allowed.
    """
    named = aud if isinstance(aud, list) else [aud]
    most = _MAX_AUDIENCES if rules.multi_aud else 1
    if len(named) <= most and all(isinstance(one, str) for one in named):
        for one in named:
            meant: str = rules.audiences.get(one, one)
            if meant in own:
                return meant
    among = "among its audiences" if rules.multi_aud else "as its only audience"
    raise TokenRejected(
        Reason.WRONG_AUDIENCE, f"expected one of our own identifiers, or what this issuer calls us, {among}"
    )


def subject(claims: Mapping[str, Any], rules: ForeignIssuer) -> str:
    """Whom a token means: its `sub`, which in ASAP may be left out and is then the issuer.

    Raises:
        TokenRejected: `BAD_SUBJECT`, it is missing or not a text.
    """
    named = claims.get("sub", rules.issuer if rules.profile == ASAP else None)
    if not isinstance(named, str):
        raise TokenRejected(Reason.BAD_SUBJECT, "sub is missing or not a text")
    return named


def service(trust: TrustConfig, issuer: str, named: str, claims: Mapping[str, Any]) -> ServiceId:
    """The service for which a token vouches.

    Args:
        trust: whose [[subject]] rows say so.
        issuer: of the token, as the trust file has it.
        named: the token's `subject`.
        claims: as decoded, for the rows that ask for more.

    Raises:
        TokenRejected: `BAD_SUBJECT`, no row holds.
    """
    rules = trust.subjects.get((issuer, named), ())
    # `trust_foreign.py` refuses files in which two rows could hold
    for rule in rules:
        if rule.holds(claims):
            return rule.service
    wanted = "with its claims" if rules else "with this sub"
    raise TokenRejected(Reason.BAD_SUBJECT, f"no [[subject]] row of this issuer {wanted}")
