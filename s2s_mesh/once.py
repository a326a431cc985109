"""What is good for one request: a token on a route with `replay = "once"`, and every proof.

The last of all checks, so that nothing is used up by a request that is refused anyway (standards (a)2, 14).
"""

from __future__ import annotations

from collections.abc import Generator

from .effects import Answer, Effect, UseOnce
from .errors import ProofRejected, Reason, TokenRejected, Unavailable
from .identity import Principal
from .wpt import Wpt

_SKEW = 60.0  # seconds between the clocks of two replicas at most

OnceFlow = Generator[Effect, Answer, None]


def use_token(principal: Principal, *, now: float, leeway: float) -> OnceFlow:
    """Use a token up; yields `UseOnce`.

    Args:
        principal: of the token, verified.
        now: Unix seconds.
        leeway: seconds of clock difference that its issuer is forgiven.

    Raises:
        TokenRejected: it was used before.
        Unavailable: nobody can tell.
    """
    jti = principal.claims.get("jti")
    if jti is None:  # a foreign issuer may be forgiven that; here it would make all its tokens the same
        raise TokenRejected(
            Reason.BAD_JTI, "the token has no jti, and this route takes each token once"
        ).claimed_by(principal.issuer)
    maker = principal.vouched_by or principal.issuer
    first = yield from _is_first(maker, jti, principal.expires_at, now, leeway)
    if not first:
        raise TokenRejected(
            Reason.REPLAYED, "the token was used before, and this route takes it once"
        ).claimed_by(principal.issuer)


def use_proof(principal: Principal, proved: Wpt, *, now: float, leeway: float) -> OnceFlow:
    """Use a proof up; its id is its sender's (draft-ietf-wimse-wpt-02 section 2). See `use_token`.

    Raises:
        ProofRejected: it was used before.
        Unavailable: nobody can tell.
    """
    # the prefix keeps the ids of the two kinds of token apart
    jti = f"wpt {proved.token_id}"
    if not (yield from _is_first(principal.issuer, jti, proved.expires_at, now, leeway)):
        raise ProofRejected(Reason.REPLAYED, "the WPT was used before").claimed_by(principal.issuer)


def _is_first(
    issuer: str, jti: str, expires_at: int, now: float, leeway: float
) -> Generator[Effect, Answer, bool]:
    # until it has expired for the clock of every replica
    seconds = expires_at + leeway - now + _SKEW
    first: bool | None = (yield UseOnce(issuer=issuer, jti=jti, seconds=seconds)).result
    if first is None:
        raise Unavailable(
            Reason.REPLAY_STORE_UNAVAILABLE,
            issuer,
            "nobody can tell whether the token was used before: the replay store does not answer",
        )
    return first
