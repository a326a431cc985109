"""The rows of the table, in order."""

from __future__ import annotations

from . import legacy, operations, services, thief, users
from .row import Row


def rows(*, quick: bool) -> list[Row]:
    """All rows; without the slow ones if `quick`."""
    found = []
    for part in (services, users, thief, legacy, operations):
        first, *others = part.rows()
        first.begins = True
        found += [first, *others]
    return [row for row in found if not (quick and row.slow)]
