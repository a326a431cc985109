"""`s2s-mesh init`: what it writes and prints is good, and nothing is ever overwritten."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path

import pytest

from s2s_mesh import Service, TrustConfig

from .command_line import ISSUER, Terminal, make_terminal

WALLETS = "https://wallets.example.com"
TRUST_FILE = Path("trust/trust.toml")


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def variables(text: str) -> dict[str, str]:
    """The assignments in `text`, as a shell would read them."""
    words = [word for line in text.splitlines() for word in shlex.split(line, comments=True)]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("issuer", [WALLETS, ISSUER])
def test_what_is_printed_starts_a_service(terminal: Terminal, issuer: str) -> None:
    """File and environment are all that a service needs, beside a key store."""
    result = terminal.call("init", "--issuer", issuer)
    assert result.exit_code == 0
    environment = {**variables(result.stdout), "S2S_MESH_KEY_STORE": "file:///nowhere"}
    service = Service.from_env(environment)
    assert service.issuer == issuer
    assert len(service.settings.key_encryption_keys) == 1


def test_without_an_issuer(terminal: Terminal) -> None:
    """Who does not say who the service is, is told to."""
    result = terminal.call("init")
    assert variables(result.stdout).keys() == {"S2S_MESH_TRUST_FILE", "S2S_MESH_KEY_ENCRYPTION_KEY"}
    assert "# S2S_MESH_ISSUER=" in result.stdout


@pytest.mark.parametrize("issuer", [WALLETS, ISSUER])
def test_the_example_rows_are_good(terminal: Terminal, issuer: str) -> None:
    """With the comment marks removed, the rows in the file let one service in."""
    terminal.call("init", "--issuer", issuer)
    rows = TRUST_FILE.read_text().partition("# [[allow]]")[2]
    good = re.sub(r"(?m)^# (?=\[|[a-z]+ = )", "", TRUST_FILE.read_text())
    assert rows
    config = TrustConfig.parse(good)
    assert [pair.audience for pair in config.pairs.values()] == [issuer]
    assert config.warnings == ()


def test_never_overwrites(terminal: Terminal) -> None:
    """A file that is there is left alone: exit code 1, and no key is printed."""
    TRUST_FILE.parent.mkdir()
    TRUST_FILE.write_text("mine")
    result = terminal.call("init", "--issuer", WALLETS)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "trust/trust.toml exists and is not overwritten" in result.stderr
    assert TRUST_FILE.read_text() == "mine"


def test_json(terminal: Terminal) -> None:
    """`--json` prints path and environment as data; every key-encryption key is another one."""
    first, second = (
        json.loads(terminal.call("init", "--issuer", WALLETS, "--trust-file", name, "--json").stdout)
        for name in ("a/one.toml", "b c.toml")
    )
    assert first["trust_file"] == "a/one.toml"
    assert second["environment"]["S2S_MESH_TRUST_FILE"] == "b c.toml"
    keys = {answer["environment"].pop("S2S_MESH_KEY_ENCRYPTION_KEY") for answer in (first, second)}
    assert len(keys) == 2
    assert first["environment"] == {"S2S_MESH_ISSUER": WALLETS, "S2S_MESH_TRUST_FILE": "a/one.toml"}


def test_bad_issuer(terminal: Terminal) -> None:
    """An issuer that is none is refused before anything is written."""
    result = terminal.call("init", "--issuer", "wallets")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--issuer: 'wallets' is not a service id" in result.stderr
    assert not TRUST_FILE.exists()


def test_not_writable_by_everybody(terminal: Terminal) -> None:
    """The file is one that a service accepts, whatever the umask."""
    before = os.umask(0)
    try:
        terminal.call("init")
    finally:
        os.umask(before)
    assert stat.S_IMODE(TRUST_FILE.stat().st_mode) == 0o644
    assert terminal.call("trust", "check", str(TRUST_FILE)).exit_code == 0


def test_no_place(terminal: Terminal) -> None:
    """Where the file cannot be written, one line says why."""
    Path("file").touch()
    result = terminal.call("init", "--trust-file", "file/trust.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"Error: .*'file'\n", result.stderr)
