"""One process of a service, which can be frozen and thawed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.programs import ROOT

from . import ChaosError
from .relay import HOST

_END_SECONDS = 10.0


class Replica:
    """Starts the program of `module` at once, on a port of its own.

    Args:
        module: which program, `issuer` or `receiver`.
        name: of the process, for its log.
        environment: all of its environment.
        folder: where its log goes.
    """

    def __init__(self, module: str, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.freezes: list[tuple[float, float]] = []
        self._log = folder / f"{name}.log"
        with socket.create_server((HOST, 0), backlog=512) as listener, self._log.open("wb") as log:
            self.port: int = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"tests.chaos.{module}", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                cwd=ROOT,
                env=dict(environment),
            )
        self.url = f"http://{HOST}:{self.port}"

    def freeze(self) -> None:
        """Stop it where it stands: its port takes connections, and nobody answers."""
        self.freezes.append((time.time(), float("inf")))
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)
        self.freezes[-1] = (self.freezes[-1][0], time.time())

    @property
    def frozen(self) -> bool:
        """Whether it is frozen now."""
        return bool(self.freezes) and self.freezes[-1][1] == float("inf")

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def check_alive(self) -> None:
        """Complain if it has ended.

        Raises:
            ChaosError: with the end of its log.
        """
        if self._process.poll() is not None:
            last = "\n".join(self.log().splitlines()[-12:])
            raise ChaosError(f"{self.name} has ended with status {self._process.returncode}:\n{last}")

    def terminate(self) -> None:
        """Ask it to end."""
        if self.frozen:
            self.thaw()
        self._process.terminate()

    def end(self) -> None:
        """Wait for its end, and insist on it."""
        try:
            self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
