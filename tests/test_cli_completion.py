"""`s2s-mesh completion`: scripts that real shells run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .command_line import ROOT, Terminal, make_terminal

PRESSED = """
source <(s2s-mesh completion bash)
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_s2s_mesh_completion s2s-mesh
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("s2s-mesh tru", "trust"),
        ("s2s-mesh trust di", "diff"),
        ("s2s-mesh trust export en", "envoy"),
        ("s2s-mesh doctor --rev", "--reviewed"),
    ],
)
def test_in_bash(tmp_path: Path, words: str, completed: str) -> None:
    """Commands, their commands, and options."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    program = tmp_path / "s2s-mesh"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m s2s_mesh "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [bash, "-c", PRESSED.format(words=words)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_scripts(terminal: Terminal, shell: str) -> None:
    """Each of them asks this program."""
    result = terminal.call("completion", shell)
    assert result.exit_code == 0
    assert "_S2S_MESH_COMPLETE" in result.stdout
    assert f"complete_{shell}" in result.stdout


def test_unknown_shell(terminal: Terminal) -> None:
    """Exit code 2, with the shells that are known."""
    result = terminal.call("completion", "tcsh")
    assert result.exit_code == 2
    assert "fish" in result.stderr
