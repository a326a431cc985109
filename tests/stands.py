"""One application in every framework, each behind its door and on a real server: what they share and they.

The application: `read` for whom a route rule lets in, `write` also wants the scope `cards:write`, `user` says
whose call it is, `proved` wants proof, and `open`, `open/write` are public. A framework for HTTP has them at
`/read` and so on, gRPC as methods of `wallets.Cards`.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from s2s_mesh import Principal, Service
from s2s_mesh.jwks import JWKSet

from .migrating import row
from .refusals import Refusals
from .servers import free_port
from .tokens import EDGE, LEDGER, LOGIN, NOW, WALLETS, key

Fields = Sequence[tuple[bytes, bytes]]
PUBLIC = ("open", "open/write")
RULES = {
    "read": "",
    "write": "",
    "user": 'user = "asserted"',
    "talk": 'user = "asserted"',
    "proved": 'proof = "wpt"',
    "cards/{card}": 'scopes = ["cards:write"]',
}


class Verdict(NamedTuple):
    """What the caller got, as in HTTP, and what the operator can read."""

    status: int
    headers: Mapping[str, str]
    body: Any
    reason: str | None


LOG = Refusals()


class Stand:
    """A service behind one door; `at` is the path of one of its endpoints.

    Args:
        name: of the framework and its server.
        port: where the server listens.
    """

    prefix = "/"
    is_http = True

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def at(self, name: str) -> str:
        return self.prefix + name

    def call(
        self, name: str, token: bytes | None = None, *, headers: Fields = (), method: str = "GET"
    ) -> Verdict:
        """Call an endpoint; a name that begins with a slash is a path as it goes over the wire."""
        fields = [(b"authorization", b"Bearer " + token)] if token is not None else []
        return self.send(method, name if name.startswith("/") else self.at(name), [*fields, *headers])

    def send(self, method: str, path: str, headers: Fields) -> Verdict:
        """One request, exactly as told."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name.decode(), value)
            connection.endheaders()
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        told = {name.lower(): value for name, value in answer.getheaders()}
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw
        instance = body.get("instance", "") if isinstance(body, dict) else ""
        return Verdict(answer.status, told, body, LOG.reason(instance))


def service_of(
    folder: Path,
    *,
    prefix: str = "/",
    methods: Sequence[str] = ("GET", "PUT"),
    more: str = "",
    **options: Any,
) -> Service:
    """`wallets` at `NOW`: edge's keys are pinned, and it may still use an old one; ledger's cannot be had."""
    (folder / "edge.jwks.json").write_bytes(JWKSet([key().public]).to_bytes())
    route = f'[[route]]\naudience = "{WALLETS}"\nmethods = {json.dumps(list(methods))}\n'
    rules = "".join(f'{route}path = "{prefix}{name}"\n{more}\n' for name, more in RULES.items())
    (folder / "trust.toml").write_text(f"""
version = 1
[defaults]
allow_loopback_http = true
[issuers."{EDGE}"]
jwks_file = "edge.jwks.json"
[issuers."{LEDGER}"]
jwks_uri = "http://127.0.0.1:{free_port()}/jwks.json"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
may_act_for = ["{LOGIN}"]
[[allow]]
issuer = "{LEDGER}"
audience = "{WALLETS}"
{rules}{row(migration="prefer")}{more}""")
    service = Service(
        issuer=WALLETS,
        trust=folder / "trust.toml",
        key_store="memory://",
        public_paths=[prefix + name for name in PUBLIC],
        **options,
        spiffe_id="spiffe://wallets.example.com/wallets",
    )
    service.clock = lambda: float(NOW)
    return service


def seen(principal: Principal | None) -> dict[str, Any]:
    """What every endpoint answers."""
    if principal is None:
        return {"caller": None}
    return {"caller": principal.issuer, "scopes": sorted(principal.scopes)}


def users_of(service: Service) -> dict[str, Any]:
    """What `user` answers."""
    return {"user": service.inbound_user.subject}


@contextmanager
def in_thread(serve: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """A server in a thread of its own for the length of the block."""
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


@contextmanager
def with_log() -> Iterator[None]:
    """Let `LOG` see what is refused."""
    logger = logging.getLogger("s2s_mesh.access")
    logger.addHandler(LOG)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(LOG)
        logger.setLevel(before)
