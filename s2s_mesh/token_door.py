"""Tokens for a neighbour that is not Python: `GET /token?audience=...`, as a cloud's metadata server has it.

Whoever gets an answer can call others in this service's name, so it belongs on a listener that only this
machine reaches, and does not answer what a page in a browser, a proxy or a fetched URL could send.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from . import jws
from .errors import ConfigError, KeyStoreError
from .service import Service

log: logging.Logger = logging.getLogger("s2s_mesh.access")
MARK = b"s2s-mesh-request"
_PASSED_ON = frozenset({b"forwarded", b"via", b"x-real-ip", b"origin", b"referer", b"sec-fetch-site"})
_PARAMETERS = frozenset({"audience", "scopes", "once"})
_LONGEST_QUERY = 4096
_RETRY_AFTER = "1"


class _Refused(Exception):
    """No token.

    Attributes:
        status: HTTP status.
        code: for programs, from OAuth 2.0's list (RFC 6749 section 5.2) where it has one.
    """

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class TokenDoor:
    """Hands out tokens of a service.

    Args:
        service: in whose name.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, for HTTP only."""
        headers = {"cache-control": "no-store"}
        try:
            answer, status = await self._token(scope), 200
        except _Refused as why:
            log.warning("no token handed out: %s", why)
            answer, status = {"error": why.code, "error_description": str(why)}, why.status
            if status == 503:
                headers["retry-after"] = _RETRY_AFTER
        await JSONResponse(answer, status_code=status, headers=headers)(scope, receive, send)

    async def _token(self, scope: Scope) -> Mapping[str, Any]:
        if scope["path"] != "/token":
            raise _Refused(404, "invalid_request", "the path is /token")
        _check_neighbour(scope)
        if scope["method"] != "GET":
            raise _Refused(405, "invalid_request", "the method is GET")
        asked = _parameters(scope.get("query_string", b""))
        scopes = asked["scopes"].split(" ") if "scopes" in asked else None
        once = asked.get("once", "false")
        if once not in ("true", "false"):
            raise _Refused(400, "invalid_request", "once is true or false")
        try:
            await self._service.load_async()
            token = self._service.token(asked["audience"], scopes=scopes, once=once == "true")
        except ConfigError as why:
            raise _Refused(400, "invalid_request", str(why)) from None
        except KeyStoreError as why:
            log.warning("no token can be signed: %s: %s", why.reason.value, why)
            raise _Refused(503, "temporarily_unavailable", "there is no key to sign with just now") from None
        expires_at: int = jws.decode(token.encode()).claims["exp"]
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(expires_at - self._service.clock()),
        }


def _check_neighbour(scope: Scope) -> None:
    """Refuse what did not come from a program on this machine that means it.

    A page in a browser cannot set the field for another origin, and a server that is tricked into fetching a
    URL sets none; a page whose own name was made to point here (DNS rebinding) says so in Host.
    """
    fields: list[tuple[bytes, bytes]] = scope["headers"]
    if [value for name, value in fields if name == MARK] != [b"true"]:
        raise _Refused(403, "access_denied", "the field S2S-Mesh-Request: true is missing")
    for name, _ in fields:
        if name in _PASSED_ON or name.startswith((b"x-forwarded-", b"x_forwarded_")):
            raise _Refused(403, "access_denied", f"the field {name.decode('latin-1')} says it was passed on")
    if not all(_is_loopback(value.decode("latin-1")) for name, value in fields if name == b"host"):
        raise _Refused(403, "access_denied", "the field Host names neither a loopback address nor localhost")


def _is_loopback(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _parameters(query: bytes) -> Mapping[str, str]:
    if len(query) > _LONGEST_QUERY:
        raise _Refused(400, "invalid_request", f"the query has more than {_LONGEST_QUERY} bytes")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        pairs = []
    asked = dict(pairs)
    if len(asked) < len(pairs) or "audience" not in asked or not asked.keys() <= _PARAMETERS:
        raise _Refused(
            400, "invalid_request", "the query is audience=URL, then at will scopes=A+B and once=true"
        )
    return asked
