"""`s2s-mesh trust diff` and `trust schema`: for reviewers and editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from s2s_mesh.trust_file import MAX_TRUST_FILE

from .command_line import ROOT, Terminal, make_terminal
from .tokens import EDGE, LEDGER, WALLETS

OLD = f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n'
NEW = f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:write"]\n'


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = make_terminal(tmp_path, monkeypatch)
    made.environment.clear()
    Path("old.toml").write_text(OLD)
    Path("new.toml").write_text(NEW)
    return made


def test_diff(terminal: Terminal) -> None:
    """A line for each change, with a sign; exit code 1."""
    result = terminal.call("trust", "diff", "old.toml", "new.toml")
    assert result.exit_code == 1
    title, gained, lost = (line.split() for line in result.stdout.splitlines())
    assert title == ["who", "what"]
    assert gained == ["+", EDGE, "scope", "at", WALLETS, "cards:write"]
    assert lost == ["-", EDGE, "scope", "at", WALLETS, "cards:read"]
    answer = json.loads(terminal.call("trust", "diff", "old.toml", "new.toml", "--json").stdout)
    assert answer["changes"][0] == {"effect": "gains", "who": EDGE, "what": f"scope at {WALLETS} cards:write"}


def test_no_difference(terminal: Terminal) -> None:
    """Exit code 0 for what means the same."""
    Path("other.toml").write_text("# the same\n" + OLD)
    result = terminal.call("trust", "diff", "old.toml", "other.toml")
    assert (result.exit_code, result.stdout) == (0, "old.toml and other.toml mean the same\n")


def test_files_in_two_folders(terminal: Terminal) -> None:
    """File names in them are compared as they are written, wherever the two files lie."""
    pinned = f'{OLD}[issuers."{EDGE}"]\njwks_file = "edge.jwks.json"\n'
    Path("review").mkdir()
    for path in ("old.toml", "review/old.toml"):
        Path(path).write_text(pinned)
    assert terminal.call("trust", "diff", "old.toml", "review/old.toml").exit_code == 0


def test_from_a_pipe(terminal: Terminal) -> None:
    """As `<(git show main:trust.toml)` gives it."""
    done = terminal.run("trust", "diff", "/dev/stdin", "new.toml", stdin=NEW)
    assert (done.returncode, done.stdout) == (0, "/dev/stdin and new.toml mean the same\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "trust file new.toml cannot be read: No such file or directory"),
        ("version = 2\n", "version: found the integer 2"),
        ("#" * (MAX_TRUST_FILE + 1), "is larger than"),
    ],
)
def test_what_cannot_be_compared(terminal: Terminal, text: str | None, says: str) -> None:
    """Exit code 2, and the mistake as `trust check` tells it."""
    Path("new.toml").unlink()
    if text is not None:
        Path("new.toml").write_text(text)
    result = terminal.call("trust", "diff", "old.toml", "new.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("mermaid", "flowchart LR\n"),
        ("dot", "digraph trust {"),
        ("svg", "<svg "),
        ("html", "<!doctype html>"),
    ],
)
def test_graph(terminal: Terminal, form: str, begins: str) -> None:
    """Printed, or put in the place of a file."""
    printed = terminal.call("trust", "graph", "old.toml", "--format", form)
    assert printed.exit_code == 0
    assert printed.stdout.startswith(begins)
    written = terminal.call("trust", "graph", "old.toml", "--format", form, "--output", "graph")
    assert (written.exit_code, written.stdout) == (0, "wrote 2 services and 1 pairs to graph\n")
    assert Path("graph").read_text() == printed.stdout


def test_graph_of_one_service(terminal: Terminal) -> None:
    """Its neighbours and nobody else; a service that the file does not know is a mistake."""
    row = f'[[allow]]\nissuer = "{WALLETS}"\naudience = "{LEDGER}"\n'
    Path("old.toml").write_text(OLD + row)
    assert '"edge.' not in terminal.call("trust", "graph", "old.toml", "--service", LEDGER).stdout
    result = terminal.call("trust", "graph", "old.toml", "--service", "https://x.example.com")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "names https://x.example.com" in result.stderr


def test_image_of_many_services(terminal: Terminal) -> None:
    """It is drawn, and says what is better."""
    rows = "".join(
        f'[[allow]]\nissuer = "https://s{number}.example.com"\naudience = "{WALLETS}"\n'
        for number in range(40)
    )
    Path("old.toml").write_text(f"version = 1\n{rows}")
    result = terminal.call("trust", "graph", "old.toml", "--format", "svg")
    assert (result.exit_code, result.stderr.split()[:2]) == (0, ["41", "services"])
    assert result.stdout.count('class="call"') == 40


def test_schema(terminal: Terminal) -> None:
    """It is the one that is shipped, byte by byte, and accepts the shipped trust file's form."""
    printed = terminal.call("trust", "schema").stdout
    assert printed == (ROOT / "trust" / "trust.schema.json").read_text()
    good = {"version": 1, "allow": [{"issuer": LEDGER, "audience": WALLETS}]}
    jsonschema.Draft202012Validator(json.loads(printed)).validate(good)
