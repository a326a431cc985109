"""What docs/accepting.md shows is what the program does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh.testing import Mesh
from s2s_mesh.trust import TrustConfig
from s2s_mesh.trust_relaxations import relaxations

from .docs_snippets import snippets
from .programs import environment
from .tokens import WALLETS

DOCS = "docs/accepting.md"
FIRST, CLUSTER, ID_TOKEN, OWN_KEY, ENTRA, HUB = range(6)
SETTLEMENT = "https://settlement.example.com"
ALLOW = f'[[allow]]\nissuer = "{SETTLEMENT}"\naudience = "{WALLETS}"\nscopes = ["cards:write"]\n'
MORE = '[[allow]]\nissuer = "https://reports.example.com"\naudience = "https://wallets.example.com"\n'


def text(number: int) -> str:
    """A trust file with what is shown in it."""
    shown = snippets(DOCS, "toml")[number]
    return shown if number == FIRST else f"version = 1\n{shown}{ALLOW}{MORE if number == HUB else ''}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "trust").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", [FIRST, CLUSTER, ID_TOKEN, OWN_KEY, ENTRA, HUB])
def test_the_trust_files(number: int) -> None:
    """Each is good without a warning, and vouches for settlement; the first one relaxes nothing."""
    trust = TrustConfig.parse(text(number))
    assert trust.warnings == ()
    assert any(rule.service == SETTLEMENT for rules in trust.subjects.values() for rule in rules)
    assert SETTLEMENT not in trust.issuers
    assert bool(relaxations(trust)) is (number != FIRST)


@pytest.mark.parametrize(("number", "file"), [(0, FIRST), (1, CLUSTER), (2, FIRST)])
def test_the_commands(folder: Path, number: int, file: int) -> None:
    """They print what the page says."""
    (folder / "trust/trust.toml").write_text(text(file))
    command, _, output = snippets(DOCS, "console")[number].partition("\n")
    arguments = command.removeprefix("$ s2s-mesh ").split()
    done = subprocess.run(
        [sys.executable, "-m", "s2s_mesh", *arguments],
        env=environment(PYTHONIOENCODING="utf-8"),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, output.splitlines()), done.stderr


def test_the_snippets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The application sees who calls and who said so; and the test of the page passes."""
    with Mesh() as mesh:
        run(folder, mesh)
    application = snippets(DOCS, "python")[0]
    said = [line.partition("# ")[2] for line in application.splitlines()[1:]]
    assert capsys.readouterr().out.splitlines() == said


def run(folder: Path, mesh: Mesh) -> None:
    (folder / "trust/trust.toml").write_text(text(FIRST))
    application, test = snippets(DOCS, "python")
    names: dict[str, Any] = {}
    exec(compile(test, DOCS, "exec"), names)
    names["test_settlement_is_let_in"](mesh)
    token = mesh.foreign_token("https://accounts.example.com/", "payments-settlement")
    service = mesh.service(WALLETS, trust="trust/trust.toml")
    exec(compile(application, DOCS, "exec"), {"service": service, "token": token})


def test_the_table_has_every_relaxation() -> None:
    """And each is a member of the table of a foreign issuer."""
    page = (Path(__file__).parents[1] / DOCS).read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = {row.split("`")[1].partition(" = ")[0] for row in rows}
    table = "\n".join(row.split("`")[1] for row in rows).replace(
        'typ = ["JWT"]', 'typ = ["JWT"]\ndiscovery = true\nalgorithms = ["Ed25519"]'
    )
    trust = TrustConfig.parse(text(FIRST).replace("discovery = true", table, 1))
    told = {line.partition(":")[0].rpartition(".")[2] for line in relaxations(trust)}
    assert {line.split('".')[1].partition(":")[0] for line in relaxations(trust)} == named, told
