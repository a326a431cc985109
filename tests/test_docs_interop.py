"""docs/interop.md shows the files that the tests run, and says of each program what they find."""

from __future__ import annotations

import re
from typing import Any

from s2s_mesh import RotationSchedule

from .docs_snippets import ROOT, commands, snippets
from .interop.cannot import CANNOT
from .interop.starts import FILES, STARTS

DOCS = "docs/interop.md"
TEXT = (ROOT / DOCS).read_text(encoding="utf-8")
# in the order of the page; the tests start each of them (tests/interop/starts.py)
SHOWN = {
    "js": ["jose.mjs", "jsonwebtoken.mjs", "fast_jwt.mjs", "worker.mjs"],
    "yaml": ["envoy.yaml"],
    "apache": ["apache.conf"],
    "python": ["pyjwt_client.py", "joserfc_keys.py", "authlib_validator.py"],
}


def table(head: str) -> list[list[str]]:
    """The rows of the table whose head begins so."""
    _, _, rest = TEXT.partition(f"\n| {head}")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_is_shown_is_what_is_run() -> None:
    """Each file as it is, beside the one snippet that is about our own schedule."""
    shown = {
        "js": snippets(DOCS, "js"),
        "yaml": snippets(DOCS, "yaml"),
        "apache": snippets(DOCS, "apache"),
        "python": snippets(DOCS, "python")[1:],
    }
    assert {
        language: [(FILES / name).read_text(encoding="utf-8") for name in names]
        for language, names in SHOWN.items()
    } == shown
    helpers = {"__init__.py", "door.mjs"}
    assert {name for names in SHOWN.values() for name in names} == {
        path.name for path in FILES.iterdir() if path.is_file()
    } - helpers


def test_a_longer_cache_needs_a_longer_lead() -> None:
    """The schedule that is shown is accepted, and one with the default lead is not."""
    names: dict[str, Any] = {}
    exec(compile(snippets(DOCS, "python")[0], DOCS, "exec"), names)
    assert names["schedule"].foreign_cache == 86_400
    assert names["schedule"].lead > RotationSchedule.DEFAULT.lead


def test_what_a_program_cannot_do_is_listed() -> None:
    """With the reason; and two algorithms are known to all of them."""
    listed = [[program, algorithm, limit.because] for (program, algorithm), limit in CANNOT.items()]
    assert table("program | algorithm") == listed
    assert {algorithm for _, algorithm in CANNOT} == {"ES384", "PS256", "Ed25519"}


def test_the_lead_covers_every_cache() -> None:
    """Every verifier of the fleet has a row, and keeps keys for less than the default lead."""
    rows = {name: time for name, time, _ in table("program | keeps keys for")}
    assert list(rows) == list(STARTS)
    for time in rows.values():
        seconds = re.fullmatch(r"(\d+) s", time)
        assert seconds is not None
        default = RotationSchedule.DEFAULT
        assert int(seconds[1]) + default.replica_lag + default.max_skew < default.lead


def test_the_command() -> None:
    """It is a target of the Makefile, which runs what writes the table."""
    assert commands(DOCS) == ["make interop"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^interop:.*\n\t\$\(BIN\)/python -m tests\.interop", makefile, re.MULTILINE)
