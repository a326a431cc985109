"""All processes: three issuers with three replicas each, two receivers with two, and a relay before each."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec

from s2s_mesh.store import generate_key_encryption_key
from tests.programs import ROOT, environment

from . import ChaosError
from .relay import Relay
from .replica import Replica
from .tally import Tally

ISSUERS = ("edge", "orders", "payroll")
RECEIVERS = ("ledger", "vault")
ISSUER_REPLICAS, RECEIVER_REPLICAS = 3, 2
LEEWAY = 1  # second; the schedule's max_skew
_START_SECONDS = 90.0
_COMMAND_SECONDS = 180.0
_ANSWER_SECONDS = 5.0
_ROUTER_PATIENCE = 0.5  # seconds
_JWKS = "/.well-known/jwks.json"
# what would change the services behind our back
_NOT_INHERITED = re.compile(r"S2S_MESH_|REDIS_URL$|UVICORN_|CHAOS_|\w+_PROXY$", re.IGNORECASE)
_REFUSED = re.compile(r"refused \S+ \S+: (\w+): (.*) \[claimed issuer .*, request (\S+)\]")


class Fleet:
    """Every process and every name. `start` begins, `stop` ends all.

    Args:
        folder: for trust files and logs.
        stores: key store URLs by issuer.
        calls_per_second: that all replicas together shall make.

    Attributes:
        ids: of the services, by name.
        replicas: processes of each service, by its name.
        http: what the runner calls with.
    """

    def __init__(self, folder: Path, stores: Mapping[str, str], calls_per_second: float) -> None:
        self.folder = folder
        self._stores = stores
        self._per_replica = calls_per_second / (len(ISSUERS) * ISSUER_REPLICAS)
        self._relays = {name: Relay(_ROUTER_PATIENCE) for name in ISSUERS} | {
            name: Relay() for name in RECEIVERS
        }
        self._keys = {name: generate_key_encryption_key() for name in ISSUERS}
        self.ids = {name: relay.url for name, relay in self._relays.items()}
        for name in self.ids:
            self._write_trust(name, [name] if name in RECEIVERS else RECEIVERS)
        self.replicas: dict[str, list[Replica]] = {}
        self.http = httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS)

    # -- start and stop --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, and wait until every issuer's replica serves its keys.

        Raises:
            ChaosError: something does not start.
        """
        for name in ISSUERS:
            self._spawn("issuer", name, ISSUER_REPLICAS)
        for name in RECEIVERS:
            self._spawn("receiver", name, RECEIVER_REPLICAS)
        for name, relay in self._relays.items():
            await relay.start([replica.port for replica in self.replicas[name]])
        for name in ISSUERS:
            await self.until(
                lambda name=name: self._all_answer(self.replicas[name], _JWKS, 200),  # type: ignore[misc]
                _START_SECONDS,
                f"{name} has no keys",
            )
        for name in RECEIVERS:
            await self.until(
                lambda name=name: self._all_answer(self.replicas[name], "/", 401),  # type: ignore[misc]
                _START_SECONDS,
                f"{name} does not start",
            )

    async def stop(self) -> None:
        """End every process."""
        processes = [replica for replicas in self.replicas.values() for replica in replicas]
        for replica in processes:
            replica.terminate()
        await self.http.aclose()
        for relay in self._relays.values():
            await relay.stop()
        for replica in processes:
            await asyncio.to_thread(replica.end)

    # -- what the troubles need ------------------------------------------------------------------------

    def environment(self, name: str) -> dict[str, str]:
        """All that a service finds in its environment; the command line as well."""
        inherited = {k: v for k, v in environment().items() if not _NOT_INHERITED.match(k)}
        mesh = {
            **inherited,
            "S2S_MESH_ISSUER": self.ids[name],
            "S2S_MESH_TRUST_FILE": str(self.folder / f"{name}.toml"),
            "S2S_MESH_ROTATION": "fast-for-tests",
        }
        if name in ISSUERS:
            mesh["S2S_MESH_KEY_STORE"] = self._stores[name]
            mesh["S2S_MESH_KEY_ENCRYPTION_KEY"] = self._keys[name]
        return mesh

    async def command(self, name: str, *arguments: str) -> bytes:
        """Run `s2s-mesh` as the operator of an issuer and return what it prints.

        Raises:
            ChaosError: it fails.
        """
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "s2s_mesh", *arguments],
            env=self.environment(name),
            cwd=ROOT,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode:
            raise ChaosError(f"s2s-mesh {' '.join(arguments)} ends with {done.stderr.decode().strip()}")
        return done.stdout

    async def begin(self) -> None:
        """Let every issuer's replica call."""
        await self._ask("POST", "/begin", ISSUERS)

    async def end(self) -> None:
        """Let none call any more."""
        await self._ask("POST", "/end", ISSUERS)

    async def tallies(
        self, issuers: Sequence[str] = ISSUERS, *, next_phase: bool = False
    ) -> dict[str, Tally]:
        """Figures so far, by replica; without those that are frozen.

        Args:
            issuers: whose.
            next_phase: begin anew to look for the slowest call.
        """
        answers = await self._ask("POST" if next_phase else "GET", "/tally", issuers)
        return {name: msgspec.json.decode(body, type=Tally) for name, body in answers.items()}

    async def documents(self, name: str) -> list[bytes]:
        """The JWKS of every replica of an issuer."""
        answers = [await self.http.get(replica.url + _JWKS) for replica in self.replicas[name]]
        return [answer.content for answer in answers]

    def refusals(self) -> dict[str, str]:
        """What the receivers' logs say about requests that they refused, by request id."""
        found: dict[str, str] = {}
        for replica in (replica for name in RECEIVERS for replica in self.replicas[name]):
            for reason, detail, request_id in _REFUSED.findall(replica.log()):
                found[request_id] = f"{reason}: {detail}"
        return found

    def check_alive(self) -> None:
        """Complain of a process that has ended.

        Raises:
            ChaosError: naming it.
        """
        for replica in (replica for replicas in self.replicas.values() for replica in replicas):
            replica.check_alive()

    async def until(
        self, condition: Callable[[], object], seconds: float, otherwise: str, *, pause: float = 0.05
    ) -> float:
        """Wait until a condition, which may be awaitable, holds; returns the seconds it took.

        Raises:
            ChaosError: not within `seconds`.
        """
        start = time.monotonic()
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return time.monotonic() - start
            self.check_alive()
            if time.monotonic() > start + seconds:
                raise ChaosError(f"{otherwise} after {seconds:g} s")
            await asyncio.sleep(pause)

    # -- inside ----------------------------------------------------------------------------------------

    def _spawn(self, module: str, name: str, number: int) -> None:
        variables = {
            **self.environment(name),
            "CHAOS_AUDIENCES": ",".join(self.ids[receiver] for receiver in RECEIVERS),
            "CHAOS_CALLS_PER_SECOND": str(self._per_replica),
        }
        names = [f"{name}-{letter}" for letter in "abc"[:number]]
        self.replicas[name] = [
            Replica(module, replica, {**variables, "CHAOS_NAME": replica}, self.folder) for replica in names
        ]

    def _write_trust(self, name: str, audiences: Sequence[str]) -> None:
        """What `name` trusts: every issuer may call these audiences."""
        rows = [
            f'[[allow]]\nissuer = "{self.ids[issuer]}"\naudience = "{self.ids[audience]}"\n'
            for issuer in ISSUERS
            for audience in audiences
        ]
        defaults = f'algorithms = ["ES256", "RS256"]\nleeway = "{LEEWAY}s"\nallow_loopback_http = true\n'
        text = "\n".join(["version = 1", "[defaults]", defaults, *rows])
        (self.folder / f"{name}.toml").write_text(text, encoding="utf-8")

    async def _all_answer(self, replicas: Sequence[Replica], path: str, status: int) -> bool:
        try:
            answers = [await self.http.get(replica.url + path) for replica in replicas]
        except httpx.TransportError:
            return False
        return all(answer.status_code == status for answer in answers)

    async def _ask(self, method: str, path: str, issuers: Sequence[str]) -> dict[str, bytes]:
        replicas = [replica for name in issuers for replica in self.replicas[name] if not replica.frozen]
        # a call that is under way may take its ten seconds, and a replica may be frozen meanwhile
        answers = await asyncio.gather(
            *(self.http.request(method, replica.url + path, timeout=30) for replica in replicas)
        )
        return {replica.name: answer.content for replica, answer in zip(replicas, answers, strict=True)}
