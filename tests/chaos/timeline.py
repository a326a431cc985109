"""What was going on when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# seconds for which nothing of ours ran: no process is to blame for what fails then
STALL = 1.0
_TICK = 0.1


class Timeline:
    """Remembers from when to when something was done; things may overlap.

    Attributes:
        stalls: from when to when the machine stood still, in Unix seconds.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, str]] = []
        self.stalls: list[tuple[float, float]] = []

    async def watch(self, clock: Callable[[], float] = time.time, tick: float = _TICK) -> None:
        """Notice when the machine stands still: this process, which has little to do, is not woken."""
        before = clock()
        while True:
            await asyncio.sleep(tick)
            now = clock()
            if now - before > STALL:
                self.stalls.append((before, now))
            before = now

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """The length of the block."""
        position, began = len(self._spans), time.time()
        self._spans.append((began, float("inf"), what))
        try:
            yield
        finally:
            self._spans[position] = (began, time.time(), what)

    def at(self, moment: float) -> str:
        """All that was going on at `moment`, in Unix seconds."""
        return " + ".join(what for began, ended, what in self._spans if began <= moment <= ended) or "nothing"
