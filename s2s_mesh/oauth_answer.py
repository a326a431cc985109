"""What a token endpoint answers (RFC 6749 sections 5.1 and 5.2), read strictly and repeated sparingly.

Of an answer that is of no use, nothing but the error's code is shown, and that only where it looks like one:
servers echo what they were sent, and descriptions hold whatever they like.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .errors import OAuthError
from .oauth_request import TokenRequest
from .strict_json import NotStrictJSON, decode_object

MAX_BODY = 64 * 1024
UNSAID_LIFE = 60  # seconds for which a token is kept whose life the server does not say
_MAX_LIFE = 31 * 86400
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,16384}=*", re.ASCII)  # RFC 6750 section 2.1
_CODE = re.compile(r"[a-z]+(_[a-z]+){0,5}", re.ASCII)
_MAX_CODE = 40
_NEXT = {
    "unauthorized_client": "allow this client the grant type client_credentials there",
    "invalid_scope": "see which scopes this client may have there",
    "invalid_target": "see which resources this client may have tokens for there",
    "unsupported_grant_type": "have client_credentials switched on there",
}


class Granted(msgspec.Struct, frozen=True):
    """An access token that was given out.

    Attributes:
        token: never shown.
        life: seconds from the request on.
        scopes: what it is for, where the server says so.
    """

    token: str
    life: int
    scopes: frozenset[str] | None = None

    def __repr__(self) -> str:
        return "Granted(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """msgspec's own would show the token in a rich traceback."""
        return []


def granted(body: bytes, issuer: str) -> Granted:
    """Read the answer to a request that was granted.

    Args:
        body: of an answer with status 200 and JSON.
        issuer: the authorization server, for messages.

    Raises:
        OAuthError: naming the first thing that is wrong with it.
    """
    if len(body) > MAX_BODY:
        raise OAuthError(issuer, f"its answer has more than {MAX_BODY} bytes")
    try:
        members = decode_object(body)
    except NotStrictJSON as why:
        raise OAuthError(issuer, f"its answer: {why}") from None
    token, kind = members.get("access_token"), members.get("token_type")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise OAuthError(
            issuer, "its answer: access_token is missing or not as RFC 6750 section 2.1 writes it"
        )
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise OAuthError(issuer, "its answer: token_type is not Bearer, the only one that is understood")
    life = members.get("expires_in", UNSAID_LIFE)
    # type() and not isinstance(): True is an int in Python
    if type(life) is not int or not 0 < life <= _MAX_LIFE:
        raise OAuthError(issuer, f"its answer: expires_in is not whole seconds from 1 to {_MAX_LIFE}")
    scope = members.get("scope", "")
    if not isinstance(scope, str):
        raise OAuthError(issuer, "its answer: scope is not a string")
    return Granted(token, life, frozenset(scope.split()) if "scope" in members else None)


def refused(body: bytes, request: TokenRequest, *, algorithm: str, jwks_uri: str) -> OAuthError:
    """What to tell of an answer that refuses the request.

    Args:
        body: of an answer with status 400 or 401 and JSON.
        request: what was asked for.
        algorithm: with which the assertion was signed.
        jwks_uri: where our keys are.
    """
    issuer = request.issuer
    try:
        code = decode_object(body).get("error")
    except NotStrictJSON:
        code = None
    if not isinstance(code, str) or len(code) > _MAX_CODE or not _CODE.fullmatch(code):
        return OAuthError(issuer, "it refused the request without a code that can be shown")
    if code == "invalid_client":
        advice = (
            f"it must know the client_id {request.client_id} with token_endpoint_auth_method "
            f"private_key_jwt, token_endpoint_auth_signing_alg {algorithm} and jwks_uri {jwks_uri}, be able "
            "to fetch that, and have a clock like ours"
        )
    else:
        advice = _NEXT.get(code, f"see what its log says of the client {request.client_id}")
    return OAuthError(issuer, f"it answered {code}: {advice}", code=code)
