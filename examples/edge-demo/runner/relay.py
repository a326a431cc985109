"""A small TCP relay: the platform's router before the replicas, and a cable to a Redis that can be cut."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

HOST = "127.0.0.1"


class Target(NamedTuple):
    """Where connections go."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class Relay:
    """Passes every connection on to one of its targets, in turn.

    Args:
        listener: bound and listening, so that nobody else can take the port meanwhile.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener: socket.socket | None = listener
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: Iterator[Target] = itertools.cycle(())
        self._heard: dict[object, bytes] | None = None

    async def start(self, *targets: Target) -> None:
        """Begin, or begin again after `cut`."""
        if targets:
            self._turns = itertools.cycle(targets)
        listener = self._listener or socket.create_server((HOST, self.port))
        self._listener = None
        self._server = await asyncio.start_server(self._accept, sock=listener)

    def cut(self) -> None:
        """Refuse new connections and drop those there are."""
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.transport.abort()

    @contextmanager
    def overhear(self) -> Iterator[Callable[[], list[str]]]:
        """What callers send meanwhile, one text for each connection: what a thief on a router gets to see."""
        heard: dict[object, bytes] = {}
        self._heard = heard
        try:
            yield lambda: [sent.decode("latin-1") for sent in heard.values()]
        finally:
            self._heard = None

    def _hear(self, connection: object, data: bytes) -> None:
        if self._heard is not None:
            self._heard[connection] = self._heard.get(connection, b"") + data

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target: Target = next(self._turns)
        opened = [writer]
        self._connections.add(writer)
        try:
            there = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
            opened.append(there[1])
            self._connections.add(there[1])
            there_and_back = (
                _pump(reader, there[1], lambda data: self._hear(writer, data)),
                _pump(there[0], writer, lambda _: None),
            )
            ways = [asyncio.ensure_future(way) for way in there_and_back]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        except OSError:
            pass  # the target is down: the caller sees a closed connection
        finally:
            for end in opened:
                self._connections.discard(end)
                end.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Callable[[bytes], None]
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            hear(data)
            writer.write(data)
            await writer.drain()
