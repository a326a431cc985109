"""The benchmarks still run; how fast anything is, is no business of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import proving, tokens
from benchmarks.__main__ import main
from benchmarks.contestants import FRESH, OURS, OURS_REPEATED, PYJWT, Bench
from benchmarks.report import Check
from benchmarks.rounds import Operation, Timing, run
from benchmarks.signers import OURS_AGAIN

INSTALLED = {OURS, OURS_REPEATED, OURS_AGAIN, PYJWT, "jwcrypto", proving.OURS_VERIFY, proving.OURS_PROVE}


def names(report: str, title: str) -> list[str]:
    """The first column of one table."""
    lines = report.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
    return [line.split(" | ")[0].strip("|* ") for line in lines if line.startswith("|")][2:]


@pytest.mark.parametrize("kind", ["RS256", "ES256", "Ed25519"])
def test_every_contestant_has_its_row(kind: str, tmp_path: Path) -> None:
    """The table of verifying and that of signing are whole, and the file and its plot are written."""
    report = tokens.measure(tokens.Plan(rounds=2, calls=2, kinds=[kind], only=INSTALLED))
    path = report.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    verified = {tokens.RAW, OURS, OURS_REPEATED, PYJWT, "jwcrypto", proving.OURS_VERIFY}
    signed = {tokens.RAW, OURS, OURS_AGAIN, PYJWT, "jwcrypto", proving.OURS_PROVE}
    assert set(names(text, f"{kind}: verify")) == verified
    assert set(names(text, f"{kind}: sign")) == signed
    assert {check.kept is None for check in report.checks} == {False}
    assert f"{kind}: token re-use" in text
    assert path.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg ")


def test_who_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that cannot be imported has a row that says so, and no timing."""

    def missing(_: Bench) -> Operation:
        raise ModuleNotFoundError("no such peer")

    absent = next(contestant for contestant in FRESH if contestant.name == "joserfc")
    monkeypatch.setattr(tokens, "FRESH", (absent._replace(make=missing),))
    report = tokens.measure(tokens.Plan(rounds=1, calls=1, kinds=["ES256"], only={"joserfc", OURS_AGAIN}))
    assert "| joserfc | not installed |" in report.text()


def test_ratios_are_those_of_one_round() -> None:
    """A machine that turns slower in the middle changes no ratio."""
    reference, other = Timing("reference", [1.0, 10.0, 1.0]), Timing("other", [2.0, 20.0, 2.0])
    assert other.ratio_to(reference) == 2.0


def test_the_reference_comes_first() -> None:
    """Everybody runs in every round, the reference at its start."""
    said: list[str] = []
    timings = run(
        ("reference", lambda: said.append("reference")),
        {"other": lambda: said.append("other")},
        rounds=3,
        calls=1,
    )
    assert [(timing.name, len(timing.seconds)) for timing in timings] == [("reference", 3), ("other", 3)]


def test_what_was_not_measured_is_not_kept() -> None:
    """A promise without a figure is neither kept nor missed."""
    assert Check.at_most("x", None, 1, "µs").kept is None
    assert Check.at_most("x", 1.0, 1, "µs").kept is True
    assert Check.at_least("x", 0.9, 1, "µs").kept is False


def test_the_command_line_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names the parts."""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(word in said for word in ("tokens", "http", "jwks", "--quick"))
