"""How much of everything a run has."""

from __future__ import annotations

from typing import NamedTuple


class Plan(NamedTuple):
    """How much of everything.

    Attributes:
        seconds, calls: of traffic, at least.
        calls_per_second: aimed at.
        at_most: seconds after which no more calls are waited for.
        hold, down, settle: see `Scene`.
        in_turn: one trouble at a time; else one of each issuer at a time.
    """

    seconds: float
    calls: int
    calls_per_second: float
    at_most: float
    hold: float
    down: float
    settle: float
    in_turn: bool

    @property
    def rotations(self) -> int:
        """At least, of each issuer: one every ten seconds."""
        return int(self.seconds / 10)


FULL = Plan(60, 20_000, 320, 300, hold=10, down=3, settle=2, in_turn=True)
SHORT = Plan(12, 1_000, 120, 60, hold=3, down=1.5, settle=1, in_turn=False)
