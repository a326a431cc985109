"""Prints line coverage and refuses less than the project promises: 95 % in all, 100 % on floors 0 to 3."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from coverage import Coverage

from tests.test_architecture import FLOORS, PATHS, PURE_FLOORS

ALL, PURE = 95.0, 100.0


def covered(coverage: Coverage, paths: Sequence[Path]) -> float:
    """Per cent of the lines of these files that some test ran."""
    return coverage.report(include=[str(path) for path in paths], file=StringIO())


def main() -> int:
    """Exit code 1 where a promise is broken."""
    coverage = Coverage()
    coverage.load()
    coverage.report(file=sys.stdout)
    pure = [PATHS[name] for floor in FLOORS[:PURE_FLOORS] for name in floor]
    figures = (
        (covered(coverage, list(PATHS.values())), ALL, "s2s_mesh"),
        (covered(coverage, pure), PURE, "floors 0 to 3"),
    )
    for figure, least, what in figures:
        print(f"line coverage of {what}: {figure:.2f} % (at least {least:g} %)")
    return int(any(figure < least for figure, least, _ in figures))


if __name__ == "__main__":
    sys.exit(main())
