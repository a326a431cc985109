"""The processes of the demo: services, replicas and all, a login, and what each finds in its environment."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import httpx

from s2s_mesh import TrustConfig
from s2s_mesh.store.key_encryption import generate_key_encryption_key

from . import DemoError
from .processes import Processes
from .relay import HOST, Relay, Target
from .store import Store, choose

HERE = Path(__file__).resolve().parents[1]
SHIPPED_TRUST = HERE.parents[1] / "trust" / "trust.toml"
# as in trust.toml
LISTED = {"edge": 8101, "wallets": 8102, "ledger": 8103, "settlement": 8104, "login": 8105, "partner": 8106}
SERVICES = {"edge": 2, "wallets": 2, "ledger": 1, "settlement": 1, "partner": 1, "intruder": 1}
REPLICAS = {**SERVICES, "login": 1}
_WITHOUT_WEB_SIDE = {"settlement", "partner"}
CLI = [sys.executable, "-c", "from s2s_mesh.cli import main; main()"]
_READY = re.compile(r"http://127\.0\.0\.1:(\d+) (?:ready|\(Press)")
_REFUSED = re.compile(r"\brefused \S+ \S+: \w+: ")
_START_SECONDS = 90.0
# what would change the services behind our back
_NOT_INHERITED = re.compile(r"S2S_MESH_|REDIS_URL$|UVICORN_|WEB_CONCURRENCY$|\w+_PROXY$", re.IGNORECASE)


class Refusal(NamedTuple):
    """One line of a receiver's log."""

    reason: str
    detail: str


class Fleet:
    """All processes. `start` begins, `stop` ends every one of them.

    Attributes:
        directory: for logs and the trust file; removed by `stop`.
        ids: of the services, by name.
        replicas: URLs of the processes behind each id, by name.
        trust: the trust file in use.
        api_key: of partner.
        store: the Redis in use.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._inherited = {k: v for k, v in environ.items() if not _NOT_INHERITED.match(k)}
        self._processes = Processes(HERE)
        self._relays: dict[str, Relay] = {}
        self._keys = {name: generate_key_encryption_key() for name in SERVICES}
        self._trust_text = ""
        self.api_key = secrets.token_urlsafe(32)
        self.directory = self._processes.directory
        self.ids: dict[str, str] = {}
        self.replicas: dict[str, list[str]] = {}
        self.trust = self.directory / "trust.toml"
        self.store: Store = choose(
            environ, lambda name, command: self._processes.spawn(name, command, self._inherited)
        )

    # -- start and stop --------------------------------------------------------------------------------

    async def start(self, say: Callable[[str], None]) -> None:
        """Start everything and wait until every replica serves its JWKS.

        Raises:
            DemoError: something does not start; says what, and what it logged.
            ConfigError: somebody has changed the trust file, and now it is wrong.
        """
        say(f"starting {self.store.name}")
        await self.store.up()
        self._choose_ids()
        say(f"trust file: a copy of {_short(SHIPPED_TRUST)}")
        say(f"starting {sum(REPLICAS.values())} processes: {', '.join(REPLICAS)}")
        for name in REPLICAS:
            for replica in _replicas(name):
                self._processes.spawn(replica, _command(name), self.environment(name))
        deadline = time.monotonic() + _START_SECONDS
        for name in REPLICAS:
            ports = [await self._port(replica, deadline) for replica in _replicas(name)]
            self.replicas[name] = [f"http://{HOST}:{port}" for port in ports]
            await self._relays[name].start(*(Target(HOST, port) for port in ports))
        say("waiting for the first keys")
        async with httpx.AsyncClient(trust_env=False) as http:
            for url in (url for urls in self.replicas.values() for url in urls):
                await self._until_ready(http, url, deadline)

    def stop(self, *, keep_logs: bool) -> None:
        """End every process, take the rings of the demo out of a foreign Redis, remove the directory.

        Raises:
            DemoError: the rings could not be removed.
        """
        self._processes.terminate()
        for relay in self._relays.values():
            relay.cut()
        try:
            self.store.clean(self.ids.values())
        finally:
            self._processes.end(keep_directory=keep_logs)

    # -- what the rows need ----------------------------------------------------------------------------

    def environment(self, name: str) -> dict[str, str]:
        """All that the service finds in its environment."""
        if name == "login":
            return {**self._inherited, "LOGIN_URL": self.ids[name]}
        return {
            **self._inherited,
            "S2S_MESH_ISSUER": self.ids[name],
            "S2S_MESH_TRUST_FILE": str(self.trust),
            "S2S_MESH_KEY_ENCRYPTION_KEY": self._keys[name],
            "S2S_MESH_ROTATION": "fast-for-tests",
            "S2S_MESH_ALGORITHM": "RS256" if name == "settlement" else "ES256",
            "REDIS_URL": self.store.url,
            "WALLETS_URL": self.ids["wallets"],
            "LEDGER_URL": self.ids["ledger"],
        }

    def run(self, name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a script as one of the services, to its end."""
        return self._processes.run([sys.executable, *arguments], self.environment(name))

    def router(self, name: str) -> Relay:
        """What stands before the replicas of a service."""
        return self._relays[name]

    def move_partner(self, stage: str) -> None:
        """Write partner's row anew, at another stage; the services watch the file."""
        row = {
            "issuer": self.ids["partner"],
            "audience": self.ids["wallets"],
            "migration": stage,
            "api_key_sha256": hashlib.sha256(self.api_key.encode()).hexdigest(),
        }
        lines = [f'{member} = "{value}"' for member, value in row.items()]
        until = datetime.now(timezone.utc).date() + timedelta(days=30)
        self._write_trust("\n".join([self._trust_text, "[[legacy]]", *lines, f"until = {until}", ""]))

    def refusal(self, receiver: str, request_id: str) -> Refusal | None:
        """What the receiver's log says about a request; None while it says nothing."""
        line = re.compile(
            rf"refused \S+ \S+: (\w+): (.*) \[claimed issuer .*, request {re.escape(request_id)}\]"
        )
        found = line.search(self._read_logs(receiver))
        return None if found is None else Refusal(*found.groups())

    def refusals(self, receiver: str) -> int:
        """How many refusals the receiver has logged so far."""
        return len(_REFUSED.findall(self._read_logs(receiver)))

    def check_alive(self) -> None:
        """Complain of a service that has died.

        Raises:
            DemoError: naming it, with the end of its log.
        """
        names = [replica for name in REPLICAS for replica in _replicas(name)]
        self._processes.check_alive(names)

    def token_script(self) -> Path:
        """A script that prints a token: its arguments are a service's name and an audience."""
        script = self.directory / "token"
        cases = []
        for name in SERVICES:
            mesh = {
                k: v for k, v in self.environment(name).items() if k.startswith(("S2S_MESH_", "REDIS_URL"))
            }
            settings = " ".join(f"{variable}={shlex.quote(value)}" for variable, value in mesh.items())
            cases.append(f"{name}) export {settings};;")
        lines = [
            "#!/bin/sh",
            'case "$1" in',
            *cases,
            f'*) echo "usage: $0 {"|".join(SERVICES)} AUDIENCE [--scope SCOPE]" >&2; exit 2;;',
            "esac",
            "shift",
            f'exec {shlex.join(CLI)} token mint --audience "$@"',
        ]
        script.touch(mode=0o700)
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return script

    # -- inside ----------------------------------------------------------------------------------------

    def _choose_ids(self) -> None:
        """Take the ports that trust.toml names, or, if one is taken, free ones; and a copy of the file."""
        free = dict.fromkeys(LISTED, 0)
        for ports in (LISTED, free, free, free):
            listeners = _listen({**ports, "intruder": 0})
            if listeners and not self._known_to_store(listeners):
                break
            for listener in listeners.values():
                listener.close()
        else:
            raise DemoError(f"no free ports on {HOST}, or the Redis holds rings for all that were tried")
        self._trust_text = _with_ports(SHIPPED_TRUST.read_text(encoding="utf-8"), listeners)
        TrustConfig.parse(self._trust_text.encode(), source=_short(SHIPPED_TRUST))
        self._relays = {name: Relay(listener) for name, listener in listeners.items()}
        self.ids = {name: f"http://{HOST}:{relay.port}" for name, relay in self._relays.items()}
        self._write_trust(self._trust_text)

    def _known_to_store(self, listeners: Mapping[str, socket.socket]) -> bool:
        """A ring that another demo left, or is using, is sealed with another key."""
        return self.store.holds_any([f"http://{HOST}:{s.getsockname()[1]}" for s in listeners.values()])

    def _write_trust(self, text: str) -> None:
        """By a rename, so that nobody reads half of it."""
        new = self.trust.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.trust)

    async def _port(self, replica: str, deadline: float) -> int:
        while True:
            found = _READY.search(self._processes.log(replica))
            if found is not None:
                return int(found[1])
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"{replica} does not start:\n{self._processes.tail(replica)}")
            await asyncio.sleep(0.05)

    async def _until_ready(self, http: httpx.AsyncClient, url: str, deadline: float) -> None:
        while True:
            with suppress(httpx.HTTPError):
                if (await http.get(f"{url}/.well-known/jwks.json")).status_code == 200:
                    return
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"{url} has no keys after {_START_SECONDS:.0f} s; logs: {self.directory}")
            await asyncio.sleep(0.05)

    def _read_logs(self, name: str) -> str:
        return "\n".join(map(self._processes.log, _replicas(name)))


def _with_ports(text: str, listeners: Mapping[str, socket.socket]) -> str:
    # all at once: a free port may be one that stands in the file for somebody else
    ports = {str(port): str(listeners[name].getsockname()[1]) for name, port in LISTED.items()}
    return re.sub(rf"(?<=http://{re.escape(HOST)}:)\d+", lambda match: ports[match[0]], text)


def _replicas(name: str) -> list[str]:
    return [name] if REPLICAS[name] == 1 else [f"{name}-{'ab'[number]}" for number in range(REPLICAS[name])]


def _command(name: str) -> list[str]:
    if name in _WITHOUT_WEB_SIDE:
        return [*CLI, "serve", "--host", HOST, "--port", "0"]
    # a longer keep-alive than httpx has: no connection is closed just when it is used again
    options = ["--host", HOST, "--port", "0", "--no-access-log", "--timeout-keep-alive", "60"]
    return [sys.executable, "-m", "uvicorn", f"{name}:app", *options]


def _listen(ports: Mapping[str, int]) -> dict[str, socket.socket]:
    """Listen on all of these ports, or, if one is taken, on none."""
    listeners: dict[str, socket.socket] = {}
    try:
        for name, port in ports.items():
            listeners[name] = socket.create_server((HOST, port))
    except OSError:
        for listener in listeners.values():
            listener.close()
        return {}
    return listeners


def _short(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
