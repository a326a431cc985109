"""How findings are shown: one per line, and what to do about each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from .output import print_json, print_table

if TYPE_CHECKING:
    from ..findings import Finding

_WORDS = ("ok", "to be mended soon", "to be mended now", "not looked at")


def print_findings(findings: Sequence[Finding], *, as_json: bool, problems: bool = False) -> None:
    """Print them as JSON or as a table with counts; with `problems`, without what is in order."""
    import msgspec

    from ..findings import Verdict

    if as_json:
        print_json({"findings": [msgspec.structs.asdict(finding) for finding in findings]})
        return
    shown = [f for f in findings if not problems or f.verdict in (Verdict.WARN, Verdict.FAIL)]
    rows = [(f.verdict.value, f.check, " ".join(f.found.split()), f.do) for f in shown]
    if rows:
        print_table(("", "check", "found", "what to do"), rows)
    counts = [sum(f.verdict is verdict for f in findings) for verdict in Verdict]
    typer.echo(
        ("\n" if rows else "") + ", ".join(f"{n} {word}" for n, word in zip(counts, _WORDS, strict=True) if n)
    )
