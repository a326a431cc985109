"""Proof of possession beside a bound access token (profile `wpt-02`): which fields, order and refusals.

The access token is verified first, as any other; then its `cnf.jkt` must be the key that the WIT names, and
the WPT must be that key's, for this request (standards (b), (a)2 step 13).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from . import wpt
from .claims import JKT
from .effects import Answer, Effect
from .errors import ProofRejected, Reason, TokenRejected
from .identity import Principal, ServiceId
from .target_uri import TargetURI
from .users import TXN_TOKEN_FIELD, USER_TOKEN_FIELD
from .verifier import Verifier

_WIT, _WPT = b"workload-identity-token", b"workload-proof-token"
_TXN, _USER = TXN_TOKEN_FIELD.encode(), USER_TOKEN_FIELD.encode()
_EVIDENCE = frozenset({_TXN, _USER})
_FIELDS = frozenset({_WIT, _WPT}) | _EVIDENCE


class Presented(NamedTuple):
    """The tokens beside the access token, exactly one of each kind; foreign."""

    wit: bytes
    wpt: bytes
    txn: bytes | None
    user_token: bytes | None


def is_field(name: bytes) -> bool:
    """Whether a field, by its lower-case name, belongs to a proof, or to a user, or looks like one that does.

    Some servers and gateways take an underscore for a hyphen, so such a field is looked at, and refused
    (standards (e) row 71).
    """
    return name in _FIELDS or (b"_" in name and name.replace(b"_", b"-") in _FIELDS)


def presented(fields: Sequence[tuple[bytes, bytes]]) -> Presented | None:
    """What a request presents; None where it has neither WIT nor WPT.

    Args:
        fields: every field line for which `is_field` holds: lower-case name, value.

    Raises:
        ProofRejected: a WIT without a WPT or the reverse, a field twice, or a false name.
    """
    names = [name for name, _ in fields]
    if len(set(names)) < len(names) or not set(names) <= _FIELDS or (_WIT in names) is not (_WPT in names):
        raise ProofRejected(
            Reason.PROOF_FIELDS,
            "expected Workload-Identity-Token with Workload-Proof-Token, Txn-Token and S2S-User-Token, "
            "each once at most",
        )
    values = dict(fields)
    if _WIT not in values:
        return None
    return Presented(values[_WIT], values[_WPT], values.get(_TXN), values.get(_USER))


def verify(
    verifier: Verifier,
    shown: Presented,
    *,
    method: str,
    raw_path: bytes,
    access_token: bytes,
    principal: Principal,
    now: float,
) -> Generator[Effect, Answer, wpt.Wpt]:
    """Verify the proof of a request; a flow, as `Verifier.verify` is one.

    Args:
        verifier: knows the issuers' keys.
        shown: the proof.
        method, raw_path: of the request.
        access_token, principal: the token of the request, verified.
        now: Unix seconds.

    Raises:
        ProofRejected: the WIT or the WPT is refused.
        TokenRejected: the access token is not bound to the key that the WIT names.
        Unavailable: as `Verifier.verify`.
    """
    issuer = principal.issuer
    leeway = verifier.rules(issuer).leeway
    try:
        proof_key = yield from verifier.verify_wit(shown.wit, issuer, now)
    except TokenRejected as why:
        raise _refused(Reason.BAD_WIT, "WIT", why, issuer) from None
    cnf = principal.claims.get("cnf")
    if cnf is None or cnf.get(JKT) != proof_key.thumbprint:
        raise TokenRejected(
            Reason.PROOF_MISMATCH, "the access token is not bound (cnf.jkt) to the key that the WIT names"
        ).claimed_by(issuer)
    try:
        binding = wpt.Binding(
            method=method,
            uri=_target(principal, raw_path),
            wit=shown.wit,
            access_token=access_token,
            txn_token=shown.txn,
            user_token=shown.user_token,
        )
        return wpt.verify(shown.wpt, proof_key, binding, now=now, leeway=leeway)
    except TokenRejected as why:
        raise _refused(Reason.BAD_WPT, "WPT", why, issuer) from None


def _target(principal: Principal, raw_path: bytes) -> TargetURI:
    """The origin is that of the identifier for which the token was made: configured, never from Host."""
    try:
        return TargetURI.of(ServiceId(principal.audience).origin, raw_path)
    except ValueError as why:
        raise TokenRejected(Reason.BAD_PATH, f"the request has {why}") from None


def _refused(reason: Reason, what: str, why: TokenRejected, issuer: str) -> ProofRejected:
    """One reason for each of the two tokens, except who is denied; what exactly is wrong is in the detail."""
    if why.reason is Reason.DENIED:
        reason = Reason.DENIED
    return ProofRejected(reason, f"{what}: {why}").claimed_by(issuer)
