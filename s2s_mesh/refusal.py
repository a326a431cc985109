"""What a refused caller gets, and what the operator can read about it.

The answer to the caller never says why (one text for every bad token); `Refusal.reason`, `detail` and
`request_id` are for the log, and the id is in the answer's body so that an operator can find the line.
Statuses and challenges: RFC 6750 section 3, RFC 9110 sections 11.6.1 and 15.5, RFC 9457; standards (a)4.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from .errors import Forbidden, ProofRejected, Reason, TokenRejected, Unavailable
from .strict_json import encode

# about no access token, so RFC 6750 section 3.1 has no error code for them
_OF_NO_TOKEN = {
    Reason.NO_CREDENTIAL,
    Reason.LEGACY_INVALID,
    Reason.LEGACY_MISMATCH,
    Reason.LEGACY_OFF,
    Reason.LEGACY_ENDED,
    Reason.LEGACY_REFUSED,
    Reason.LEGACY_TOO_WEAK,
}
_MALFORMED = {Reason.MALFORMED_HEADER, Reason.SEVERAL_CREDENTIALS}
_TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The request ends here.

    Attributes:
        status: HTTP status.
        headers: lower-case names.
        body: problem details (RFC 9457), the same for every reason of one status.
        reason, detail, claimed_issuer: for the log; not in the answer, and not authentic.
        request_id: in the body and in the log.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    reason: Reason
    detail: str
    claimed_issuer: str | None
    request_id: str


def of_token(why: TokenRejected, *, realm: str, basic: bool = False) -> Refusal:
    """The 400 or 401 for a credential that is refused, or for none.

    Args:
        why: the reason.
        realm: named in challenges.
        basic: whether Basic would be accepted too, so that a 401 says so (in a field line of its own).
    """
    if isinstance(why, ProofRejected):
        return _refusal(400, [], why.reason, why.detail, claimed_issuer=why.claimed_issuer)
    challenge = f'Bearer realm="{realm}"'
    status = 401
    if why.reason in _MALFORMED:
        status = 400
        challenge += ', error="invalid_request", error_description="Malformed credentials"'
    elif why.reason is Reason.EXPIRED:
        challenge += ', error="invalid_token", error_description="The access token expired"'
    elif why.reason not in _OF_NO_TOKEN:
        challenge += ', error="invalid_token", error_description="The access token is invalid"'
    challenges = [("www-authenticate", challenge)]
    if basic and status == 401:
        challenges.append(("www-authenticate", f'Basic realm="{realm}", charset="UTF-8"'))
    return _refusal(
        status,
        challenges,
        why.reason,
        why.detail,
        claimed_issuer=why.claimed_issuer,
    )


def forbidden(why: Forbidden, *, realm: str, caller: str | None) -> Refusal:
    """The 403 for a caller that is known; `insufficient_scope` where a scope is what is missing."""
    headers = []
    if why.scope is not None:
        challenge = f'Bearer realm="{realm}", error="insufficient_scope", scope="{why.scope}"'
        headers.append(("www-authenticate", challenge))
    return _refusal(403, headers, why.reason, why.detail, claimed_issuer=caller)


def unavailable(why: Unavailable) -> Refusal:
    """The 503 where nobody can tell just now."""
    headers = [("retry-after", str(why.retry_after))]
    return _refusal(503, headers, why.reason, str(why), claimed_issuer=why.issuer)


def _refusal(
    status: int,
    headers: Sequence[tuple[str, str]],
    reason: Reason,
    detail: str,
    *,
    claimed_issuer: str | None,
) -> Refusal:
    request_id = str(uuid.uuid4())
    body = encode({"title": _TITLES[status], "status": status, "instance": f"urn:uuid:{request_id}"})
    return Refusal(
        status=status,
        headers=[
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *headers,
        ],
        body=body,
        reason=reason,
        detail=detail,
        claimed_issuer=claimed_issuer,
        request_id=request_id,
    )
