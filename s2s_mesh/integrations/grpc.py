"""gRPC servers, `grpc` and `grpc.aio`: an interceptor decides about each call, `caller()` says who calls.

A method is a route: `POST`, path `/package.Service/Method`. Metadata are the header fields. What is refused
is `UNAUTHENTICATED`, `PERMISSION_DENIED`, `INVALID_ARGUMENT` or `UNAVAILABLE`, with the id under which the
log has the reason, and with the fields of the HTTP answer as trailing metadata. Keys are published over HTTP:
by another process of the service, or by `s2s-mesh serve`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import Any, TypeVar

import grpc
import grpc.aio

from ..context import SERVING, Serving
from ..doors import UNPROTECTED, Caller, Door, decide, decide_async, foreign_field, wanted_scopes
from ..errors import ConfigError
from ..identity import Principal
from ..inbound import RequestFacts
from ..refusal import Refusal
from .grpc_calls import ConnectionNeeded, abort, abort_async, facts_of, refusing_async

Method = TypeVar("Method", bound=Callable[..., Any])
_CALLER: ContextVar[Caller | None] = ContextVar("s2s_mesh.grpc", default=None)


def caller() -> Principal | None:
    """The caller of the method that runs here; None for an anonymous one of a public path.

    Raises:
        ConfigError: no call that passed the interceptor is served here.
    """
    return _here().principal


def require(*scopes: str) -> Callable[[Method], Method]:
    """Make a decorator for methods of a servicer: callers without these scopes get `PERMISSION_DENIED`.

    Raises:
        ConfigError: something that is no scope; later, that no interceptor was passed.
    """
    wanted = wanted_scopes(scopes)

    def decorate(method: Method) -> Method:
        guarded: Any
        if inspect.isasyncgenfunction(method):

            @wraps(method)
            async def guarded(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
                refused = _here().refused(wanted)
                if refused is not None:
                    await abort_async(refused, context)
                    return
                async for message in method(self, request, context):
                    yield message

        elif inspect.iscoroutinefunction(method):

            @wraps(method)
            async def guarded(self: Any, request: Any, context: Any) -> Any:
                refused = _here().refused(wanted)
                if refused is not None:
                    return await abort_async(refused, context)
                return await method(self, request, context)

        else:

            @wraps(method)
            def guarded(self: Any, request: Any, context: Any) -> Any:
                refused = _here().refused(wanted)
                return method(self, request, context) if refused is None else abort(refused, context)

        return guarded  # type: ignore[no-any-return]

    return decorate


class Interceptor(grpc.ServerInterceptor):
    """For `grpc.server(pool, interceptors=[Interceptor(service)])`: only who may call comes through.

    A call is decided about where its method runs, in the pool, since that may wait for keys; no message is
    deserialised before.
    """

    def __init__(self, service: Door) -> None:
        self._service = service

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """See `grpc.ServerInterceptor`."""
        return _guarded(continuation(handler_call_details), self._service, handler_call_details)


class AioInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[AioInterceptor(service)])`: only who may call comes through.

    Methods are coroutines or asynchronous generators; plain functions, which `grpc.aio` runs in threads, are
    protected as well, but `caller()` need not know the call there.
    """

    def __init__(self, service: Door) -> None:
        self._service = service

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        details = handler_call_details
        try:
            outcome = await decide_async(
                self._service, facts_of(details, self._service.public_paths), details.method
            )
        except ConnectionNeeded:
            # known where the method runs, and not yet here
            handler = await continuation(details)
            guarded = _deciding_async if handler is None or _is_async(_method_of(handler)) else _guarded
            return guarded(handler, self._service, details)
        if isinstance(outcome, Refusal):
            return refusing_async(outcome)
        _serve_in_this_task(self._service, outcome)
        return await continuation(details)


def _here() -> Caller:
    found = _CALLER.get()
    if found is None:
        raise ConfigError(UNPROTECTED)
    return found


def _serve_in_this_task(service: Door, caller: Caller) -> None:
    """The whole call is served in the context of one task."""
    _CALLER.set(caller)
    here = Serving(service, None if caller.principal is None else caller.principal.user)
    SERVING.set(here)

    def is_over(_: object) -> None:
        here.user = None

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs
    task.add_done_callback(is_over)


def _foreign_fields(service: Door, facts: RequestFacts) -> Refusal | None:
    """The refusal of a call that says who presents a certificate, and is no proxy of ours.

    Metadata cannot be taken from a call, so that what is stripped elsewhere is refused here.
    """
    proxies = service.proxies
    if proxies is None or len(proxies.without_foreign(facts.headers, facts.peer.address)) == len(
        facts.headers
    ):
        return None
    return foreign_field(service, facts.method, facts.raw_path.decode("latin-1"))


def _guarded(handler: Any, service: Door, details: Any) -> Any:
    """The same method behind the decision; one that does not exist is refused to whom nothing is told."""
    if handler is None:
        handler = grpc.unary_unary_rpc_method_handler(_unknown)
    method = _method_of(handler)

    def behaviour(given: Any, context: Any) -> Any:
        facts = facts_of(details, service.public_paths, context)
        outcome = _foreign_fields(service, facts) or decide(service, facts, details.method)
        if isinstance(outcome, Refusal):
            return abort(outcome, context)
        here = copy_context()
        here.run(_CALLER.set, outcome)
        request = given if handler.request_streaming else _deserialised(handler, given, context)
        if handler.response_streaming:
            return _stream_within(here, _served(outcome, method, request, context))
        return here.run(_answer, outcome, method, request, context)

    def in_steps(given: Any, context: Any) -> Iterator[Any]:
        # nothing before the first step, which alone `grpc.aio` leaves to a thread
        yield from behaviour(given, context)

    return _behaving(handler, in_steps if handler.response_streaming else behaviour)


def _method_of(handler: Any) -> Any:
    """The function of a handler, which has one for its kind."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _is_async(method: Any) -> bool:
    """Whether `grpc.aio` runs this function on the loop, and not in a thread."""
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _behaving(handler: Any, behaviour: Any) -> Any:
    """A handler of the same kind that gets a single request as bytes, to decide before it is deserialised."""
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    # an iterator of requests deserialises each when it is asked for the next
    deserializer = handler.request_deserializer if handler.request_streaming else None
    return make(behaviour, request_deserializer=deserializer, response_serializer=handler.response_serializer)


def _unknown(_: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _deserialised(handler: Any, given: Any, context: Any) -> Any:
    if handler.request_deserializer is None:
        return given
    try:
        return handler.request_deserializer(given)
    except Exception:  # noqa: BLE001 - as gRPC itself does
        return context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")


def _answer(caller: Caller, method: Any, request: Any, context: Any) -> Any:
    with caller.serving():
        return method(request, context)


def _served(caller: Caller, method: Any, request: Any, context: Any) -> Generator[Any, None, None]:
    with caller.serving():
        yield from method(request, context)


def _stream_within(here: Context, messages: Generator[Any, None, None]) -> Iterator[Any]:
    """Each step of a generator in one context, whichever thread asks for it."""
    over = object()
    try:
        while (message := here.run(next, messages, over)) is not over:
            yield message
    finally:
        here.run(messages.close)


def _deciding_async(handler: Any, service: Door, details: Any) -> Any:
    """The same method behind a decision that is taken where the connection is known.

    No message is deserialised before. A method that does not exist is refused to whom nothing is told.
    """
    if handler is None:
        handler = grpc.unary_unary_rpc_method_handler(_unknown_async)
    method = _method_of(handler)

    async def admitted(context: Any) -> bool:
        facts = facts_of(details, service.public_paths, context)
        outcome = _foreign_fields(service, facts) or await decide_async(service, facts, details.method)
        if isinstance(outcome, Refusal):
            await abort_async(outcome, context)
            return False
        _serve_in_this_task(service, outcome)
        return True

    async def request_of(given: Any, context: Any) -> Any:
        if handler.request_streaming or handler.request_deserializer is None:
            return given
        try:
            return handler.request_deserializer(given)
        except Exception:  # noqa: BLE001 - as gRPC itself does
            return await context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing request!")

    async def one_answer(given: Any, context: Any) -> Any:
        if await admitted(context):
            return await method(await request_of(given, context), context)
        return None

    async def many_answers(given: Any, context: Any) -> None:
        if not await admitted(context):
            return
        answers = method(await request_of(given, context), context)
        if not inspect.isasyncgen(answers):
            await answers
            return
        async for answer in answers:
            await context.write(answer)

    return _behaving(handler, many_answers if handler.response_streaming else one_answer)


async def _unknown_async(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
