"""A service behind its ASGI door, asked thousands of times a second, and every answer is checked."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from s2s_mesh import Service
from s2s_mesh.jwks import JWKSet
from tests.receiver import TRUST
from tests.tokens import (
    EDGE,
    LEDGER,
    LOGIN,
    NOW,
    WALLETS,
    actors,
    carrying,
    claims,
    good,
    header,
    key,
    sign,
)


class Unfit(AssertionError):
    """An answer lacks what it must have, or shows what it must not."""


def insist(condition: object, what: str) -> None:
    """Raise `Unfit` unless the condition holds."""
    if not condition:
        raise Unfit(what)


class _Last(logging.Handler):
    """Keeps the last refusal that was logged."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.reason = ""
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.reason = getattr(record, "s2s_mesh", {}).get("reason", "")
        self.text = record.getMessage()


_LOG = logging.getLogger("s2s_mesh.access")


class Door:
    """`wallets` behind its ASGI door, called by edge and ledger, at a moment that does not pass.

    Attributes:
        good: every token that may be let in.
        last: the log.
    """

    def __init__(self) -> None:
        signers = [key(), key("Ed25519"), key("RS256")]
        ledger = {"iss": LEDGER, "sub": LEDGER, "client_id": LEDGER}
        self.good = {
            *(good(signer) for signer in signers),
            good(aud=[WALLETS], scope="cards:read"),
            sign(header(key(), typ="application/AT+JWT"), json.dumps(claims(), indent=1).encode(), key()),
            good(key(name="second"), **ledger),
            carrying(act=actors(EDGE, LEDGER), auth_time=NOW, acr="urn:x", amr=["mfa"], txn="t"),
        }
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        folder = Path(self._folder.name)
        for name, keys in (("edge", signers), ("ledger", [key(name="second")])):
            (folder / f"{name}.jwks.json").write_bytes(JWKSet(pair.public for pair in keys).to_bytes())
        algorithms = json.dumps([pair.alg for pair in signers])
        text = TRUST.format(
            edge=EDGE, wallets=WALLETS, ledger=LEDGER, algorithms=algorithms, may_act_for=json.dumps([LOGIN])
        )
        (folder / "trust.toml").write_text(text)
        self._service = Service(issuer=WALLETS, trust=folder / "trust.toml", key_store=None)
        self._service.clock = lambda: NOW
        inner = Starlette(routes=[Route("/", lambda _: PlainTextResponse("in"))])
        self._app: ASGIApp = self._service.wrap(inner)
        self._loop = asyncio.new_event_loop()
        self.last = _Last()
        _LOG.addHandler(self.last)
        _LOG.setLevel(logging.DEBUG)
        _LOG.propagate = False

    def close(self) -> None:
        """Stop what runs, and log as before."""
        _LOG.removeHandler(self.last)
        _LOG.propagate = True
        self._service.__exit__()
        self._loop.close()
        self._folder.cleanup()

    def answer(self, fields: Sequence[bytes], query: bytes = b"") -> tuple[int, str]:
        """Status and reason; the answer's form is checked here."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": query,
            "headers": [(b"authorization", field) for field in fields],
        }
        self.last.reason = self.last.text = ""
        self._loop.run_until_complete(self._app(scope, receive, send))
        start, *bodies = sent
        status: int = start["status"]
        body = b"".join(message.get("body", b"") for message in bodies)
        if status == 200:
            insist(body == b"in" and not self.last.reason, "a refusal that lets in")
            return status, ""
        headers = {name.decode(): value.decode("ascii") for name, value in start["headers"]}
        insist(status in (400, 401, 503), f"status {status}")
        insist(headers["cache-control"] == "no-store", "cached refusal")
        insist(set(json.loads(body)) == {"title", "status", "instance"}, "body of a refusal")
        challenge = headers.get("www-authenticate", "")
        insist(challenge.startswith(f'Bearer realm="{WALLETS}"') is (status != 503), "challenge")
        insist(self.last.reason, "nothing logged")
        insist(self.last.text.isprintable(), "a log line that is more than one")
        for field in fields:
            for part in re.findall(rb"[\w-]{24,}", field):
                text = part.decode("ascii")
                insist(text not in challenge and text.encode() not in body, "the answer repeats the input")
        return status, self.last.reason
