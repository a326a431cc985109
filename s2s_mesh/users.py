"""The end user in a service token: RFC 8693's delegation shape, written and read (standards (c), mode A).

`sub` is the user, `sub_id` says whose user (RFC 9493 `iss_sub`: a bare `sub` is ambiguous between identity
providers), `act` is the service that calls, with those before it inside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from .errors import ConfigError, NoUser, Reason, TokenRejected, UserExpired
from .identity import MAX_SERVICE_ID, Actor, EndUser
from .jws import token_hash
from .strict_json import encode

MAX_ACTORS = 4  # services in `act`, the caller included
USER_TOKEN_FIELD = "s2s-user-token"  # noqa: S105
TXN_TOKEN_FIELD = "txn-token"  # noqa: S105
# what `on_behalf_of` may be: None is refused, so that nobody is not taken for the service itself
OnBehalfOf = EndUser | UnsetType | None
_ACTOR_MEMBERS = {"iss", "sub", "act"}
_SUB_ID_MEMBERS = {"format", "iss", "sub"}


def given(user: object) -> EndUser | None:
    """Return what somebody gave as `on_behalf_of`; None where it was left out (`UNSET`).

    Raises:
        NoUser: it is None, as `request.user.user` is where no user came along. Never taken for "left out".
        ConfigError: it is something else.
    """
    if user is UNSET:
        return None
    if user is None:
        raise NoUser("on_behalf_of is None: there is no user; leave it out where the service acts as itself")
    if not isinstance(user, EndUser):
        raise ConfigError(
            f"on_behalf_of is of type {type(user).__name__}; expected an EndUser, such as request.user.user"
        )
    return user


def check(user: EndUser, now: float) -> EndUser:
    """Return a user for whom one can call at `now` (Unix seconds).

    Raises:
        UserExpired: what is known of the user holds no longer.
    """
    # a token's times are whole seconds; written so that NaN is expired too
    if not user.expires_at >= int(now) + 1:
        raise UserExpired("what is known of this user has expired; the user must log in again")
    return user


def without_evidence(user: EndUser) -> EndUser:
    """The user for a token that travels alone, bound to nothing beside it."""
    if user.user_token is None and user.txn_token is None:
        return user
    return msgspec.structs.replace(user, user_token=None, txn_token=None)


def evidence_fields(user: EndUser | None) -> dict[str, str]:
    """The header fields beside Authorization that carry what a user brought as evidence."""
    brought = {} if user is None else {USER_TOKEN_FIELD: user.user_token, TXN_TOKEN_FIELD: user.txn_token}
    return {name: token for name, token in brought.items() if token is not None}


def context_hash(user: EndUser) -> str:
    """The same for the same user in the same context and for no other; holds none of the user's tokens."""
    return token_hash(encode(msgspec.structs.astuple(user)))


def claims_of(user: EndUser, issuer: str) -> dict[str, Any]:
    """What a service token says about a user (standards (c) A).

    Args:
        user: checked (`check`).
        issuer: ourselves; the services that carried the user here are named inside of our `act`.

    Raises:
        ConfigError: the user came through too many services, or through this one already; no receiver would
            accept that.
    """
    before = () if user.carried_by is None else (Actor(user.carried_by, user.carried_by),)
    actors = (Actor(issuer, issuer), *before, *user.unverified_history)
    if len(actors) > MAX_ACTORS:
        raise ConfigError(
            f"this user came through {len(actors) - 1} services already, and a token names {MAX_ACTORS} at "
            "most; for longer chains use transaction tokens"
        )
    if len(set(actors)) < len(actors):
        raise ConfigError(f"this user came through {issuer} already; a user is not carried in a circle")
    act: dict[str, Any] = {}
    for actor in reversed(actors):
        act = {"iss": actor.issuer, "sub": actor.subject, **({"act": act} if act else {})}
    claims = {**identity_claims(user), "act": act}
    if user.user_token is not None:
        claims["oth"] = {USER_TOKEN_FIELD: token_hash(user.user_token.encode())}
    if user.txn_token is not None:
        claims["tth"] = token_hash(user.txn_token.encode())
    return claims


def identity_claims(user: EndUser) -> dict[str, Any]:
    """Who the user is, and how and for what it logged in."""
    claims: dict[str, Any] = {
        "sub": user.subject,
        "sub_id": {"format": "iss_sub", "iss": user.issuer, "sub": user.subject},
    }
    for name in ("auth_time", "acr", "txn"):
        value = getattr(user, name)
        if value is not None:
            claims[name] = value
    if user.amr:
        claims["amr"] = list(user.amr)
    return claims


def read(claims: Mapping[str, Any], issuer: str, services: Collection[str], expires_at: int) -> EndUser:
    """The user of a token that has `act` or `sub_id`; rules U2 and U3 of standards (c).

    Args:
        claims: as decoded.
        issuer: who made the token, as the trust file has it.
        services: ids of services, which no user may have.
        expires_at: Unix seconds, the token's `exp`.

    Raises:
        TokenRejected: `BAD_USER`.
    """
    if claims.get("client_id") != issuer:
        raise _bad("client_id is not the issuer itself")
    actors = _actors(claims.get("act"))
    if actors[0] != Actor(issuer, issuer):
        raise _bad("act does not name the issuer of the token, which is who acts")
    return identity(
        claims,
        issuer=user_issuer(claims),
        services=services,
        expires_at=expires_at,
        carried_by=str(issuer),
        unverified_history=tuple(actors[1:]),
    )


def user_issuer(claims: Mapping[str, Any]) -> Any:
    """Whose user `sub` is, as `sub_id` says.

    Raises:
        TokenRejected: `BAD_USER`.
    """
    sub_id = claims.get("sub_id")
    if not isinstance(sub_id, dict) or sub_id.keys() != _SUB_ID_MEMBERS or sub_id["format"] != "iss_sub":
        raise _bad("sub_id is not of format iss_sub (RFC 9493 section 3.2.4)")
    if sub_id["sub"] != claims.get("sub"):
        raise _bad("sub_id names another subject than sub")
    return sub_id["iss"]


def identity(claims: Mapping[str, Any], *, issuer: Any, services: Collection[str], **known: Any) -> EndUser:
    """The user that `sub`, `auth_time`, `acr`, `amr` and `txn` describe.

    Args:
        claims: as decoded.
        issuer: the identity provider.
        services: ids of services, which no user may have.
        known: the other attributes of `EndUser`.

    Raises:
        TokenRejected: `BAD_USER`.
    """
    subject, amr = claims.get("sub"), claims.get("amr", [])
    if not isinstance(subject, str):
        raise _bad("sub is not a text")
    if subject in services:
        raise _bad("sub is the id of a service, which is never a user")
    try:
        return EndUser(
            issuer=issuer,
            subject=subject,
            auth_time=claims.get("auth_time"),
            acr=claims.get("acr"),
            amr=tuple(amr) if isinstance(amr, list) else amr,
            txn=claims.get("txn"),
            **known,
        )
    except ConfigError as error:
        raise _bad(str(error)) from None


def _actors(act: Any) -> list[Actor]:
    """Who acted, the caller first; of the others only the form is looked at (RFC 8693 section 4.1)."""
    actors: list[Actor] = []
    while True:
        if not isinstance(act, dict) or not act.keys() <= _ACTOR_MEMBERS:
            raise _bad("act is not an object of iss, sub and act")
        # services are their own issuers, so what is left out is the same
        subject = act.get("sub")
        issuer = act.get("iss", subject)
        actors.append(Actor(_service(issuer), _service(subject)))
        if "act" not in act:
            break
        act = act["act"]
    if len(actors) > MAX_ACTORS:
        raise _bad(f"act names more than {MAX_ACTORS} services")
    if len(set(actors)) < len(actors):
        raise _bad("act names the same service twice")
    return actors


def _service(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_SERVICE_ID:
        raise _bad(f"iss or sub in act is not a text of 1 to {MAX_SERVICE_ID} characters")
    return name


def _bad(detail: str) -> TokenRejected:
    return TokenRejected(Reason.BAD_USER, detail)
