"""The table: live on a terminal, line by line elsewhere, as data, as a picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .row import Row

_WIDTH = 100  # columns of the picture


class Show:
    """What the person sees while the rows run.

    Args:
        rows: all of them, with an outcome or not yet.
        file: where to.
    """

    def __init__(self, rows: Sequence[Row], file: IO[str]) -> None:
        self._rows = rows
        self._console = Console(file=file, highlight=False)
        self._status = ""
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._renderable)

    def __enter__(self) -> Show:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status = ""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line on what is going on."""
        self._status = text
        if self._live is None:
            self._print(text)

    def running(self, row: Row) -> None:
        """A row begins."""
        self._status = f"{row.what}: {row.who}"

    def finished(self, row: Row) -> None:
        """A row has an outcome."""
        if self._live is None:
            self._print(line(row, self._rows))

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _renderable(self) -> RenderableType:
        if not self._status:
            return table(self._rows)
        return Group(table(self._rows), Spinner("dots", Text(self._status)))


def line(row: Row, rows: Sequence[Row]) -> str:
    """One row as plain text, in line with the others."""
    reason = "" if row.outcome is None else row.outcome.reason
    what, who, expected = (max(len(getattr(r, it)) for r in rows) for it in ("what", "who", "expected"))
    return (
        f"{'ok  ' if row.good else 'FAIL'} {row.what:<{what}}  {row.who:<{who}}  {_verdict(row):<{expected}}"
        f"  {_milliseconds(row):>4} ms  {reason}"
    )


def table(rows: Sequence[Row]) -> Table:
    """The table as it stands."""
    shown = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("what is called", "by whom", "verdict"):
        shown.add_column(heading)
    shown.add_column("ms", justify="right")
    shown.add_column("in the receiver's log")
    for row in rows:
        if row.begins:
            shown.add_section()
        verdict = Text()
        if row.outcome is not None:
            mark, colour = ("✓", "green") if row.good else ("✗", "bold red")
            verdict = Text(f"{mark} {_verdict(row)}", colour)
        reason = "" if row.outcome is None else row.outcome.reason
        shown.add_row(Text(row.what), Text(row.who), verdict, _milliseconds(row), Text(reason))
    return shown


def verdict_line(rows: Sequence[Row], seconds: float) -> str:
    """The whole run in one line."""
    bad = [row.name for row in rows if not row.good]
    if bad:
        return f"{len(bad)} of {len(rows)} rows are NOT as expected: {', '.join(bad)} ({seconds:.0f} s)"
    return f"all {len(rows)} rows are as expected ({seconds:.0f} s)"


def details(rows: Sequence[Row]) -> list[str]:
    """What more is known of the rows that are not as expected."""
    told = [(row, row.outcome) for row in rows if row.outcome is not None and not row.good]
    return [
        f"{row.name}: expected {row.expected}, got {outcome.verdict} ({outcome.reason}) {outcome.detail}"
        for row, outcome in told
    ]


def as_json(rows: Sequence[Row], seconds: float) -> str:
    """The table as data."""
    return json.dumps(
        {
            "as_expected": all(row.good for row in rows),
            "seconds": round(seconds, 1),
            "rows": [_facts(row) for row in rows],
        },
        indent=2,
    )


def as_svg(rows: Sequence[Row], seconds: float) -> str:
    """The table as a picture."""
    console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_terminal=True)
    console.print(table(rows))
    console.print(Text(verdict_line(rows, seconds), "bold"))
    picture = console.export_svg(title="make demo", unique_id="edge-demo")
    # rich would have the reader's browser fetch a font; every machine has a monospaced one
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")


def _facts(row: Row) -> dict[str, Any]:
    outcome = row.outcome
    return {
        "name": row.name,
        "what": row.what,
        "who": row.who,
        "expected": row.expected,
        "verdict": None if outcome is None else outcome.verdict,
        "as_expected": row.good,
        "reason": None if outcome is None else outcome.reason,
        "detail": None if outcome is None else outcome.detail,
        "milliseconds": None
        if outcome is None or outcome.milliseconds is None
        else round(outcome.milliseconds, 1),
    }


def _verdict(row: Row) -> str:
    if row.outcome is None or row.good:
        return row.expected
    return f"{row.outcome.verdict}, not {row.expected}"


def _milliseconds(row: Row) -> str:
    if row.outcome is None or row.outcome.milliseconds is None:
        return ""
    return f"{row.outcome.milliseconds:.0f}"
