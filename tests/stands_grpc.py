"""The application of `stands.py` as a gRPC service, on servers of both kinds, called over a real channel."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from s2s_mesh import Service
from s2s_mesh.integrations import grpc as door

from .stands import LOG, Fields, Stand, Verdict, seen, users_of

NAME = "wallets.Cards"
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class Calls(Stand):
    """A stand that is called by gRPC."""

    prefix = f"/{NAME}/"
    is_http = False

    def send(self, method: str, path: str, headers: Fields) -> Verdict:
        metadata = [(name.decode(), value.decode()) for name, value in headers]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            call: Any = channel.unary_unary(path)
            try:
                answer, done = call.with_call(b"{}", metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                refused: Any = error
                told = dict(refused.trailing_metadata() or ())
                details = refused.details() or ""
                reason = LOG.reason(details.partition("(")[2].removesuffix(")"))
                return Verdict(STATUSES[refused.code()], told, details, reason)
            return Verdict(200, dict(done.trailing_metadata() or ()), json.loads(answer), None)


def packed(body: Any) -> bytes:
    return json.dumps(body).encode()


class Cards:
    """Plain functions, each in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def read(self, request: Any, context: Any) -> bytes:
        return packed(seen(door.caller()))

    @door.require("cards:write")
    def write(self, request: Any, context: Any) -> bytes:
        return packed(seen(door.caller()))

    def user(self, request: Any, context: Any) -> bytes:
        return packed(users_of(self._service))

    @door.require("cards:write")
    def watch(self, request: Any, context: Any) -> Iterator[bytes]:
        for _ in range(2):
            yield packed(seen(door.caller()))

    def talk(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request + packed(users_of(self._service))

    def sum(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"".join(requests) + packed(seen(door.caller()))


class AioCards:
    """Coroutines and asynchronous generators."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def read(self, request: Any, context: Any) -> bytes:
        await asyncio.sleep(0)
        return packed(seen(door.caller()))

    @door.require("cards:write")
    async def write(self, request: Any, context: Any) -> bytes:
        return packed(seen(door.caller()))

    async def user(self, request: Any, context: Any) -> bytes:
        return packed(users_of(self._service))

    @door.require("cards:write")
    async def watch(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        for _ in range(2):
            yield packed(seen(door.caller()))

    async def talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request + packed(users_of(self._service))

    async def sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests]) + packed(seen(door.caller()))


def handlers(cards: Any) -> Any:
    methods: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(cards.read)
        for name in ("read", "open", "proved", "cards/7")
    }
    methods |= {name: grpc.unary_unary_rpc_method_handler(cards.write) for name in ("write", "open/write")}
    methods["user"] = grpc.unary_unary_rpc_method_handler(cards.user)
    methods["cards/watch"] = grpc.unary_stream_rpc_method_handler(
        cards.watch, request_deserializer=json.loads
    )
    methods["talk"] = grpc.stream_stream_rpc_method_handler(cards.talk)
    methods["cards/sum"] = grpc.stream_unary_rpc_method_handler(cards.sum)
    methods["cards/parsed"] = grpc.unary_unary_rpc_method_handler(cards.read, request_deserializer=json.loads)
    return grpc.method_handlers_generic_handler(NAME, methods)


def listening(server: Any, tls: grpc.ServerCredentials | None) -> int:
    """The port."""
    address = "127.0.0.1:0"
    port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls)
    return int(port)


@contextmanager
def in_threads(service: Service, tls: grpc.ServerCredentials | None = None) -> Iterator[int]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[door.Interceptor(service)])
        server.add_generic_rpc_handlers((handlers(Cards(service)),))
        port = listening(server, tls)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


@contextmanager
def on_a_loop(service: Service, tls: grpc.ServerCredentials | None = None) -> Iterator[int]:
    loop = asyncio.new_event_loop()

    async def start() -> tuple[Any, int]:
        server = grpc.aio.server(interceptors=[door.AioInterceptor(service)])
        server.add_generic_rpc_handlers((handlers(AioCards(service)),))
        port = listening(server, tls)
        await server.start()
        return server, port

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30)
        try:
            yield port
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(timeout=30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


STANDS: dict[str, Callable[..., Any]] = {"gRPC": in_threads, "gRPC aio": on_a_loop}
