"""Results of tests that are marked `interop`, as the table of `make interop`.

A mark names a cell: `@pytest.mark.interop(program="jose", column="accept")`. A cell may be proved by many
tests; those with a parameter `algorithm`, one of ours, are counted by it. `cannot=True` says that the test
proves what the program, for its own reasons, refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from s2s_mesh.keys import ALGORITHMS

from .programs import COLUMNS, NAMES, PROGRAMS

MARK = "interop"
PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
_BEGIN = "<!-- what make interop found -->"
_END = "<!-- until here -->"
MISSING, NO, DASH = "missing", "NO", "-"


class Result(NamedTuple):
    """One test's result, for one cell.

    Attributes:
        program, column: the cell.
        algorithm: the test is about, or "".
        cannot: whether it proves a refusal that is the program's own limit.
        passed: a test that was skipped has not.
    """

    program: str
    column: str
    algorithm: str
    cannot: bool
    passed: bool


def attach(items: Iterable[Any]) -> None:
    """Let each marked test's report say which cells it is about; workers send reports, not marks.

    Raises:
        ValueError: a mark names no program or column of the table.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        algorithm = "" if callspec is None else str(callspec.params.get("algorithm", ""))
        for mark in item.iter_markers(MARK):
            program, column = mark.kwargs["program"], mark.kwargs["column"]
            if program not in NAMES or column not in COLUMNS:
                raise ValueError(
                    f"{item.nodeid}: the table of `make interop` has no cell {program}, {column}"
                )
            cell = [program, column, algorithm, bool(mark.kwargs.get("cannot", False))]
            item.user_properties.append((MARK, cell))


def results(reports: Iterable[Any]) -> list[Result]:
    """What these reports say; of a test that fails in setup or teardown as well."""
    found = []
    for report in reports:
        for name, cell in report.user_properties:
            if name == MARK and (report.when == "call" or not report.passed):
                found.append(Result(cell[0], cell[1], cell[2], cell[3], report.passed))
    return found


class Table:
    """Rows of cells.

    Args:
        found: all results.
    """

    def __init__(self, found: Sequence[Result]) -> None:
        self.rows: Mapping[str, Mapping[str, str]] = {
            program.name: {
                column: _cell(
                    [one for one in found if (one.program, one.column) == (program.name, column)],
                    needed=column in program.needs,
                )
                for column in COLUMNS
            }
            for program in PROGRAMS
        }

    @property
    def troubles(self) -> list[str]:
        """What is not green, a line each."""
        return [
            f"{name}, {COLUMNS[column]}: {cell}"
            for name, row in self.rows.items()
            for column, cell in row.items()
            if cell in (NO, MISSING)
        ]

    def markdown(self) -> str:
        """The table, with the versions that are installed here."""
        heads = ["program", "version", *COLUMNS.values()]
        lines = [[program.name, program.version, *self.rows[program.name].values()] for program in PROGRAMS]
        widths = [max(len(line[at]) for line in [heads, *lines]) for at in range(len(heads))]
        padded = [
            [text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in [heads, *lines]
        ]
        rows = [f"| {' | '.join(line)} |" for line in padded]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([rows[0], rule, *rows[1:]])


def _cell(found: Sequence[Result], *, needed: bool) -> str:
    if not found:
        return MISSING if needed else DASH
    if not all(one.passed for one in found):
        return NO
    tried = {one.algorithm for one in found} & ALGORITHMS
    known = tried - {one.algorithm for one in found if one.cannot}
    return f"yes, {len(known)} of {len(ALGORITHMS)}" if tried else "yes"


def write(table: str, date: str) -> None:
    """Put the table into the page, with its date."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\nFound on {date}:\n\n{table}\n{_END}{after}", encoding="utf-8")


def written() -> list[list[str]]:
    """The rows that the page has, its head first, each as its cells."""
    found = re.search(f"{_BEGIN}\n(.*)\n{_END}", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"{PAGE} has no place for the table"
    lines = [line for line in found[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
