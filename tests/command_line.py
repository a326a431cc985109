"""`s2s-mesh` for tests: inside this process where that is the same, as the real program where it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from s2s_mesh.cli.app import app
from s2s_mesh.store import generate_key_encryption_key

from .servers import wait_until

ROOT = Path(__file__).parents[1]
OURS = ("S2S_MESH_", "REDIS_URL")
PATIENCE = 60.0  # seconds; a loaded machine starts processes slowly
ISSUER = "http://127.0.0.1:8101"
OTHER = "http://127.0.0.1:8102"


class Terminal:
    """A person's shell in an empty directory: runs `s2s-mesh` with an environment of its own.

    Attributes:
        folder: the working directory.
        environment: the variables of the service; change them freely.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {
            "S2S_MESH_ISSUER": ISSUER,
            "S2S_MESH_KEY_STORE": f"file://{folder}/keys",
        }

    def call(self, *arguments: str, stdin: str | bytes = "") -> Result:
        """Run a command in this process."""
        unset = {name: None for name in os.environ if name.startswith(OURS)}
        environment: Mapping[str, str | None] = {**unset, **self.environment}
        result = CliRunner().invoke(app, arguments, input=stdin, env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the real program."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return subprocess.Popen(
            [sys.executable, *(arguments if arguments[0] == "-c" else ("-m", "s2s_mesh", *arguments))],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **self.environment},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the real program to its end."""
        with self.start(*arguments, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(stdin, timeout=PATIENCE)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextmanager
    def server(self, *arguments: str) -> Iterator[Server]:
        """Run `whoami` or `serve` for the length of the block, which begins when it is ready."""
        errors = self.folder / f"{arguments[0]}.stderr"
        with errors.open("w") as file, self.start(*arguments, stderr=file) as process:
            server = Server(process, errors)
            try:
                assert process.stdout is not None
                server.ready_line = process.stdout.readline()
                yield server
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=PATIENCE)

    def create_ring(self, **changes: str) -> None:
        """Make the service's ring; `changes` are for its environment."""
        self.environment.update(changes)
        result = self.call("keys", "init")
        assert result.exit_code == 0, result.stderr

    def seal(self) -> str:
        """Turn the service into one with an https id, whose store is sealed; returns the key for that."""
        key = generate_key_encryption_key()
        self.environment |= {
            "S2S_MESH_ISSUER": "https://edge.example.com",
            "S2S_MESH_KEY_ENCRYPTION_KEY": key,
        }
        return key

    def trust(self, text: str) -> Path:
        """Write the service's trust file; loopback is allowed in it."""
        path = self.folder / "trust" / "trust.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"version = 1\n[defaults]\nallow_loopback_http = true\n{text}")
        return path


class Server:
    """A running server.

    Attributes:
        process: the real program.
        ready_line: the first line of its standard output.
    """

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self.ready_line = ""
        self._errors = errors

    @property
    def url(self) -> str:
        """Where it listens, as it says."""
        return self.ready_line.removesuffix(" ready\n")

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text()

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code, and the rest of standard output."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        return self.process.wait(timeout=PATIENCE), rest

    def wait_for_error(self, text: str) -> None:
        """Wait until standard error holds `text`."""
        wait_until(lambda: text in self.errors, timeout=PATIENCE, what=f"{text!r} in {self.errors}")


class MovableTime:
    """The time as our command line sees it in this process.

    Attributes:
        ahead: seconds between it and the real one.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        """Unix seconds."""
        return time.time() + self.ahead

    @contextmanager
    def ago(self, seconds: float) -> Iterator[None]:
        """So long before, for the length of the block."""
        self.ahead -= seconds
        yield
        self.ahead += seconds


def make_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in `folder`; this process works there too."""
    monkeypatch.chdir(folder)
    return Terminal(folder)
