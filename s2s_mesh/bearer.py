"""The Authorization field: one bearer token, or nothing that concerns us (standards (a)2 step 1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from .errors import Reason, TokenRejected
from .jws import MAX_TOKEN

_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LONGEST = len("Bearer ") + MAX_TOKEN


def plain(authorization: Sequence[bytes], query: bytes) -> bytes | None:
    """The token where `presented` returns one and it may be a good one; None wherever more is to be said.

    Args:
        authorization: every Authorization field line.
        query: as sent.
    """
    if len(authorization) != 1:
        return None
    value = authorization[0]
    if value[:7].lower() != b"bearer " or len(value) > _LONGEST or _holds_token(query):
        return None
    return value[7:]


def presented(authorization: Sequence[bytes], query: bytes, *, others: bool = False) -> bytes | None:
    """The one bearer token, or None where nothing that concerns us was presented.

    Args:
        authorization, query: as for `plain`.
        others: whether there are credentials in other fields.

    Raises:
        TokenRejected: several credentials, or a field that is no credential at all.
    """
    if len(authorization) > 1:
        raise TokenRejected(Reason.SEVERAL_CREDENTIALS, "more than one Authorization field")
    if (authorization or others) and _holds_token(query):
        raise TokenRejected(Reason.SEVERAL_CREDENTIALS, "access_token in the query beside a credential")
    if not authorization:
        return None
    value = authorization[0]
    scheme, _, credentials = value.partition(b" ")
    if scheme.lower() != b"bearer":
        if not _SCHEME.fullmatch(scheme):
            raise TokenRejected(Reason.MALFORMED_HEADER, "Authorization does not begin with a scheme")
        return None
    return credentials


def of_the_field(why: TokenRejected, token: bytes) -> TokenRejected:
    """What is no token68 is the fault of the field, not of a token (RFC 9110 section 11.2).

    Looked at last, because nothing that is no token68 is ever a good token.
    """
    if why.reason is Reason.TOKEN_TOO_LARGE or _TOKEN68.fullmatch(token):
        return why
    return TokenRejected(Reason.MALFORMED_HEADER, "expected one token68 after Bearer")


def _holds_token(query: bytes) -> bool:
    """Whether there is a second credential in the query (RFC 6750 section 2.3)."""
    if b"%" not in query and b"access_token=" not in query:
        return False
    names = (pair.partition(b"=")[0] for pair in query.split(b"&"))
    return any(unquote_to_bytes(name) == b"access_token" for name in names)
