"""A row of the table, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .calls import Answer, Calls

_ROW_SECONDS = 90.0


@dataclass(frozen=True)
class Outcome:
    """What came of a row; the fields are columns of the table.

    Attributes:
        verdict: what happened.
        reason: from the receiver's log, or what was seen.
        milliseconds: of the call, or the mean of many.
        detail: more, for `--json` and for rows that are not as expected.
    """

    verdict: str
    reason: str = ""
    milliseconds: float | None = None
    detail: str = ""


@dataclass
class Row:
    """One row.

    Attributes:
        name: stable, for `--json`.
        what: what is called.
        who: who calls.
        expected: the verdict that it has to be.
        run: does it.
        slow: left out with `--quick`.
        begins: something new begins with it.
        outcome: None until it ran.
    """

    name: str
    what: str
    who: str
    expected: str
    run: Callable[[Calls], Awaitable[Outcome]]
    slow: bool = False
    begins: bool = False
    outcome: Outcome | None = None

    @property
    def good(self) -> bool:
        """Whether it is as expected."""
        return self.outcome is not None and self.outcome.verdict == self.expected

    async def play(self, calls: Calls) -> None:
        """Run it; whatever goes wrong is its outcome."""
        try:
            self.outcome = await asyncio.wait_for(self.run(calls), _ROW_SECONDS)
            if not self.good:
                calls.fleet.check_alive()
        except asyncio.TimeoutError:
            self.outcome = Outcome(f"no end after {_ROW_SECONDS:.0f} s")
        except Exception as problem:  # noqa: BLE001 - a row that breaks is a row that fails
            self.outcome = Outcome("broke", type(problem).__name__, detail=str(problem))


async def outcome_of(calls: Calls, receiver: str, answer: Answer) -> Outcome:
    """What came of one call: who was let in, or the reason in the receiver's log."""
    reason, detail = await calls.why(receiver, answer)
    return Outcome(answer.verdict, reason, answer.milliseconds, detail)
