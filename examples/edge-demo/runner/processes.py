"""Child processes that end with the runner, however that ends, and their logs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import DemoError

_STOP_SECONDS = 5.0
_JOB_SECONDS = 60.0
# Reads its standard input, which is closed when the runner ends, for whatever reason; then it removes the
# directory, unless told to keep it, and kills its process group, to which all other processes belong.
_LEASH = 'read -r keep; [ -n "$keep" ] || rm -rf -- "$1"; kill -KILL 0'


class Processes:
    """Processes by name; each writes to a log of its own.

    Attributes:
        directory: for the logs, and whatever else goes away at the end.
    """

    def __init__(self, working_directory: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="s2s-mesh-demo-"))
        self._working_directory = working_directory
        self._leash = subprocess.Popen(
            ["/bin/sh", "-c", _LEASH, "leash", str(self.directory)], stdin=subprocess.PIPE, **_in_group(0)
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, name: str, command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process."""
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._working_directory,
                env=dict(environ),
                **_in_group(self._leash.pid),
            )
        self._running[name] = process
        return process

    def run(self, command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a process to its end."""
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self._working_directory,
            env=dict(environ),
            timeout=_JOB_SECONDS,
            check=False,
            **_in_group(self._leash.pid),
        )

    def check_alive(self, names: list[str]) -> None:
        """Complain of a process that has died.

        Raises:
            DemoError: naming it, with the end of its log.
        """
        for name in names:
            process = self._running.get(name)
            if process is not None and process.poll() is not None:
                raise DemoError(f"{name} has ended with status {process.returncode}:\n{self.tail(name)}")

    def terminate(self) -> None:
        """Ask all to end, and give them time for it."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))

    def end(self, *, keep_directory: bool) -> None:
        """Kill what is left, and remove the directory unless it is to be kept."""
        with suppress(OSError):
            self._leash.communicate(b"keep\n" if keep_directory else b"")

    def log(self, name: str) -> str:
        """What a process has said so far."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def tail(self, name: str) -> str:
        """The end of that; of a traceback only what went wrong."""
        lines = self.log(name).splitlines()
        frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
        said = lines[frames[-1] + 1 :] if frames else []
        return "\n".join(f"    {line}" for line in (said or lines)[-8:])

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def _in_group(leader: int) -> dict[str, Any]:
    """Arguments of `Popen` that put a process into the group of `leader`, or into its own if that is 0."""
    if sys.version_info >= (3, 11):
        return {"process_group": leader}
    return {"preexec_fn": lambda: os.setpgid(0, leader)}
