"""An authorization server for tests: real HTTP on loopback, metadata and tokens, well-behaved or hostile."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from .jwks_servers import Head, Peer, answer
from .tokens import ABSENT

METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
JSON = "application/json"
NOT_FOUND = answer(status="404 Not Found")
_PATIENCE = 40.0  # seconds after which it gives up on a test that forgot it
Form = dict[str, list[str]]


def document(members: Any, *fields: str, status: str = "200 OK", kind: str = JSON) -> bytes:
    """An answer with JSON; bytes are sent as they are."""
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    return answer(body, *fields, status=status, kind=kind)


class TokenEndpoint(Peer):
    """Gives access tokens to whoever asks: `token-1`, `token-2` and so on.

    Args:
        tls: speak TLS.

    Attributes:
        said: what it answers elsewhere, by path.
        instead: bytes to say instead of the next tokens, or what makes them of a form; none at all hang up.
        life: `expires_in` of its tokens.
        forms: of the requests for tokens, in order.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.said: dict[str, bytes] = {}
        self.instead: bytes | Callable[[Form], bytes] | None = None
        self.life = 300
        self.forms: list[Form] = []
        self._gate = threading.Event()
        self._gate.set()
        super().__init__(self._talk_http, tls=tls)
        self.describe()

    @property
    def issuer(self) -> str:
        """Without a path."""
        return self.url("")

    def metadata(self, **changes: Any) -> dict[str, Any]:
        """A good document's members, changed where told."""
        members = {
            "issuer": self.issuer,
            "token_endpoint": self.url("/token"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256", "RS256"],
            **changes,
        }
        return {name: value for name, value in members.items() if value is not ABSENT}

    def describe(self, **changes: Any) -> None:
        """Serve a metadata document, changed where told."""
        self.said[METADATA] = document(self.metadata(**changes))

    def hold(self) -> None:
        """Take requests for tokens, but answer none before `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Answer those who wait, and everybody after them."""
        self._gate.set()

    def granted(self, **changes: Any) -> dict[str, Any]:
        """The members of a good answer, changed where told."""
        members = {
            "access_token": f"token-{len(self.forms)}",
            "token_type": "Bearer",
            "expires_in": self.life,
            **changes,
        }
        return {name: value for name, value in members.items() if value is not ABSENT}

    def _talk_http(self, _: Peer, connection: socket.socket) -> None:
        head, body = self._read(connection)
        if not head.line.startswith("POST"):
            connection.sendall(self.said.get(head.path, NOT_FOUND))
            return
        with self._lock:
            form = parse_qs(body.decode(), strict_parsing=True)
            self.forms.append(form)
            said = document(self.granted())
        self._gate.wait(_PATIENCE)
        if self.instead is not None:
            said = self.instead(form) if callable(self.instead) else self.instead
        connection.sendall(said)

    def _read(self, connection: socket.socket) -> tuple[Head, bytes]:
        data = b""
        while (missing := _missing(data)) > 0:
            more = connection.recv(missing)
            if not more:
                raise ConnectionError("the client went away")
            data += more
        first, _, body = data.partition(b"\r\n\r\n")
        line, *fields = first.decode("latin-1").split("\r\n")
        pairs = (field.partition(":") for field in fields)
        head = Head(line, {name.lower(): value.strip() for name, _, value in pairs})
        with self._lock:
            self.heads.append(head)
        return head, body

    def __exit__(self, *exception: Any) -> None:
        self.release()
        super().__exit__(*exception)


def _missing(data: bytes) -> int:
    """How many bytes of a request are to come, as far as is known."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return 65536
    length = re.search(rb"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
    return (int(length[1]) if length else 0) - len(body)
