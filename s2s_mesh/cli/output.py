"""What the commands print: JSON, tables, instants. Foreign text is never taken for markup."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError

AsJSON = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
# never a file or a link that somebody else has put there
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def confirm(what: str, yes: bool) -> None:
    """Ask a person before something that can break callers; a script has to say --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"nobody can be asked whether to {what}: pass --yes", err=True)
        raise typer.Exit(2)
    typer.confirm(f"Really {what}?", abort=True)


def print_json(data: Any) -> None:
    """Print `data` for programs; in ASCII, so that foreign text cannot steer a terminal."""
    typer.echo(json.dumps(data, indent=2))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, plain aligned columns elsewhere."""
    if sys.stdout.isatty():
        _draw(heads, rows)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, pad_edge=False)
    for head in heads:
        table.add_column(Text(head), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show on a terminal how far slow work is; call what is yielded for each piece that is done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def write_file(path: Path, text: str, *, private: bool = False) -> None:
    """Put `text` in the place of a file in one step: readers see the old text or the new one.

    Args:
        path: the file.
        text: what it shall hold.
        private: for nobody but the owner to read.

    Raises:
        ConfigError: it cannot be written; what was there is still there.
    """
    if not path.name:
        raise ConfigError(f"{path} cannot be written: it is a folder, expected a file")
    # beside its place, for a rename works within one file system only
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed and had the same number
        descriptor = os.open(temporary, _NEW_FILE, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException as failed:  # an end that was asked for leaves nothing behind either
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(failed, OSError):
            raise
        raise ConfigError(f"{path} cannot be written: {failed.strerror}") from None


def stamp(at: float) -> str:
    """An instant for programs: `2026-11-22T00:12:03Z`."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(at: float, now: float) -> str:
    """An instant for people: `2026-11-22 00:12:03 UTC (in 29 d 23 h)`."""
    return f"{instant(at)} ({relative(at, now)})"


def instant(at: float) -> str:
    """`2026-11-22 00:12:03 UTC`."""
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"


def relative(at: float, now: float) -> str:
    """`in 1 min 40 s`, `3 s ago`, or `now`."""
    seconds = round(at - now)
    if seconds == 0:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def duration(seconds: float) -> str:
    """`1 min 40 s`: the two largest units."""
    rest = round(seconds)
    parts = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    shown = [f"{count} {unit}" for count, unit in parts[:2] if count]
    return " ".join(shown) or "0 s"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)
