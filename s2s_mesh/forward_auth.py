"""Forward authentication: which request a front proxy asks about, and what it hands to the application.

nginx, Caddy, Traefik and Envoy each name the original request in their own way, and forward what clients sent
beside it. So the front is configured, only its own fields are read, and what is missing, there twice or in an
odd form is refused: a guess would be the client's choice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from .errors import ConfigError, Forbidden, Reason
from .identity import Principal
from .inbound import RequestFacts
from .routes import external_path

VERIFY = "/verify"


class Fields(NamedTuple):
    """The fields that name the original request: lower-case."""

    method: bytes
    uri: bytes


_FORWARDED = Fields(b"x-forwarded-method", b"x-forwarded-uri")
# by front; None where the request is made with the original method, and to the original path below VERIFY
FRONTS: Mapping[str, Fields | None] = {
    "nginx": Fields(b"x-original-method", b"x-original-uri"),
    "caddy": _FORWARDED,
    "traefik": _FORWARDED,
    "envoy": None,
}

CALLER, SCOPES, USER, USER_ISSUER = "s2s-caller", "s2s-scopes", "s2s-user", "s2s-user-issuer"
REQUEST_ID = "s2s-request-id"
IDENTITY = (CALLER, SCOPES, USER, USER_ISSUER)

_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]*")
_URI = re.compile(rb'/[!"$-~]*')  # printable ASCII without "#"
_AS_IT_IS = "!#$&'()*+-./:=?@^_`|~"  # of printable ASCII, what a field value may hold and no list is split at


def check_front(front: str) -> str:
    """Return the name of a front.

    Raises:
        ConfigError: it is none.
    """
    if front not in FRONTS:
        raise ConfigError(f"{front!r} is not a front; expected one of {', '.join(FRONTS)}")
    return front


def original(
    front: str,
    *,
    headers: Sequence[tuple[bytes, bytes]],
    method: str,
    raw_path: bytes,
    query: bytes,
    public_paths: Collection[str] = (),
) -> RequestFacts:
    """The facts of the request that a front asks about.

    Args:
        front: one of `FRONTS`.
        headers: every field line of the front's own request: lower-case name, value.
        method, raw_path, query: of the front's own request, as sent.
        public_paths: exact paths, decoded, that also let anonymous callers in; a path that routers read
            differently is never one of them.

    Raises:
        Forbidden: it does not say, or not unambiguously, which request that is.
    """
    fields = FRONTS[front]
    if fields is None:
        asked = method.encode("latin-1"), raw_path.removeprefix(VERIFY.encode()) + _as_sent(query)
        names = "the method", f"the path below {VERIFY}"
    else:
        if method != "GET" or raw_path != VERIFY.encode():
            raise _unclear(front, f"expected GET {VERIFY}, found {method} and another path")
        asked = _only(front, headers, fields.method), _only(front, headers, fields.uri)
        names = fields.method.decode(), fields.uri.decode()
    if not _METHOD.fullmatch(asked[0]):
        raise _unclear(front, f"{names[0]} is not a method in upper case")
    if not _URI.fullmatch(asked[1]):
        raise _unclear(front, f"{names[1]} is not one path, and query, of printable ASCII")
    path, _, asked_query = asked[1].partition(b"?")
    return RequestFacts(
        headers=headers,
        method=asked[0].decode(),
        raw_path=path,
        query=asked_query,
        public=bool(public_paths) and external_path(path) in public_paths,
    )


def identity_fields(principal: Principal | None) -> list[tuple[str, str]]:
    """What the application is told of the caller: every field of `IDENTITY`, empty for what there is not.

    Never fewer of them: a front overwrites what the client sent under these names with what it is given.
    A user's id may hold any printable character, so it and its issuer are percent-encoded (UTF-8, RFC 3986
    section 2.1) where they hold others than ASCII letters, digits and a few marks.
    """
    if principal is None:
        return [(name, "") for name in IDENTITY]
    user = principal.user
    return [
        (CALLER, principal.issuer),
        (SCOPES, " ".join(sorted(principal.scopes))),
        (USER, "" if user is None else quote(user.subject, safe=_AS_IT_IS)),
        (USER_ISSUER, "" if user is None else quote(user.issuer, safe=_AS_IT_IS)),
    ]


def _as_sent(query: bytes) -> bytes:
    return b"?" + query if query else b""


def _only(front: str, headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    values = [value for field, value in headers if field == name]
    if len(values) != 1:
        raise _unclear(front, f"{name.decode()} is there {len(values)} times, expected once")
    return values[0]


def _unclear(front: str, problem: str) -> Forbidden:
    return Forbidden(
        Reason.FRONT_CONTRACT,
        f"{problem}: configure the proxy as in examples/gateway, or name another one (--front {front})",
    )
