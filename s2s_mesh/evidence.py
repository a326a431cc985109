"""Evidence of the end user beside the access token, for routes with `user = "proven"` and `user = "txn"`.

A service that carries users says in its own token who the user is. Here it is proved: by the user's own
token, verified again at the keys of its identity provider, or by a transaction token of the service that did
so once. Each must be bound to the service token (`oth`, `tth`) and name the same user (standards (c), modes B
and C). Evidence is verified for each request and never remembered as good; on routes that do not ask for it
nobody looks at it. It authenticates nobody: the caller is known before (U7).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

import msgspec

from . import jws, txn_token, user_token
from .effects import Answer, Effect
from .errors import Forbidden, Reason, TokenRejected
from .identity import EndUser, Principal
from .trust import RouteRule
from .txn_token import TxnToken
from .user_token import UserToken
from .users import TXN_TOKEN_FIELD, USER_TOKEN_FIELD
from .verifier import Verifier, check_header

_Fields = Sequence[tuple[bytes, bytes]]
_Flow = Generator[Effect, Answer, Principal]


def verify(
    verifier: Verifier, rule: RouteRule, *, fields: _Fields, principal: Principal, now: float
) -> _Flow:
    """The caller with the user as the evidence proves it; a flow, as `Verifier.verify` is one.

    Args:
        verifier: knows keys and the trust file.
        rule: of the route; its `user` is "proven" or "txn".
        fields: every field line for which `proof.is_field` holds: lower-case name, value; foreign.
        principal: the caller, verified, with the user that it asserts.
        now: Unix seconds.

    Raises:
        Forbidden: there is no evidence that holds, or the transaction is not for what the route does.
        Unavailable: nobody can tell just now.
    """
    asserted = principal.user
    if asserted is None:  # `Inbound.check_route` has said so before; never a user without a caller's word
        raise Forbidden(Reason.USER_REQUIRED, "no user is asserted that could be proved")
    if rule.user == "proven":
        return (yield from _proven(verifier, fields, principal, asserted, now))
    return (yield from _txn(verifier, rule, fields, principal, asserted, now))


def _proven(
    verifier: Verifier, fields: _Fields, principal: Principal, asserted: EndUser, now: float
) -> _Flow:
    token = _bound(fields, USER_TOKEN_FIELD)
    # every entry must be understood here (draft-ietf-wimse-wpt section 2 for its own `oth`)
    if principal.claims.get("oth") != {USER_TOKEN_FIELD: jws.token_hash(token)}:
        raise Forbidden(Reason.USER_UNPROVEN, "the service token is not bound (oth) to the user's token")
    try:
        proved = yield from verify_user_token(verifier, token, now, caller=principal.issuer)
    except TokenRejected as why:
        raise _refused(Reason.BAD_USER_TOKEN, "the user's token", why) from None
    user = _same(asserted, proved.user)
    return msgspec.structs.replace(
        principal, user=_carried(user, asserted, mode="proven", txn=asserted.txn, user_token=token.decode())
    )


def _txn(
    verifier: Verifier, rule: RouteRule, fields: _Fields, principal: Principal, asserted: EndUser, now: float
) -> _Flow:
    token = _bound(fields, TXN_TOKEN_FIELD)
    if principal.claims.get("tth") != jws.token_hash(token):
        raise Forbidden(Reason.USER_UNPROVEN, "the service token is not bound (tth) to the transaction token")
    try:
        proved = yield from verify_txn_token(verifier, token, principal.audience, now)
    except TokenRejected as why:
        raise _refused(Reason.BAD_TXN_TOKEN, "the transaction token", why) from None
    user = _same(asserted, proved.user)
    if asserted.txn not in (None, user.txn):
        raise Forbidden(Reason.USER_MISMATCH, "the service token names another transaction (txn)")
    missing = rule.scopes - proved.scopes
    if missing:
        raise Forbidden(
            Reason.MISSING_SCOPE,
            f"the transaction is not for {' '.join(sorted(missing))}, which {rule.path} needs",
            scope=" ".join(sorted(rule.scopes)),
        )
    return msgspec.structs.replace(
        principal,
        # the caller may do what it is granted, and for this transaction what that is for (U4)
        scopes=principal.scopes & proved.scopes,
        user=_carried(user, asserted, mode="txn", txn_token=token.decode()),
    )


def verify_user_token(
    verifier: Verifier,
    token: bytes,
    now: float,
    *,
    caller: str | None = None,
    audiences: Collection[str] | None = None,
    proved_key: str | None = None,
) -> Generator[Effect, Answer, UserToken]:
    """Verify a user's own token; a flow, as `Verifier.verify` is one.

    Args:
        verifier: knows keys and the trust file.
        token: the compact JWS.
        now: Unix seconds.
        caller: the service that carries the user; None where the user came by itself. Then a token that is
            bound to a key needs `proved_key`, because it is a credential and not evidence.
        audiences: further restricts the audiences that the trust file accepts.
        proved_key: thumbprint of the key whose possession the user has proved.

    Raises:
        TokenRejected: it is refused; `reason` says why.
        Unavailable: as `Verifier.verify`.
    """
    trust = verifier.trust
    decoded = jws.decode(token, typ_required=False)
    claims = decoded.claims
    issuer = claims.get("iss")
    known = trust.user_issuers.get(issuer) if isinstance(issuer, str) else None
    if known is None:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not an identity provider of the trust file")
    accepted = known.audiences if audiences is None else known.audiences.intersection(audiences)
    services = trust.services | verifier.audiences
    try:
        header = decoded.header._replace(typ=decoded.header.typ or user_token.UNTYPED)
        check_header(header, known, known.types)
        said = user_token.validate(claims, known, now, audiences=accepted, services=services)
        if caller is None:
            user_token.check_bound(claims, proved_key)
        else:
            user_token.check_may_act(claims, caller)
        yield from verifier.authenticate(decoded, known.issuer, said.token_id, now, said.user.subject)
    except TokenRejected as rejected:
        raise rejected.claimed_by(known.issuer) from None
    return said


def verify_txn_token(
    verifier: Verifier, token: bytes, audience: str, now: float
) -> Generator[Effect, Answer, TxnToken]:
    """Verify a transaction token; a flow, as `Verifier.verify` is one.

    Args:
        verifier: knows keys and the trust file.
        token: the field's value.
        audience: which of our own identifiers we were called by.
        now: Unix seconds.

    Raises:
        TokenRejected: it is refused; `reason` says why.
        Unavailable: as `Verifier.verify`.
    """
    trust = verifier.trust
    decoded = jws.decode(token)
    issuer, domain = decoded.claims.get("iss"), decoded.claims.get("aud")
    known = trust.issuers.get(issuer) if isinstance(issuer, str) else None
    if known is None:
        raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not an issuer that the trust file lists")
    if not any(
        (rule.issuer, rule.trust_domain, rule.audience) == (known.issuer, domain, audience)
        for rule in trust.transactions
    ):
        raise TokenRejected(
            Reason.PAIR_NOT_GRANTED, f"no [[txn]] row for its issuer and trust domain at {audience}"
        )
    check_header(decoded.header, known, {txn_token.TYPE})
    services = trust.services | verifier.audiences
    said = txn_token.validate(decoded.claims, known, str(domain), services, now)
    # by its id a transaction can be denied
    yield from verifier.authenticate(decoded, known.issuer, said.user.txn or "", now, said.user.subject)
    return said


def _bound(fields: _Fields, name: str) -> bytes:
    values = [value.strip(b" \t") for field, value in fields if field == name.encode()]
    if len(values) != 1:
        raise Forbidden(Reason.USER_UNPROVEN, f"expected one {name} field; found {len(values)}")
    return values[0]


def _same(asserted: EndUser, proved: EndUser) -> EndUser:
    if (asserted.issuer, asserted.subject) != (proved.issuer, proved.subject):
        raise Forbidden(Reason.USER_MISMATCH, "the evidence is of another user than the service token names")
    return proved


def _carried(user: EndUser, asserted: EndUser, **known: str | None) -> EndUser:
    return msgspec.structs.replace(
        user, carried_by=asserted.carried_by, unverified_history=asserted.unverified_history, **known
    )


def _refused(reason: Reason, what: str, why: TokenRejected) -> Forbidden:
    """One reason for each kind of evidence, except who is denied; what exactly is wrong is in the detail."""
    if why.reason is Reason.DENIED:
        reason = Reason.DENIED
    return Forbidden(reason, f"{what}: {why}")
