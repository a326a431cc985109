"""Real processes and real HTTP servers for tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from .servers import free_port, wait_until

ROOT = Path(__file__).parents[1]
_PATIENCE = 60.0  # seconds; a loaded machine starts processes slowly


def environment(**variables: str) -> dict[str, str]:
    """This process's environment and more, for programs whose coverage would only make them slow."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def from_wheel(name: str) -> str | None:
    """The path of a program that a wheel brought, or that is installed otherwise; None without."""
    # Envoy's own script in front of it would not pass a signal on
    package = importlib.util.find_spec(name)
    if package is not None and package.origin is not None:
        inside = Path(package.origin).parent / "_bin" / name
        if inside.is_file():
            return str(inside)
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


class Program:
    """One program in a process of its own.

    Args:
        command: what to run.
        environment: all of its environment.
        folder: where it runs, and where its output is kept.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder

    @contextmanager
    def until_answering(self, url: str, *, status: int = 200) -> Iterator[subprocess.Popen[bytes]]:
        """Run it for the length of the block, which begins once `url` answers with `status`."""
        with (self._folder / f"output-{free_port()}").open("w+b") as output:
            process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                wait_until(lambda: _answers(url, status, process), timeout=_PATIENCE, what=f"{url} to answer")
                output.seek(0)
                assert process.poll() is None, output.read().decode()
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=_PATIENCE)


def _answers(url: str, status: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether `url` answers with `status`, or the process has ended."""
    try:
        return process.poll() is not None or httpx.get(url, timeout=5).status_code == status
    except httpx.TransportError:
        return False


@contextmanager
def http_server(app: Any, port: int, **options: Any) -> Iterator[None]:
    """Serve an ASGI application with uvicorn, in a thread, for the length of the block."""
    # clients let go of idle connections after five seconds; a server that does so too can be the first
    options = {"timeout_keep_alive": 60, **options}
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout=_PATIENCE, what="uvicorn to start")
        yield
    finally:
        server.should_exit = True
        thread.join()
