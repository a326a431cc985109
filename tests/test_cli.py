"""`s2s-mesh` as a program: help, exit codes, how it ends, what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import s2s_mesh
from s2s_mesh import __version__
from s2s_mesh.cli.output import duration, moment, relative

from .command_line import OTHER, PATIENCE, Terminal, make_terminal

COMMANDS = (
    "init",
    "whoami",
    "serve",
    "gateway",
    "jwks",
    "doctor",
    "completion",
    "trust check",
    "trust migration",
    "legacy key",
    "legacy hash",
    "trust explain",
    "trust diff",
    "trust graph",
    "trust schema",
    "keys init",
    "keys show",
    "token mint",
    "token inspect",
)
# run the command line inside of `-c`, and then say which modules that took
IMPORTED = """
import sys
from s2s_mesh.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""
WITHOUT = """
import sys
sys.modules[{module!r}] = None
from s2s_mesh.cli import main
main()
"""
INTERRUPTED_EARLY = """
from unittest.mock import patch
from s2s_mesh.cli import main
with patch("s2s_mesh.cli.app.app", side_effect=KeyboardInterrupt):
    main()
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(terminal: Terminal, command: str) -> None:
    """Every command's help holds an example of that command."""
    shown = terminal.call(*command.split(), "--help").stdout
    assert f"s2s-mesh {command}" in shown.partition("Example:\n")[2]


@pytest.mark.parametrize("arguments", [(), ("keys",), ("token",), ("trust",), ("legacy",)])
def test_no_command(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    """A noun alone shows what can be done with it; the exit code is Typer's, by version 0 or 2."""
    assert "Commands:" in terminal.call(*arguments).output


def test_version(terminal: Terminal) -> None:
    """`--version` names program and version."""
    done = terminal.run("--version")
    assert (done.returncode, done.stdout) == (0, f"s2s-mesh {__version__}\n")


def test_usage_error(terminal: Terminal) -> None:
    """An unknown option is exit code 2, on standard error."""
    done = terminal.run("keys", "show", "--frob")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--frob" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["--help"], {"httpx", "starlette", "redis", "jwt", "cryptography", "msgspec", "uvicorn"}),
        (["jwks"], {"httpx", "starlette", "redis", "uvicorn"}),
    ],
)
def test_lean_start(terminal: Terminal, arguments: list[str], spared: set[str]) -> None:
    """A command imports nothing that it does not need."""
    terminal.create_ring()
    done = terminal.run("-c", IMPORTED.format(arguments=arguments))
    assert done.returncode == 0, done.stderr
    assert not spared & set(done.stderr.split())


def test_names_of_the_package() -> None:
    """What the package imports only at first use is there all the same, and nothing else is."""
    assert set(s2s_mesh.__all__) <= set(dir(s2s_mesh))
    assert all(getattr(s2s_mesh, name) is not None for name in s2s_mesh.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        s2s_mesh.Nothing  # noqa: B018


@pytest.mark.parametrize("module", ["typer", "rich", "uvicorn"])
def test_without_the_extra(terminal: Terminal, module: str) -> None:
    """Where the extra is not installed, one line says what to run."""
    done = terminal.run("-c", WITHOUT.format(module=module))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{module} is missing; run: pip install 's2s-mesh[cli]'\n"


def test_interrupted(terminal: Terminal) -> None:
    """Ctrl-C ends a command with 130 and without a word."""
    terminal.create_ring()
    # whoever runs the tests in the background has SIGINT ignored, in all that they start
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with terminal.start("token", "mint", "--audience", OTHER, **options) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting ")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 130


def test_interrupted_early(terminal: Terminal) -> None:
    """Ctrl-C before there is a command is no different."""
    done = terminal.run("-c", INTERRUPTED_EARLY)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_closed_pipe(terminal: Terminal) -> None:
    """Where nobody reads any more, a command ends with 141 and without a word."""
    terminal.create_ring()
    reader, writer = os.pipe()
    os.close(reader)
    with terminal.start("jwks", stdout=writer) as process:
        os.close(writer)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argument", ["jwks", "--version"])
def test_full_disk(terminal: Terminal, argument: str) -> None:
    """Output that cannot be written is an error, never a success."""
    terminal.create_ring()
    with Path("/dev/full").open("w") as full, terminal.start(argument, stdout=full) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert errors == "Error: [Errno 28] No space left on device\n"


def test_on_a_terminal(terminal: Terminal) -> None:
    """On a terminal tables are drawn, without colours, and no cell is cut off."""
    terminal.create_ring()
    master, slave = os.openpty()
    terminal.environment |= {"COLUMNS": "80", "TERM": "xterm-256color", "NO_COLOR": "1"}
    with terminal.start("keys", "show", stdout=slave, stderr=subprocess.DEVNULL) as process:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
    os.close(master)
    assert process.returncode == 0
    text = shown.decode()
    assert "\u2500\u2500\u2500" in text
    assert "\u2026" not in text
    assert "\x1b[3" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way of saying that the other side is closed
        return b""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.6, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (100, "1 min 40 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (86400 * 30 - 1, "29 d 23 h"),
        (86400 * 30, "30 d"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    """A duration is its two largest units."""
    assert duration(seconds) == words


def test_instants() -> None:
    """An instant is shown in UTC and as seen from now."""
    assert moment(1795307203.4, 1795307100) == "2026-11-22 00:26:43 UTC (in 1 min 43 s)"
    assert relative(10, 13) == "3 s ago"
    assert relative(10, 10.4) == "now"
