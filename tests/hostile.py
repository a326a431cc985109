"""Tables of hostile input: each row one parameter set, marked, counted, and its reason remembered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from s2s_mesh.errors import Reason

MARK = "hostile"
LEAST = 150
REASONS: Counter[Reason] = Counter()  # how many rows of the tables imported so far give each reason


def rows(table: Sequence[tuple[Any, ...]], *, verdict: int = -1) -> list[Any]:
    """The parameter sets of a table for `pytest.mark.parametrize`.

    Args:
        table: rows that begin with their name; the first one is accepted, so that the others are refused for
            what they change and for nothing else.
        verdict: where in a row its verdict stands; None there means accepted, anything else makes it hostile.
    """
    assert table[0][verdict] is None, f"the first row is not accepted: {table[0][0]}"
    names = Counter(row[0] for row in table)
    sets = []
    for position, row in enumerate(table):
        name = row[0] if names[row[0]] == 1 else f"{row[0]}, {position}"
        if row[verdict] is None:
            sets.append(pytest.param(*row[1:], id=name))
            continue
        if isinstance(row[verdict], Reason):
            REASONS[row[verdict]] += 1
        sets.append(pytest.param(*row[1:], id=name, marks=pytest.mark.hostile))
    return sets


def proved(reports: Sequence[Any]) -> int:
    """How many hostile rows are among these passed reports; workers of xdist send theirs to one place."""
    return sum(report.when == "call" and MARK in report.keywords for report in reports)
