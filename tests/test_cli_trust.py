"""`s2s-mesh trust check`: the answer is yes, no, or that there is nothing to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .command_line import ROOT, Terminal, make_terminal

BAD = """\
version = 1
[[allow]]
issuer = "https://edge.example.com"
audiance = "https://wallets.example.com"
[[allow]]
issuer = "https://*.example.com"
audience = "https://wallets.example.com"
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def test_good(terminal: Terminal) -> None:
    """A good file is exit code 0, with the number of pairs; no environment is needed."""
    terminal.environment.clear()
    path = ROOT / "trust" / "trust.toml"
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path} is good: 4 pairs, 0 route rules\n"


def test_warnings(terminal: Terminal) -> None:
    """What looks like a mistake is a warning, and the file is good."""
    path = terminal.trust('[[allow]]\nissuer = "https://a.example.com"\naudience = "https://b.example.com"\n')
    with path.open("a") as file:
        file.write(
            '[[route]]\naudience = "https://b.example.com"\npath = "/x"\nmethods = ["GET"]\nscopes = ["s"]'
        )
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 0
    warning, verdict = result.stdout.splitlines()
    assert warning.startswith(f"warning: {path}: route[0]")
    assert verdict.endswith("is good: 1 pair, 1 route rule")
    answer = json.loads(terminal.call("trust", "check", str(path), "--json").stdout)
    assert answer == {
        "file": str(path),
        "good": True,
        "pairs": 1,
        "routes": 1,
        "problems": [],
        "warnings": [warning.removeprefix("warning: ")],
    }


def test_refused(terminal: Terminal) -> None:
    """A bad file is exit code 1, with every mistake, and what was meant."""
    Path("bad.toml").write_text(BAD)
    result = terminal.call("trust", "check", "bad.toml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bad.toml: allow[0].audiance (row at line 2): found an unknown member" in result.stderr
    assert "did you mean `audience`?" in result.stderr
    assert "wildcards do not exist" in result.stderr
    assert result.stderr.endswith("bad.toml is refused\n")
    as_json = terminal.call("trust", "check", "bad.toml", "--json")
    assert as_json.exit_code == 1
    answer = json.loads(as_json.stdout)
    assert answer["good"] is False
    assert "\n".join(answer["problems"]) in result.stderr


def test_file_that_everybody_may_write(terminal: Terminal) -> None:
    """What a service would refuse to use is refused."""
    path = terminal.trust("")
    path.chmod(0o666)
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 1
    assert "chmod o-w" in result.stderr


@pytest.mark.parametrize(("name", "problem"), [("nothing.toml", "does not exist"), (".", "is a directory")])
def test_nothing_to_look_at(terminal: Terminal, name: str, problem: str) -> None:
    """A file that is not there, or is none, is exit code 2."""
    result = terminal.call("trust", "check", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(terminal: Terminal) -> None:
    """A file that may not be read is exit code 2."""
    path = terminal.trust("")
    path.chmod(0)
    assert terminal.call("trust", "check", str(path)).exit_code == 2
