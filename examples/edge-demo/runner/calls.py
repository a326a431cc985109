"""Calls between the services, as the rows of the table make them: one by one, and as steady traffic."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from s2s_mesh import EndUser, Service
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.signer import Signer, TokenKind
from s2s_mesh.strict_json import decode_object, encode

from . import DemoError
from .fleet import CLI, Fleet

_WORKERS = 4
_PAUSE = 0.02  # seconds
_LOG_SECONDS = 10.0
_UNTIL_SECONDS = 20.0  # to wait for what takes one, where the machine has time for it


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status, or 0 where there was no answer.
        body: the JSON object of the answer, or what stands in its place.
        milliseconds: from request to answer.
        sunset: when the credential ends, in the words of the answer; "" where it does not say.
    """

    status: int
    body: dict[str, Any]
    milliseconds: float
    sunset: str = ""

    @property
    def verdict(self) -> str:
        """In the words of the table."""
        if self.status == 0:
            return f"no answer: {self.body['error']}"
        if self.status >= 300:
            return str(self.status)
        return "with Sunset" if self.sunset else "allowed"


@dataclass
class Tally:
    """What became of steady traffic.

    Attributes:
        calls: how many.
        failures: one line for each that was not allowed.
        kids: by calling service, the keys that signed, in order of appearance.
        milliseconds: of all calls together.
    """

    calls: int = 0
    failures: list[str] = field(default_factory=list)
    kids: dict[str, list[str]] = field(default_factory=dict)
    milliseconds: float = 0.0


def client() -> httpx.AsyncClient:
    """What the runner calls with: nothing in the environment sends its calls elsewhere."""
    return httpx.AsyncClient(trust_env=False, timeout=10)


class Calls:
    """Makes calls, and tokens to make them with.

    Args:
        fleet: whom to call.
        http: how.
    """

    def __init__(self, fleet: Fleet, http: httpx.AsyncClient) -> None:
        self.fleet = fleet
        self.ids = fleet.ids
        self._http = http

    async def call(
        self, method: str, url: str, token: str | None = None, fields: Mapping[str, str] | None = None
    ) -> Answer:
        """One call; `token` goes into the Authorization field, beside what `fields` has."""
        headers = {**(fields or {}), **({} if token is None else {"authorization": f"Bearer {token}"})}
        start = time.perf_counter()
        try:
            response = await self._http.request(method, url, headers=headers)
        except httpx.HTTPError as failed:
            return Answer(0, {"error": type(failed).__name__}, (time.perf_counter() - start) * 1000)
        milliseconds = (time.perf_counter() - start) * 1000
        body: Any = None
        with suppress(ValueError):
            body = response.json()
        said = body if isinstance(body, dict) else {}
        return Answer(response.status_code, said, milliseconds, response.headers.get("sunset", ""))

    async def settlement(self, *arguments: str) -> Answer:
        """Run the batch job; it prints status, milliseconds and body."""
        job = await asyncio.to_thread(self.fleet.run, "settlement", ["settlement.py", *arguments])
        printed = re.fullmatch(r"(\d+) (\d+) ms (\{.*\})\n", job.stdout)
        if job.returncode or printed is None:
            return Answer(0, {"error": job.stderr.strip().rpartition("\n")[2]}, 0)
        return Answer(int(printed[1]), json.loads(printed[3]), float(printed[2]))

    async def why(self, receiver: str, answer: Answer) -> tuple[str, str]:
        """The reason and the detail in the receiver's log, found by the id that the answer carries.

        Of a call that was let in: who the receiver says has called, for whom, and with which scopes.
        """
        if 200 <= answer.status < 300:
            names = {url: name for name, url in self.ids.items()}
            user = answer.body.get("user")
            caller = names.get(answer.body.get("caller", ""), "nobody")
            return f"{caller} {f'for {user}' if user else 'as itself'}", " ".join(
                answer.body.get("scopes", [])
            )
        request_id = str(answer.body.get("instance", "")).removeprefix("urn:uuid:")
        deadline = time.monotonic() + _LOG_SECONDS
        while request_id and time.monotonic() < deadline:
            refusal = self.fleet.refusal(receiver, request_id)
            if refusal is not None:
                return refusal.reason, refusal.detail
            await asyncio.sleep(0.02)
        return "not in the receiver's log", ""

    async def until(self, ask: Callable[[], Awaitable[list[Answer]]], verdict: str) -> list[Answer]:
        """Ask over and over until every answer has this verdict, or it takes too long; the last answers."""
        deadline = time.monotonic() + _UNTIL_SECONDS
        while True:
            answers = await ask()
            if all(answer.verdict == verdict for answer in answers) or time.monotonic() > deadline:
                return answers
            await asyncio.sleep(_PAUSE)

    async def documents(self, name: str) -> list[bytes]:
        """The JWKS of every replica of a service, byte by byte."""
        urls = [f"{url}/.well-known/jwks.json" for url in self.fleet.replicas[name]]
        return [answer.content for answer in await asyncio.gather(*map(self._http.get, urls))]

    # -- tokens ----------------------------------------------------------------------------------------

    async def operate(self, name: str, *command: str) -> str:
        """Run `s2s-mesh` with the environment of a service, as its operator would; what it says.

        Raises:
            DemoError: it failed; says what it wrote.
        """
        done = await asyncio.to_thread(self.fleet.run, name, [*CLI[1:], *command, "--yes"])
        if done.returncode:
            raise DemoError(f"s2s-mesh {' '.join(command)}: {done.stderr}")
        return done.stdout

    async def mint(self, name: str, audience: str, *, age: float = 0) -> str:
        """A genuine token of one service for another, `age` seconds old: what somebody may have stolen."""
        return await asyncio.to_thread(self._mint, name, self.ids[audience], age)

    def _mint(self, name: str, audience: str, age: float) -> str:
        with Service.from_env(self.fleet.environment(name)) as service:
            if not age:
                return service.token(audience)
            ring = service.running().load_ring()
            signer = Signer(service.issuer, life=service.settings.token_life)
            return signer.mint(ring, TokenKind.SERVICE, audience, None, service.clock() - age)

    async def log_in(self, user: str) -> str:
        """The token that the identity provider gives a user for edge."""
        query = {"user": user, "aud": self.ids["edge"]}
        return (await self._http.post(f"{self.ids['login']}/token", params=query)).raise_for_status().text

    async def invent_user(self, name: str, audience: str, path: str, user: EndUser) -> Answer:
        """What a service that was taken over can do: with its genuine keys, name a user who is not there."""
        return await asyncio.to_thread(self._invent_user, name, self.ids[audience], path, user)

    def _invent_user(self, name: str, audience: str, path: str, user: EndUser) -> Answer:
        with (
            Service.from_env(self.fleet.environment(name)) as service,
            httpx.Client(transport=service.transport(audience, on_behalf_of=user)) as http,
        ):
            start = time.perf_counter()
            response = http.put(audience + path)
            return Answer(response.status_code, response.json(), (time.perf_counter() - start) * 1000)

    # -- traffic ---------------------------------------------------------------------------------------

    async def traffic(self, until: Callable[[Tally], bool], at_most: float) -> Tally:
        """Have edge change cards, and pay through wallets and ledger, over and over.

        Args:
            until: ends it.
            at_most: seconds after which it ends anyway.
        """
        tally = Tally()
        deadline = time.monotonic() + at_most
        receivers = ("wallets", "ledger")
        refused_before = sum(map(self.fleet.refusals, receivers))

        async def work(number: int) -> None:
            method, path, caller = ("POST", "payments", "wallets") if number % 2 else ("PUT", "card", "edge")
            while time.monotonic() < deadline and not until(tally):
                answer = await self.call(method, f"{self.ids['edge']}/wallets/42/{path}")
                tally.calls += 1
                tally.milliseconds += answer.milliseconds
                kid = answer.body.get("kid")
                if answer.status != 200 or not isinstance(kid, str):
                    tally.failures.append(f"{method} /{path}: {answer.verdict}")
                elif kid not in (kids := tally.kids.setdefault(caller, [])):
                    kids.append(kid)
                await asyncio.sleep(_PAUSE)

        await asyncio.gather(*map(work, range(_WORKERS)))
        retried = sum(map(self.fleet.refusals, receivers)) - refused_before - len(tally.failures)
        tally.failures += ["refused, then retried with a new token"] * max(retried, 0)
        return tally


def tampered(token: str) -> str:
    """The token with another scope, and its signature as it was."""
    header, payload, signature = token.split(".")
    claims = decode_object(b64url_decode(payload.encode()))
    return f"{header}.{_segment({**claims, 'scope': 'settlements:write'})}.{signature}"


def unsigned(token: str) -> tuple[str, str]:
    """The token with `alg: none`, without its signature and with it."""
    header, payload, signature = token.split(".")
    members = decode_object(b64url_decode(header.encode()))
    start = f"{_segment({**members, 'alg': 'none'})}.{payload}."
    return start, start + signature


def _segment(members: dict[str, Any]) -> str:
    return b64url_encode(encode(members)).decode()
