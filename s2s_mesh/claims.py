"""The claims of a service token (RFC 9068 section 2.2): built, and validated at a given `now`.

Validation happens once, before any key is looked up, on the bytes that the signature covers; its result is
authentic only after the signature holds (`verifier.py`).
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from . import users
from .errors import ConfigError, Reason, TokenRejected
from .identity import EndUser
from .jws import b64url_encode

DEFAULT_LIFE = 120
MIN_LIFE, MAX_LIFE = 10, 900
_MAX_TIME = 2**53
_MAX_JTI = 256
_MAX_SCOPES = 100
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)


JKT, X5T = "jkt", "x5t#S256"


class Confirmation(NamedTuple):
    """What a token is bound to: the one member of its `cnf` (RFC 7800).

    Attributes:
        method: `jkt`, a key (RFC 9449 section 6.1); `x5t#S256`, a client certificate (RFC 8705 section 3.1).
        thumbprint: SHA-256 of that key (RFC 7638) or certificate (DER), base64url without padding.
    """

    method: str
    thumbprint: str


def no_certificate() -> str:
    """The thumbprint of the client certificate where nobody looks for one.

    Raises:
        TokenRejected: always; a bound token is never good as a plain bearer.
    """
    raise TokenRejected(
        Reason.PROOF_MISSING, "the token is bound to a certificate (cnf) and came where none is looked for"
    )


class ClaimRules(Protocol):
    """What the claims of one issuer must say; `IssuerTrust` is one."""

    @property
    def issuer(self) -> str:
        """As the trust file has it."""

    @property
    def leeway(self) -> float:
        """Seconds of clock difference that are forgiven."""

    @property
    def max_token_life(self) -> float:
        """Seconds from `iat` to `exp` at most."""


class Claims(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claims set that obeys its rules.

    Attributes:
        subject, audience: who calls whom.
        token_id: `jti`.
        not_before: Unix seconds from which it may be accepted, leeway included.
        expires_at: Unix seconds, `exp` as written.
        scopes: what it asks for; None where the claim is absent.
        confirmation: what the token is bound to; None for a plain bearer token.
        user: on whose behalf the caller acts, or None; whether it may is not looked at.
    """

    subject: str
    audience: str
    token_id: str
    not_before: float
    expires_at: int
    scopes: frozenset[str] | None
    confirmation: Confirmation | None
    user: EndUser | None = None


def new_token_id() -> str:
    """A `jti`: 128 random bits (I-C6)."""
    return b64url_encode(secrets.token_bytes(16)).decode()


def build(
    *,
    issuer: str,
    audience: str,
    scopes: Collection[str] | None,
    now: float,
    life: int,
    confirmation: Confirmation | None = None,
    user: EndUser | None = None,
) -> dict[str, Any]:
    """The claims of a new service token (I-C1 to I-C7).

    Args:
        issuer: ourselves; also `client_id` and, without a user, `sub` (RFC 9068 section 2.2).
        audience: the one service it is for.
        scopes: what to ask for; None leaves the claim out, which asks for all that is granted.
        now: Unix seconds.
        life: seconds until it expires.
        confirmation: what to bind it to; None for a plain bearer token.
        user: on whose behalf we call, checked (`users.check`); the token does not outlive it.

    Raises:
        ConfigError: no token can carry this user.
    """
    issued_at = int(now)
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": issuer,
        "client_id": issuer,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + life,
        "jti": new_token_id(),
    }
    if confirmation is not None:
        claims["cnf"] = {confirmation.method: confirmation.thumbprint}
    if scopes is not None:
        claims["scope"] = " ".join(sorted(scopes))
    if user is not None:
        claims.update(users.claims_of(user, issuer))
        claims["exp"] = int(min(claims["exp"], user.expires_at))
    return claims


def check_scopes(scopes: Collection[str]) -> frozenset[str]:
    """Check scopes that a person wrote (RFC 6749 section 3.3).

    Raises:
        ConfigError: none at all, a bare string, too many, or a character that no scope has.
    """
    if isinstance(scopes, str) or not scopes or len(scopes) > _MAX_SCOPES:
        raise ConfigError(
            f"scopes must be a list of 1 to {_MAX_SCOPES} scopes; leave it out to ask for all granted"
        )
    for scope in scopes:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise ConfigError(f"{scope!r} is not a scope: no spaces, quotes or backslashes, ASCII only")
    return frozenset(scopes)


def validate(
    claims: Mapping[str, Any],
    rules: ClaimRules,
    audiences: Collection[str],
    now: float,
    *,
    with_proof: bool = False,
    certificate: Callable[[], str] = no_certificate,
    services: Collection[str] = (),
) -> Claims:
    """Check every claim of a service token (standards (a)2 steps 9 and 12).

    Args:
        claims: as decoded.
        rules: of the issuer found in the trust file.
        audiences: our own identifiers.
        now: Unix seconds.
        with_proof: whether a proof came along, which the caller checks against `Claims.confirmation`;
            without, a token that is bound to a key is refused.
        certificate: the thumbprint of the client certificate, for a token that is bound to one; raises
            `TokenRejected` where there is none.
        services: ids of services, which no user may have.

    Raises:
        TokenRejected: naming the first claim that does not hold.
    """
    if claims.get("iss") != rules.issuer:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not the issuer whose rules apply")
    audience = _audience(claims.get("aud"), audiences)
    not_before, expires_at = check_times(claims, rules, now)
    user = None
    if "act" in claims or "sub_id" in claims:
        user = users.read(claims, rules.issuer, services, expires_at)
    bound = None
    if "cnf" in claims:
        bound = confirmation(claims["cnf"], with_proof=with_proof, certificate=certificate)
    if user is None and not claims.get("sub") == claims.get("client_id") == rules.issuer:
        raise TokenRejected(
            Reason.BAD_SUBJECT, "sub or client_id is not the issuer itself, and no user is carried"
        )
    return Claims(
        subject=rules.issuer if user is None else user.subject,
        audience=audience,
        token_id=check_token_id(claims),
        not_before=not_before,
        expires_at=expires_at,
        scopes=split_scopes(claims["scope"]) if "scope" in claims else None,
        confirmation=bound,
        user=user,
    )


def check_token_id(claims: Mapping[str, Any]) -> str:
    """The `jti`.

    Raises:
        TokenRejected: it is not a string of 1 to 256 characters.
    """
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
        raise TokenRejected(Reason.BAD_JTI, f"jti must be a string of 1 to {_MAX_JTI} characters")
    return jti


def confirmation(cnf: Any, *, with_proof: bool, certificate: Callable[[], str]) -> Confirmation:
    """What a token is bound to; a certificate is compared here, a key by whoever verifies the proof.

    Args:
        cnf: the claim; foreign.
        with_proof, certificate: as for `validate`.

    Raises:
        TokenRejected: `PROOF_MISSING` or `PROOF_MISMATCH`.
    """
    if isinstance(cnf, dict) and cnf.keys() == {X5T}:
        # in plain comparison: neither is a secret, and whoever sent the token can read what it says
        if certificate() != cnf[X5T]:
            raise TokenRejected(
                Reason.PROOF_MISMATCH, "the token is bound (cnf) to another certificate than the client's"
            )
        return Confirmation(X5T, cnf[X5T])
    if not with_proof:
        # RFC 9449 section 7.2: a bound token is never good as a plain bearer
        raise TokenRejected(
            Reason.PROOF_MISSING, "the token is bound to a key (cnf) but came as a plain bearer"
        )
    jkt = cnf.get(JKT) if isinstance(cnf, dict) and len(cnf) == 1 else None
    if not isinstance(jkt, str):
        raise TokenRejected(
            Reason.PROOF_MISMATCH, "cnf is neither one jkt nor one x5t#S256, the bindings that are known here"
        )
    return Confirmation(JKT, jkt)


def _audience(aud: Any, own: Collection[str]) -> str:
    if isinstance(aud, list) and len(aud) == 1:
        aud = aud[0]
    if not isinstance(aud, str) or aud not in own:
        raise TokenRejected(
            Reason.WRONG_AUDIENCE, "aud must be exactly one of this service's own identifiers"
        )
    return aud


def check_times(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> tuple[float, int]:
    """Check `iat`, `nbf` and `exp` (standards (a)2, "Time").

    Returns:
        Unix seconds from which the token may be accepted, leeway included, and `exp` as written.

    Raises:
        TokenRejected: one of them is malformed, or it is not the time.
    """
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    not_before = claims.get("nbf", issued_at)
    # type() and not isinstance(): True is an int in Python
    if type(issued_at) is not int or type(expires_at) is not int or type(not_before) is not int:
        raise TokenRejected(Reason.BAD_TIME_CLAIM, "iat, exp or nbf is not whole Unix seconds")
    if not (0 < issued_at < expires_at < _MAX_TIME and 0 < not_before < _MAX_TIME):
        raise TokenRejected(Reason.BAD_TIME_CLAIM, "iat, exp or nbf is out of range, or exp is not after iat")
    if not_before < issued_at:
        not_before = issued_at
    leeway = rules.leeway
    if expires_at - issued_at > rules.max_token_life:
        raise TokenRejected(
            Reason.LIFE_TOO_LONG,
            f"lives {expires_at - issued_at} s; at most {rules.max_token_life:g} s are allowed",
        )
    if expires_at <= now - leeway:
        raise TokenRejected(Reason.EXPIRED, f"expired {now - expires_at:.0f} s ago; leeway is {leeway:g} s")
    if not_before > now + leeway:
        raise TokenRejected(
            Reason.NOT_YET_VALID, f"valid only in {not_before - now:.0f} s; leeway is {leeway:g} s"
        )
    return not_before - leeway, expires_at


def split_scopes(scope: Any) -> frozenset[str]:
    """The scopes of a `scope` claim.

    Raises:
        TokenRejected: `BAD_SCOPE`, not as RFC 6749 section 3.3 writes it.
    """
    if not isinstance(scope, str):
        raise TokenRejected(Reason.BAD_SCOPE, "scope must be one space-delimited string")
    return _split(scope)


@functools.lru_cache(maxsize=256)
def _split(scope: str) -> frozenset[str]:
    """The scopes of a claim; a caller asks for the same ones with every token, so the last 256 are kept."""
    scopes = scope.split(" ")
    if len(scopes) > _MAX_SCOPES or not all(map(_SCOPE.fullmatch, scopes)):
        raise TokenRejected(
            Reason.BAD_SCOPE, "scope is empty, too long, or not as RFC 6749 section 3.3 writes it"
        )
    return frozenset(scopes)
