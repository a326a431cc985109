"""How problems are said: bounded, on one line each, without a way to fake another line."""

from __future__ import annotations

import datetime as dt

import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.trust_report import Report, TrustFileError, did_you_mean, found, member_path, one_of


def test_nothing_to_say() -> None:
    """Without problems nothing is raised, whatever the warnings."""
    report = Report("t.toml")
    report.warning("allow", "is empty")
    report.raise_problems()
    assert report.warnings == ["t.toml: allow: is empty"]


def test_all_problems_at_once() -> None:
    """Every problem is one line with file and key path, a row with its line too."""
    report = Report("t.toml")
    report.row_lines = {"allow[1]": 12}
    report.problem("allow[1].scopes[0]", "found A; expected B")
    report.problem("allow[2]", "found C")
    with pytest.raises(ConfigError) as refusal:
        report.raise_problems()
    assert isinstance(refusal.value, TrustFileError)
    assert refusal.value.problems == (
        "t.toml: allow[1].scopes[0] (row at line 12): found A; expected B",
        "t.toml: allow[2]: found C",
    )
    assert str(refusal.value) == "\n".join(refusal.value.problems)


def test_at_most_twenty() -> None:
    """The twenty-first problem and those after it are only counted."""
    report = Report("t.toml")
    for number in range(25):
        report.problem(f"allow[{number}]", "found nothing")
    with pytest.raises(TrustFileError) as refusal:
        report.raise_problems()
    assert len(refusal.value.problems) == 20
    assert str(refusal.value).endswith("\n... and 5 more")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("30s", 'found "30s"'),
        ("w\u0430llets\nt.toml: ok", 'found "w\\u0430llets\\nt.toml: ok"'),
        ("x" * 1000, 'found "' + "x" * 115 + '..."'),
        (True, "found true"),
        (30, "found the integer 30"),
        (1.5, "found the number 1.5"),
        ([], "found an empty array"),
        ([1], "found an array"),
        ({"a": 1}, "found a table"),
        ({}, "found an empty table"),
        (dt.date(2026, 1, 1), "found a date or time"),
    ],
)
def test_found(value: object, words: str) -> None:
    """Any TOML value is told in a few plain ASCII words."""
    assert found(value) == words


def test_huge_integer() -> None:
    """Python refuses to write out an integer of thousands of digits; the report does not try."""
    assert found(16**5000) == "found a huge integer"


def test_lines_are_ascii() -> None:
    """A Cyrillic letter that looks like an ASCII one shows as what it is."""
    report = Report("t.toml")
    report.warning(member_path("issuers", "https://\u043e"), "segment \u043e")
    assert report.warnings == [r't.toml: issuers."https://\u043e": segment \u043e']


def test_words() -> None:
    """Lists read as a person would say them, and only a near word is suggested."""
    assert one_of(["b", "a", "c"]) == "a, b or c"
    assert one_of(["a"]) == "a"
    assert one_of([]) == "nothing"
    assert did_you_mean("es256", ["ES256", "RS256"]) == '; did you mean "ES256"?'
    assert did_you_mean("something else", ["ES256"]) == ""
    assert member_path("", "allow") == "allow"
