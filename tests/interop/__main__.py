"""`python -m tests.interop`: all tests that are marked `interop`, and their table, also for the docs."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Any

import pytest


class _Collector:
    """Remembers every report, from whichever worker."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.reports.append(report)


def main() -> int:
    """The exit code: 1 if a cell is not green, a program has no row, or a test failed; the docs then stay."""
    # a program that is missing is a failure here
    os.environ["S2S_MESH_TEST_REQUIRE_SERVERS"] = "1"
    collector = _Collector()
    arguments = ["-m", "interop", "-v", "--no-header", "--tb=short", *sys.argv[1:], "tests"]
    code = pytest.main(arguments, plugins=[collector])
    # not before: pytest must be first to import our package, which is a plugin of it
    from .table import Table, results, write

    table = Table(results(collector.reports))
    shown = table.markdown()
    date = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    sys.stdout.write(f"\n{shown}\n\n")
    for trouble in table.troubles:
        sys.stdout.write(f"not green: {trouble}\n")
    if code != pytest.ExitCode.OK or table.troubles:
        return 1
    write(shown, date)
    return 0


if __name__ == "__main__":
    sys.exit(main())
