"""Evidence of the end user beside the access token, for routes with `user = "proven"` and `user = "txn"`."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from .effects import Answer, Effect
from .errors import Forbidden, Reason
from .identity import EndUser, Principal
from .verifier import Verifier


def verify(
    _verifier: Verifier,
    mode: str,
    *,
    fields: Sequence[tuple[bytes, bytes]],
    principal: Principal,
    now: float,
) -> Generator[Effect, Answer, EndUser]:
    """The user as the evidence proves it; a flow, as `Verifier.verify` is one.

    Args:
        _verifier: knows keys and the trust file.
        mode: what the route wants: "proven" or "txn".
        fields: every field line for which `proof.is_field` holds: lower-case name, value; foreign.
        principal: the caller, verified, with the user that it asserts.
        now: Unix seconds.

    Raises:
        Forbidden: there is no evidence that holds.
        Unavailable: nobody can tell just now.
    """
    yield from ()
    raise Forbidden(
        Reason.USER_UNPROVEN,
        f"{len(fields)} fields from {principal.issuer} at {now}: {mode} is not known yet",
    )
