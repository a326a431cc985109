"""The door for gRPC where it differs from HTTP: kinds of methods, metadata, method names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from s2s_mesh import ConfigError, NoUser
from s2s_mesh.errors import Reason
from s2s_mesh.integrations import grpc as door

from .servers import wait_until
from .stands import LOG, service_of, with_log
from .stands_grpc import NAME, STANDS, STATUSES, Calls
from .tokens import CARRIED, EDGE, carrying, good

R = Reason
GOOD = good()
SEEN = b'{"caller": "https://edge.example.com", "scopes": ["cards:read", "cards:write"]}'


@pytest.fixture(scope="module", params=list(STANDS))
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    service = service_of(tmp_path_factory.mktemp("grpc"), prefix=Calls.prefix, methods=["POST"])
    with with_log(), service, STANDS[request.param](service) as port:
        yield Calls(request.param, port)


def outcome(calls: Calls, kind: str, method: str, given: Any, token: bytes | None) -> Any:
    """What comes back of a call of some kind: the messages, or status and reason."""
    fields = [] if token is None else [("authorization", "Bearer " + token.decode())]
    with grpc.insecure_channel(f"127.0.0.1:{calls.port}") as channel:
        call = getattr(channel, kind)(f"/{NAME}/{method}")
        try:
            answer = call(given, metadata=fields, timeout=30)
            return list(answer) if kind.endswith("stream") else answer
        except grpc.RpcError as error:
            refused: Any = error
            reason = LOG.reason((refused.details() or "").partition("(")[2].removesuffix(")"))
            return STATUSES.get(refused.code(), refused.code()), reason


@pytest.mark.parametrize(
    ("kind", "method", "given", "answer"),
    [
        pytest.param("unary_stream", "cards/watch", b"{}", [SEEN, SEEN], id="one request, many answers"),
        pytest.param("stream_unary", "cards/sum", [b"a", b"b"], b"ab" + SEEN, id="many requests, one answer"),
        pytest.param("unary_unary", "cards/parsed", b"{}", SEEN, id="a request that is deserialised"),
    ],
)
def test_every_kind_of_method_knows_the_caller(
    calls: Calls, kind: str, method: str, given: Any, answer: Any
) -> None:
    """And is refused like any other."""

    def asked() -> Any:
        return iter(given) if isinstance(given, list) else given

    assert outcome(calls, kind, method, asked(), GOOD) == answer
    assert outcome(calls, kind, method, asked(), None) == (401, R.NO_CREDENTIAL.value)
    reader = good(scope="cards:read")
    assert outcome(calls, kind, method, asked(), reader) == (403, R.MISSING_SCOPE.value)


def test_the_user_is_known_as_long_as_a_conversation_lasts(calls: Calls) -> None:
    """In every step of a method that answers while it is asked."""
    user = b'{"user": "%s"}' % CARRIED["sub"].encode()
    said = outcome(calls, "stream_stream", "talk", iter([b"a", b"b"]), carrying())
    assert said == [b"a" + user, b"b" + user]
    assert outcome(calls, "stream_stream", "talk", iter([b"a"]), GOOD) == (403, R.USER_REQUIRED.value)


def test_what_outlives_a_call_finds_nobody(tmp_path: Path) -> None:
    """A task that is left behind by a coroutine does not act for the user of the call."""
    service = service_of(tmp_path, prefix=Calls.prefix, methods=["POST"])
    found: list[str] = []

    async def run() -> None:
        over = asyncio.Event()
        left: list[asyncio.Task[None]] = []

        async def later() -> None:
            found.append(service.inbound_user.subject)
            await over.wait()
            # the caller may have its answer a moment before the call is over
            await asyncio.to_thread(wait_until, nobody)

        def nobody() -> bool:
            try:
                return not service.inbound_user.subject
            except NoUser:
                return True

        async def user(_: bytes, context: Any) -> bytes:
            left.append(asyncio.create_task(later()))
            await asyncio.sleep(0)
            return b""

        server = grpc.aio.server(interceptors=[door.AioInterceptor(service)])
        handler: Any = grpc.unary_unary_rpc_method_handler(user)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, {"user": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        calls = Calls("aio", port)
        assert await asyncio.to_thread(outcome, calls, "unary_unary", "user", b"", carrying()) == b""
        over.set()
        await asyncio.wait_for(left[0], 30)
        await server.stop(None)

    with service:
        asyncio.run(run())
    assert found == [CARRIED["sub"]]


def test_a_message_is_read_only_once_its_caller_is_known(calls: Calls) -> None:
    """What cannot be deserialised is nobody's business before that."""
    assert outcome(calls, "unary_unary", "cards/parsed", b"no JSON", None) == (401, R.NO_CREDENTIAL.value)
    status, reason = outcome(calls, "unary_unary", "cards/parsed", b"no JSON", GOOD)
    assert status in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert reason is None


def test_a_method_that_does_not_exist_is_no_news_for_strangers(calls: Calls) -> None:
    """Only a caller who may call it hears that there is none."""
    assert outcome(calls, "unary_unary", "cards/none", b"", None) == (401, R.NO_CREDENTIAL.value)
    assert outcome(calls, "unary_unary", "cards/none", b"", GOOD) == (404, None)


@pytest.mark.parametrize(
    "method", ["re%61d", "cards%2F7", "/read", "../wallets.Cards/read", "read;x", "READ"]
)
def test_no_spelling_of_a_method_is_a_way_around_the_rules(calls: Calls, method: str) -> None:
    """gRPC decodes nothing, so a method with an escape is another one."""
    status, reason = outcome(calls, "unary_unary", method, b"", GOOD)
    assert status == 403
    assert reason in (R.BAD_PATH.value, R.NO_ROUTE_RULE.value)


def test_metadata_are_fields(calls: Calls) -> None:
    """Binary ones too; two of a name are two."""
    assert calls.call("read", GOOD, headers=[(b"other", b"x")]).body["caller"] == EDGE
    with grpc.insecure_channel(f"127.0.0.1:{calls.port}") as channel:
        call: Any = channel.unary_unary(f"/{NAME}/read")
        fields = [("authorization", "Bearer " + GOOD.decode()), ("trace-bin", b"\x00\xff")]
        assert call(b"", metadata=fields, timeout=30) == SEEN


def test_caller_outside_of_a_call_is_a_mistake() -> None:
    """So is `require` on a server without the interceptor, and what is no scope."""
    with pytest.raises(ConfigError, match="came by without passing it"):
        door.caller()
    with pytest.raises(ConfigError):
        door.require("cards write")
