"""The two drivers of a flow, and the only place where sync and async differ (house rule 3).

A flow is a generator that yields `FetchJWKS` and is sent the time afterwards. A wait that runs out is not an
error here: the flow looks at its resolver and decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Generator
from typing import TypeVar

from .effects import FetchJWKS
from .jwks_client import WAIT_SECONDS, JWKSClient

T = TypeVar("T")


def drive(flow: Generator[FetchJWKS, float, T], client: JWKSClient, clock: Callable[[], float]) -> T:
    """Run a flow in this thread; whatever it raises comes out."""
    try:
        effect = next(flow)
        while True:
            future = client.request(effect.issuer, effect.kid)
            if future is not None:
                # concurrent.futures.wait() does not see a fetch that close() cancelled
                with contextlib.suppress(concurrent.futures.CancelledError, concurrent.futures.TimeoutError):
                    future.exception(timeout=WAIT_SECONDS)
            effect = flow.send(clock())
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(
    flow: Generator[FetchJWKS, float, T], client: JWKSClient, clock: Callable[[], float]
) -> T:
    """Run a flow on the event loop; a cancelled waiter cancels nobody's fetch."""
    try:
        effect = next(flow)
        while True:
            future = client.request(effect.issuer, effect.kid)
            if future is not None:
                await asyncio.wait([asyncio.wrap_future(future)], timeout=WAIT_SECONDS)
            effect = flow.send(clock())
    except StopIteration as done:
        value: T = done.value
        return value
