"""The two drivers of a flow, and the only place where sync and async differ (house rule 3).

A flow is a generator that yields effects and is sent an `Answer` for each. However often it yields, all its
waits end at one deadline, `wait_seconds` after it began. A wait that runs out is not an error here: the flow
is sent an answer without a result, looks at what it knows, and decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from .effects import Answer, AskPolicy, Effect
from .errors import ConfigError, PolicyUnavailable
from .policy import discard

T = TypeVar("T")


class Outside(Protocol):
    """What carries effects out."""

    @property
    def wait_seconds(self) -> float:
        """How long one flow may wait in all."""

    def begin(self, effect: Effect) -> concurrent.futures.Future[Any] | None:
        """Begin what is asked for; None where there is nothing to wait for. Never blocks."""


def drive(flow: Generator[Effect, Answer, T], outside: Outside, clock: Callable[[], float]) -> T:
    """Run a flow in this thread; whatever it raises comes out.

    Raises:
        ConfigError: a policy has to be awaited, which only an event loop can.
    """
    try:
        effect = next(flow)
        deadline = time.monotonic() + outside.wait_seconds
        while True:
            if isinstance(effect, AskPolicy):
                discard(effect.pending)
                raise ConfigError(
                    "the policy answers asynchronously and this call is synchronous: use verify_async or the "
                    "middleware, or a policy whose decide() is not async"
                )
            future = outside.begin(effect)
            if future is not None:
                # concurrent.futures.wait() does not see a fetch that close() cancelled
                with contextlib.suppress(concurrent.futures.CancelledError, concurrent.futures.TimeoutError):
                    future.exception(timeout=max(deadline - time.monotonic(), 0))
            effect = flow.send(Answer(clock(), _result(future)))
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(flow: Generator[Effect, Answer, T], outside: Outside, clock: Callable[[], float]) -> T:
    """Run a flow on the event loop; a cancelled waiter cancels nobody's fetch."""
    try:
        effect = next(flow)
        deadline = time.monotonic() + outside.wait_seconds
        while True:
            if isinstance(effect, AskPolicy):
                said = await _said(effect, max(deadline - time.monotonic(), 0))
                effect = flow.send(Answer(clock(), said))
                continue
            future = outside.begin(effect)
            if future is not None:
                left = max(deadline - time.monotonic(), 0)
                await asyncio.wait([asyncio.wrap_future(future)], timeout=left)
            effect = flow.send(Answer(clock(), _result(future)))
    except StopIteration as done:
        value: T = done.value
        return value


async def _said(effect: AskPolicy, seconds: float) -> Any:
    """What the policy returned or raised; it is stopped where it takes too long."""
    asked = asyncio.ensure_future(effect.pending)
    try:
        await asyncio.wait([asked], timeout=seconds)
    finally:
        asked.cancel()  # nothing if it is done; also when whoever waits here is cancelled
    if not asked.done() or asked.cancelled():
        return PolicyUnavailable("the policy did not answer in time")
    raised = asked.exception()
    return asked.result() if raised is None else raised


def _result(future: concurrent.futures.Future[Any] | None) -> Any:
    if future is None or not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()
