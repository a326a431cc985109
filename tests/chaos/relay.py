"""The platform's router: one stable address before several replicas, by TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress

HOST = "127.0.0.1"
REST = 1.0  # seconds for which a replica that did not answer is asked last


# a connection to a replica, and what it has said already
_Taken = tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]


class Relay:
    """Gives each connection to the next replica in turn, and passes over those that refuse it.

    With `patience` it does not rely on a replica that takes its time: the request goes to the next as well,
    whoever is first answers, and the slow one rests, as it would behind a router with health checks. Use it
    only where requests are short and may be repeated: the GET of a JWKS.

    Args:
        patience: seconds until a replica has to answer; None for any time.
    """

    def __init__(self, patience: float | None = None) -> None:
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self._patience = patience
        self._ports: list[int] = []
        self._turn = 0
        self._rests_until: dict[int, float] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"

    async def start(self, ports: Sequence[int]) -> None:
        """Begin to pass connections on to these ports."""
        self._ports = list(ports)
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def stop(self) -> None:
        """Drop every connection and take no more."""
        if self._server is None:
            self._listener.close()
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        asked: set[asyncio.Task[_Taken | None]] = set()
        try:
            request = await reader.read(65536)
            there = await self._taker(request, opened, asked)
            if there is not None:
                await _exchange(there, reader, writer)
        except OSError:
            pass  # the caller has gone
        finally:
            for task in asked:
                task.cancel()
            for end in opened:
                end.close()

    async def _taker(
        self, request: bytes, opened: list[asyncio.StreamWriter], asked: set[asyncio.Task[_Taken | None]]
    ) -> _Taken | None:
        """A connection to the replica that takes the request; None where none does."""
        for port in self._in_turn():
            asked.add(asyncio.ensure_future(self._ask(port, request, opened)))
            there = await _first(asked, self._patience)
            if there is not None:
                return there
            self._rests_until[port] = _now() + REST
        return await _first(asked, None)

    async def _ask(self, port: int, request: bytes, opened: list[asyncio.StreamWriter]) -> _Taken | None:
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            opened.append(writer)
            writer.write(request)
            if self._patience is None:
                return reader, writer, b""
            first = await reader.read(65536)
        except OSError:
            return None
        if not first:
            return None
        return reader, writer, first

    def _in_turn(self) -> Iterator[int]:
        """Every replica, the one whose turn it is first, those that rest last."""
        self._turn += 1
        ports = [self._ports[(self._turn + n) % len(self._ports)] for n in range(len(self._ports))]
        yield from sorted(ports, key=lambda port: self._rests_until.get(port, 0.0) > _now())


async def _first(asked: set[asyncio.Task[_Taken | None]], seconds: float | None) -> _Taken | None:
    """The first of those asked that takes the request in time; None once all have refused, or one did."""
    while asked:
        done, _ = await asyncio.wait(asked, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        asked -= done
        for task in done:
            if (taken := task.result()) is not None:
                return taken
        if not done or seconds is not None:
            return None
    return None


async def _exchange(taken: _Taken, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what both sides say until one of them has ended."""
    writer.write(taken[2])
    ways = [asyncio.ensure_future(_pump(*way)) for way in ((taken[0], writer), (reader, taken[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _now() -> float:
    return asyncio.get_running_loop().time()
