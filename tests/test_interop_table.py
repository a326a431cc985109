"""The table of `make interop`: what its cells say, and that the docs have it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from .interop import table
from .interop.programs import COLUMNS, NAMES, PROGRAMS
from .programs import ROOT, environment


def report(
    program: str,
    column: str,
    *,
    algorithm: str = "",
    cannot: bool = False,
    outcome: str = "passed",
    when: str = "call",
) -> Any:
    """One phase of one test."""
    cell = [program, column, algorithm, cannot]
    return SimpleNamespace(when=when, passed=outcome == "passed", user_properties=[("interop", cell)])


def rows(*reports: Any) -> dict[str, dict[str, str]]:
    """The rows that hold more than nothing."""
    made = table.Table(table.results(reports)).rows
    return {
        name: {column: cell for column, cell in row.items() if cell not in (table.DASH, table.MISSING)}
        for name, row in made.items()
        if set(row.values()) - {table.DASH, table.MISSING}
    }


def test_a_cell_is_green_once_every_test_of_it_has_passed() -> None:
    """Setup and teardown of a test count only if they fail; a test that was skipped proves nothing."""
    good = report("jose", "accept")
    assert rows(report("jose", "accept", when="setup"), good) == {"jose": {"accept": "yes"}}
    for other in (
        report("jose", "accept", outcome="failed"),
        report("jose", "accept", outcome="failed", when="teardown"),
        report("jose", "accept", outcome="skipped", when="setup"),
    ):
        assert rows(good, other) == {"jose": {"accept": "NO"}}


def test_a_cell_counts_the_algorithms() -> None:
    """Of ours, those that the program does not know are not counted."""
    found = [report("jose", "accept", algorithm=algorithm) for algorithm in ("ES256", "PS256", "PS256")]
    assert rows(*found) == {"jose": {"accept": "yes, 2 of 5"}}
    cannot = report("jose", "accept", algorithm="Ed25519", cannot=True)
    assert rows(*found, cannot) == {"jose": {"accept": "yes, 2 of 5"}}


def test_what_nobody_proves_is_missing_if_it_is_needed() -> None:
    """And a dash where it makes no sense."""
    made = table.Table(
        table.results([report("jose", "accept"), report("PyJWKClient", "expired", outcome="failed")])
    )
    assert made.rows["jose"]["wrong audience"] == table.MISSING
    assert made.rows["workerd"]["both directions"] == table.DASH
    assert "jose, refuses another audience: missing" in made.troubles
    assert "PyJWKClient, refuses an expired one: NO" in made.troubles
    assert not any(trouble.startswith("jose, accepts") for trouble in made.troubles)
    assert all(program.needs for program in PROGRAMS)


@pytest.mark.parametrize(("program", "column"), [("nose", "accept"), ("jose", "accepts")])
def test_a_mark_that_names_no_cell_is_refused(program: str, column: str) -> None:
    """A misspelt mark would leave its cell empty."""
    mark = SimpleNamespace(kwargs={"program": program, "column": column})
    item = SimpleNamespace(nodeid="a test", iter_markers=lambda _name: [mark], user_properties=[])
    with pytest.raises(ValueError, match=f"no cell {program}, {column}"):
        table.attach([item])


def test_the_docs_have_a_row_for_each_program() -> None:
    """In the order of the list, with a green cell where one is needed; dates and versions may be others."""
    head, *found = table.written()
    assert head == ["program", "version", *COLUMNS.values()]
    assert [row[0] for row in found] == list(NAMES)
    for row, program in zip(found, PROGRAMS, strict=True):
        cells = dict(zip(COLUMNS, row[2:], strict=True))
        assert not {table.NO, table.MISSING} & set(cells.values()), row
        for column in program.needs:
            assert cells[column] != table.DASH, (row, column)


def test_a_run_that_is_not_green_leaves_the_docs() -> None:
    """The program tells what is missing, where no test has run, and the table of the last good run stays."""
    docs = ROOT / "docs" / "interop.md"
    before = docs.read_text(encoding="utf-8")
    command = [sys.executable, "-m", "tests.interop", "--version"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "not green: jose, accepts: missing\n" in done.stdout
    assert docs.read_text(encoding="utf-8") == before
