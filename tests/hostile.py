"""Tables of hostile input: each row one parameter set, marked, counted, and its reason remembered."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from s2s_mesh.errors import Reason

MARK = "hostile"
LEAST = 150
PIECE = 24  # characters of a credential that nobody could guess, and that no log may hold
SENT: list[bytes] = []  # the values of all header fields that the test at hand sent
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


@contextmanager
def no_credential_logged() -> Iterator[None]:
    """Whatever the package logs inside, at any level, holds no piece of what was sent."""
    logger, lines = logging.getLogger("s2s_mesh"), _Lines()
    level = logger.level
    SENT.clear()
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
    sent = b"\n".join(SENT)
    for text in lines.texts:
        line = text.encode("utf-8", "replace")
        found = [line[at : at + PIECE] for at in range(len(line)) if line[at : at + PIECE] in sent]
        assert not [piece for piece in found if len(piece) == PIECE], text


class _Lines(logging.Handler):
    """Everything that a record holds, as text: message, arguments, fields, exception."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
        self.texts.append(repr({name: value for name, value in vars(record).items() if name != "exc_info"}))
