"""The two drivers of a flow, and the only place where sync and async differ (house rule 3).

A flow is a generator that yields `FetchJWKS` and is sent the time afterwards. However often it yields, all
its waits end at one deadline, the client's `wait_seconds` after it began. A wait that runs out is not an
error here: the flow looks at its resolver and decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Generator
from typing import TypeVar

from .effects import FetchJWKS
from .jwks_client import JWKSClient

T = TypeVar("T")


def drive(flow: Generator[FetchJWKS, float, T], client: JWKSClient, clock: Callable[[], float]) -> T:
    """Run a flow in this thread; whatever it raises comes out."""
    deadline = time.monotonic() + client.wait_seconds
    try:
        effect = next(flow)
        while True:
            future = client.request(effect.issuer, effect.kid)
            if future is not None:
                concurrent.futures.wait([future], timeout=max(deadline - time.monotonic(), 0))
            effect = flow.send(clock())
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(
    flow: Generator[FetchJWKS, float, T], client: JWKSClient, clock: Callable[[], float]
) -> T:
    """Run a flow on the event loop; a cancelled waiter cancels nobody's fetch."""
    deadline = time.monotonic() + client.wait_seconds
    try:
        effect = next(flow)
        while True:
            future = client.request(effect.issuer, effect.kid)
            if future is not None:
                left = max(deadline - time.monotonic(), 0)
                await asyncio.wait([asyncio.wrap_future(future)], timeout=left)
            effect = flow.send(clock())
    except StopIteration as done:
        value: T = done.value
        return value
