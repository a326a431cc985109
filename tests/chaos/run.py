"""One run: start, trouble, verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from . import ChaosError
from .fleet import ISSUERS, RECEIVERS, Fleet
from .hostile import Hostile, present
from .plan import Plan
from .report import Report
from .rings import Rings
from .stores import Stores, running
from .timeline import Timeline
from .troubles import TROUBLES, Scene, Trouble
from .verdict import Line, block


class Run:
    """Puts a fleet through a plan.

    Args:
        plan: how much of everything.
        folder: for trust files and logs.
        stores: the Redis servers.
        say: prints a line.
    """

    def __init__(self, plan: Plan, folder: Path, stores: Stores, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._stores = stores
        self.fleet = Fleet(folder, stores.urls, plan.calls_per_second)
        self._rings = Rings({name: self.fleet.environment(name) for name in ISSUERS})
        self._hostile = Hostile(self.fleet, self._rings)
        self._timeline = Timeline()
        self._scene = Scene(
            self.fleet,
            stores,
            self._rings,
            self._hostile,
            hold=plan.hold,
            down=plan.down,
            settle=plan.settle,
            stalls=self._timeline.stalls,
        )
        self._began = 0.0
        self._problems: list[str] = []

    async def play(self) -> bool:
        """All of it; whether the verdict is good.

        Raises:
            ChaosError: it could not be carried through.
        """
        self._say("starting 3 issuers with 3 replicas each, 2 receivers with 2 each")
        await self.fleet.start()
        await self._until_let_in()
        await self.fleet.begin()
        self._began = time.time()
        async with self._beside(self._rings.watch(), self._hostile.go_on(), self._timeline.watch()):
            await self._phase("all", "calm", asyncio.sleep(self._plan.settle))
            if self._plan.in_turn:
                for trouble in TROUBLES:
                    await self._trouble(trouble)
            else:
                await asyncio.gather(*map(self._lane, ISSUERS))
            await self._phase("all", "calm", self._until_enough())
        seconds = time.time() - self._began
        await self.fleet.end()
        report = Report(self._scene, self._timeline, self._say)
        lines = [
            *await report.traffic(seconds, self._plan),
            *await report.aftermath(),
            Line(
                "troubles that did not heal",
                f"{len(self._problems)}",
                not self._problems,
                "; ".join(self._problems),
            ),
        ]
        self._say("")
        self._say(block(lines))
        return all(line.good for line in lines)

    async def close(self) -> None:
        """End every process."""
        self._rings.close()
        await self.fleet.stop()

    # -- phases ----------------------------------------------------------------------------------------

    async def _lane(self, issuer: str) -> None:
        for trouble in TROUBLES:
            if trouble.issuer == issuer:
                await self._trouble(trouble)

    async def _trouble(self, trouble: Trouble) -> None:
        async def play() -> str:
            try:
                remark = await trouble.play(self._scene)
            except ChaosError as problem:
                self._problems.append(f"{trouble.issuer}, {trouble.what}: {problem}")
                remark = f"NOT AS EXPECTED: {problem}"
            await asyncio.sleep(self._plan.settle)
            return remark

        await self._phase(trouble.issuer, trouble.what, play())

    async def _phase(self, issuer: str, what: str, doing: Awaitable[str | None]) -> None:
        with self._timeline.during(what):
            remark = await doing
        self.fleet.check_alive()
        tallies = await self.fleet.tallies(next_phase=True)
        calls = sum(tally.calls for tally in tallies.values())
        failures = [failure for tally in tallies.values() for failure in tally.failures]
        failed = sum(self._scene.pardon.reason(failure) is None for failure in failures)
        slowest = 1000 * max(tally.slowest for tally in tallies.values())
        self._say(
            f"{time.time() - self._began:5.1f} s  {issuer:<7}  {what:<37}  {calls:>6} calls, "
            f"{failed} failed, slowest {slowest:.0f} ms  {remark or ''}".rstrip()
        )

    async def _until_enough(self) -> str:
        while time.time() < self._began + self._plan.at_most:
            calls = sum(tally.calls for tally in (await self.fleet.tallies()).values())
            enough = calls >= self._plan.calls and time.time() >= self._began + self._plan.seconds
            if enough and self._hostile.tried_everything():
                break
            await asyncio.sleep(0.5)
        return ""

    async def _until_let_in(self) -> None:
        """Wait until every receiver's replica has the keys of every issuer."""
        for name in ISSUERS:
            for receiver in RECEIVERS:
                for replica in self.fleet.replicas[receiver]:

                    async def let_in(
                        name: str = name, receiver: str = receiver, url: str = replica.url
                    ) -> bool:
                        ring = await self._rings.look(name)
                        record = None if ring is None else ring.signing_record(time.time())
                        if record is None or record.private is None:
                            return False
                        issuer, audience = self.fleet.ids[name], self.fleet.ids[receiver]
                        token = self._hostile.held_token(issuer, record.private, audience)
                        return (await present(self.fleet.http, url, token)).is_success

                    await self.fleet.until(let_in, 30, f"{replica.name} does not let {name} in")

    @asynccontextmanager
    async def _beside(self, *work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run this beside the block; what fails there fails the block."""
        tasks = [asyncio.ensure_future(doing) for doing in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    self._problems.append(f"beside the calls: {type(outcome).__name__}: {outcome}")


async def carry_out(plan: Plan, folder: Path, say: Callable[[str], None]) -> bool:
    """Run a plan with servers of its own; whether the verdict is good."""
    with running() as stores:
        run = Run(plan, folder, stores, say)
        try:
            return await run.play()
        finally:
            await run.close()
