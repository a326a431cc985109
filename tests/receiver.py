"""A receiving service behind its real ASGI door; callers' keys are pinned in files, not fetched."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service
from s2s_mesh.jwks import JWKSet
from s2s_mesh.keys import SigningKey
from s2s_mesh.trust_file import TrustFile

from .hostile import SENT
from .refusals import Refusals
from .servers import wait_until
from .tokens import EDGE, LEDGER, WALLETS

TRUST = """
version = 1

[issuers."{edge}"]
jwks_file = "edge.jwks.json"
algorithms = {algorithms}

[issuers."{ledger}"]
jwks_file = "ledger.jwks.json"

[[allow]]
issuer = "{edge}"
audience = "{wallets}"
scopes = ["cards:read", "cards:write"]
may_act_for = {may_act_for}

[[allow]]
issuer = "{ledger}"
audience = "{wallets}"

[[allow]]
issuer = "{edge}"
audience = "{ledger}"
"""


class Verdict(NamedTuple):
    """What the caller got, and what the operator can read."""

    status: int
    headers: httpx.Headers
    body: Any
    reason: str | None


class Receiver:
    """`wallets`, called by `edge` and `ledger`.

    Args:
        folder: for the trust file and the pinned key sets.
        edge_keys, ledger_keys: what these issuers publish.
        may_act_for: identity providers whose users edge may carry.
        trust: text appended to the trust file.
        key_store: of the receiver itself; None for one that only verifies.
        options: for `Service`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        edge_keys: Sequence[SigningKey],
        ledger_keys: Sequence[SigningKey] = (),
        algorithms: Sequence[str] = ("ES256", "RS256"),
        may_act_for: Sequence[str] = (),
        trust: str = "",
        key_store: str | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.publish("edge", edge_keys)
        self.publish("ledger", ledger_keys)
        self._algorithms = algorithms
        self._may_act_for = may_act_for
        self.write_trust(trust)
        self.service = Service(issuer=WALLETS, trust=folder / "trust.toml", key_store=key_store, **options)
        self.app = Starlette(
            routes=[
                Route("/read", read, methods=["GET", "POST"]),
                Route("/write", write, methods=["PUT", "GET"]),
                Route("/open", read),
                Route("/user", whose),
                Route("/admin", admin),
                Route("/forbidden-by-app", forbidden_by_app),
                Route("/wallets/{wallet_id}/card", write, methods=["PUT", "GET"]),
            ],
            middleware=[self.service.middleware],
        )
        self._log = Refusals()
        logging.getLogger("s2s_mesh.access").addHandler(self._log)
        logging.getLogger("s2s_mesh.access").setLevel(logging.DEBUG)

    def publish(self, name: str, keys: Sequence[SigningKey]) -> None:
        """Pin these keys as the issuer's whole set."""
        body = JWKSet(key.public for key in keys).to_bytes()
        (self.folder / f"{name}.jwks.json").write_bytes(body)

    def write_trust(self, more: str = "") -> None:
        """Write the trust file anew."""
        text = TRUST.format(
            edge=EDGE,
            wallets=WALLETS,
            ledger=LEDGER,
            algorithms=json.dumps(list(self._algorithms)),
            may_act_for=json.dumps(list(self._may_act_for)),
        )
        fresh = self.folder / "trust.toml.new"
        fresh.write_text(text + more)
        fresh.replace(self.folder / "trust.toml")

    def reload_trust(self) -> None:
        """Have the trust file as it stands now in force; the housekeeper may be about to do it just then."""
        running = self.service.running()
        running.reload_trust()
        file, audiences = self.service.settings.trust, self.service.settings.audiences
        assert isinstance(file, TrustFile)
        wait_until(lambda: running.verifier.trust == file.current.for_audiences(audiences), what="the trust")

    def call(
        self,
        token: bytes | None = None,
        *,
        authorization: Sequence[bytes] = (),
        method: str = "GET",
        path: str = "/read",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> Verdict:
        """One request through the door."""
        fields = [(b"authorization", b"Bearer " + token)] if token is not None else []
        fields += [(b"authorization", value) for value in authorization]
        return asyncio.run(self._call(method, path, [*fields, *headers]))

    async def _call(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Verdict:
        SENT.extend(value for _, value in headers)
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=WALLETS) as http:
            answer = await http.request(method, path, headers=headers)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        instance = body.get("instance", "") if isinstance(body, dict) else ""
        facts = self._log.facts.get(instance.removeprefix("urn:uuid:"))
        return Verdict(answer.status_code, answer.headers, body, None if facts is None else facts["reason"])

    def close(self) -> None:
        """Stop what runs."""
        logging.getLogger("s2s_mesh.access").removeHandler(self._log)
        self.service.__exit__()


async def read(request: Request) -> JSONResponse:
    """Whoever is let in."""
    user = request.user
    if not user.is_authenticated:
        return JSONResponse({"caller": None})
    return JSONResponse({"caller": user.issuer, "scopes": sorted(user.scopes)})


async def whose(request: Request) -> JSONResponse:
    """The user as the application sees it."""
    user = request.user.user
    shown = None if user is None else dict(user.__rich_repr__())
    return JSONResponse({"caller": request.user.issuer, "user": msgspec.to_builtins(shown)})


@requires("cards:write")
async def write(request: Request) -> JSONResponse:
    """Needs a scope that edge has."""
    return JSONResponse({"caller": request.user.issuer})


@requires(["cards:read", "cards:admin"])
async def admin(request: Request) -> JSONResponse:
    """Needs a scope that nobody has."""
    raise AssertionError("nobody has this scope")


async def forbidden_by_app(request: Request) -> JSONResponse:
    """The application's own 403, for reasons of its own."""
    return JSONResponse({"own": True}, status_code=403)
