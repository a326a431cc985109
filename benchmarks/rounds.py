"""Interleaved rounds: what is compared runs within the same few milliseconds, so that noise hits all alike.

Absolute figures of a shared machine move by a third from minute to minute. The ratio of two contestants of
one round moves little, and the median of many such ratios hardly at all.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Operation = Callable[[], object]
_LEAST_SECONDS = (
    300e-6  # a contestant runs at least so long per round, so that its first, cold call weighs little
)


class Timing(NamedTuple):
    """Seconds per call of one contestant, one figure for each round."""

    name: str
    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Microseconds."""
        return statistics.median(self.seconds) * 1e6

    @property
    def least(self) -> float:
        """Microseconds."""
        return min(self.seconds) * 1e6

    def ratio_to(self, other: Timing) -> float:
        """The median over the rounds of (ours / theirs in the same round)."""
        return statistics.median(own / its for own, its in zip(self.seconds, other.seconds, strict=True))


def run(
    reference: tuple[str, Operation], contestants: Mapping[str, Operation], *, rounds: int, calls: int
) -> list[Timing]:
    """Time everybody in every round: the reference first, then the contestants in an order that changes.

    Args:
        reference: a name and what it does.
        contestants: the others.
        rounds: how many.
        calls: how often each is called in one round; more often where it is too quick for the clock.
    """
    order = [reference, *contestants.items()]
    often = {name: max(calls, _enough(operation)) for name, operation in order}
    seconds: dict[str, list[float]] = {name: [] for name, _ in order}
    shuffle = random.Random(1).shuffle
    collecting = gc.isenabled()
    gc.disable()  # nobody pays for another's garbage
    try:
        for _ in range(rounds):
            others = order[1:]
            shuffle(others)
            for name, operation in (order[0], *others):
                seconds[name].append(_time(operation, often[name]))
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return [Timing(name, seconds[name]) for name, _ in order]


def _enough(operation: Operation) -> int:
    _time(operation, 3)  # warm
    return int(_LEAST_SECONDS / max(_time(operation, 10), 1e-8)) + 1


def _time(operation: Operation, calls: int) -> float:
    repeat = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in repeat:
        operation()
    return (time.perf_counter() - start) / calls
