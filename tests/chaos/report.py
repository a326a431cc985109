"""From what was counted to the lines of the verdict; prints what explains them on the way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from . import ChaosError, dumps
from .fleet import ISSUERS
from .hostile import REASONS
from .plan import Plan
from .tally import Tally
from .timeline import Timeline
from .troubles import Scene
from .verdict import Line, rotations, told

_AGREE_SECONDS = 30.0
_SHOWN = 40  # calls of one kind


class Report:
    """Looks at a fleet whose calls have ended.

    Args:
        scene: all there is.
        timeline: what was going on when.
        say: prints a line.
    """

    def __init__(self, scene: Scene, timeline: Timeline, say: Callable[[str], None]) -> None:
        self._scene = scene
        self._fleet = scene.fleet
        self._timeline = timeline
        self._say = say
        self._shown: Counter[str] = Counter()

    async def traffic(self, seconds: float, plan: Plan) -> list[Line]:
        """What became of the calls."""
        tallies = await self._fleet.tallies()
        reasons = self._fleet.refusals()
        calls = sum(tally.calls for tally in tallies.values())
        turned = {name: rotations(tallies, name) for name in ISSUERS}
        each = ", ".join(f"{name} {number}" for name, number in turned.items())
        return [
            Line(
                "calls made",
                f"{calls:,}",
                calls >= plan.calls and seconds >= plan.seconds,
                f"in {seconds:.0f} s; at least {plan.calls:,} in {plan.seconds:g} s",
            ),
            Line(
                "rotations",
                f"{min(turned.values())}",
                min(turned.values()) >= plan.rotations,
                f"{each}; at least {plan.rotations} each",
            ),
            self._failed(tallies, reasons),
            self._accepted(reasons),
        ]

    async def aftermath(self) -> list[Line]:
        """What the stores and the replicas hold."""
        return [await self._rings(), await asyncio.to_thread(self._readable_keys)]

    def _failed(self, tallies: Mapping[str, Tally], reasons: Mapping[str, str]) -> Line:
        pardon = self._scene.pardon
        outcomes: Counter[str | None] = Counter()
        retried = 0
        for tally in tallies.values():
            for failure in tally.failures:
                excuse = pardon.reason(failure)
                outcomes[excuse] += 1
                heading = "failed" if excuse is None else f"not counted, {excuse}"
                self._tell(heading, told(failure, self._timeline.at(failure.began), reasons))
            retried += len(tally.retried)
            for failure in tally.retried:
                self._tell(
                    "let in at the second attempt", told(failure, self._timeline.at(failure.began), reasons)
                )
        failed = outcomes.pop(None, 0)
        excused = ", ".join(f"{number} {excuse}" for excuse, number in outcomes.items()) or "none"
        remark = f"not counted: {excused}; let in at the second attempt: {retried}"
        return Line("valid calls failed", f"{failed}", not failed, remark)

    def _accepted(self, reasons: Mapping[str, str]) -> Line:
        hostile = self._scene.hostile
        accepted = hostile.accepted()
        for attempt in accepted:
            self._tell("ACCEPTED", f"{attempt.at:.3f} during {self._timeline.at(attempt.at)}: {attempt.kind}")
        outcomes = hostile.outcomes(reasons)
        for kind, counted in outcomes.items():
            found = ", ".join(f"{reason} {number}" for reason, number in counted.most_common())
            self._say(f"  refused: {kind:<31} {found or 'never tried'}")
        missed = [kind for kind, reason in REASONS.items() if not outcomes[kind][reason]]
        remark = f"of {len(hostile.attempts):,} in {len(REASONS)} kinds"
        if missed:
            remark += f"; never refused for its own reason: {', '.join(missed)}"
        what = "calls that had to be refused and were accepted"
        return Line(what, f"{len(accepted)}", not accepted and not missed, remark)

    async def _rings(self) -> Line:
        numbers = {name: await self._documents(name) for name in ISSUERS}
        good = set(numbers.values()) == {1}
        figure = "1 per issuer" if good else ", ".join(f"{name} {number}" for name, number in numbers.items())
        remark = "JWKS of all replicas and of the store equal, byte by byte"
        return Line("rings at the end", figure, good, remark)

    async def _documents(self, name: str) -> int:
        """How many different JWKS there are of an issuer, once no rotation comes in between; 0 for none."""
        documents: set[bytes] = set()
        deadline = time.monotonic() + _AGREE_SECONDS
        with suppress(ChaosError):
            while len(documents) != 1 and time.monotonic() < deadline:
                before = await self._fleet.documents(name)
                stored = (await self._fleet.command(name, "jwks")).rstrip(b"\n")
                documents = {*before, stored, *await self._fleet.documents(name)}
        return len(documents)

    def _readable_keys(self) -> Line:
        keys = list(self._scene.rings.private.values())
        taken = [dumps.take(server) for server in self._scene.stores.servers]
        found = {kid for dump in taken for kid in dumps.readable(keys, dump)}
        sealed = [dumps.sealed_documents(dump) for dump in taken]
        size = sum(map(len, taken))
        return Line(
            "private keys readable in a Redis dump",
            f"{len(found)}",
            not found and bool(keys) and all(sealed),
            f"of {len(keys)} keys, in {sum(sealed)} sealed rings in {len(taken)} dumps of {size:,} bytes",
        )

    def _tell(self, heading: str, text: str) -> None:
        self._shown[heading] += 1
        if self._shown[heading] <= _SHOWN:
            self._say(f"  {heading}: {text}")
