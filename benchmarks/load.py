"""Load on one URL with wrk, and programs that run beside it on a CPU of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 32
_PATIENCE = 30.0
_PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execvp(sys.argv[2], sys.argv[2:])"
_SCRIPT = """
local requests, next_one = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    local token, wit, wpt = line:match("^(%S+) ?(%S*) ?(%S*)$")
    local fields = {["Authorization"] = "Bearer " .. token}
    if wpt ~= "" then
      fields["Workload-Identity-Token"], fields["Workload-Proof-Token"] = wit, wpt
    end
    requests[#requests + 1] = wrk.format("GET", "/", fields)
  end
end
function request()
  next_one = next_one %% #requests + 1
  return requests[next_one]
end
function done(summary, latency)
  io.write(string.format("requests=%%d us=%%d bad=%%d p99=%%d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout, latency:percentile(99)))
end
""".replace("%%", "%")


class ToolMissing(Exception):
    """A program is not installed; the text says which and where to get it."""


class Load(NamedTuple):
    """What one run of wrk found.

    Attributes:
        per_second: answers a second.
        p99: milliseconds.
    """

    per_second: float
    p99: float


class Wrk:
    """wrk with one thread, on a CPU of its own if there are two.

    Args:
        folder: for its script.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("wrk")
        if program is None:
            raise ToolMissing("wrk is not installed (apt-get install wrk)")
        self._program = program
        self._script = folder / "bench.lua"
        self._script.write_text(_SCRIPT, encoding="utf-8")

    def run(self, url: str, tokens: Path, seconds: float) -> Load:
        """Send the tokens in this file, one a line, in turn; behind a token may stand its WIT and WPT.

        Raises:
            RuntimeError: some answer was not 2xx: then nothing was measured.
        """
        command = [self._program, "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "-s"]
        command = pinned([*command, str(self._script), url, "--", str(tokens)], cpu=1)
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 60, check=True
        ).stdout
        found = re.search(r"requests=(\d+) us=(\d+) bad=(\d+) p99=(\d+)", said)
        if found is None or int(found[3]):
            raise RuntimeError(f"wrk on {url} failed:\n{said}")
        return Load(int(found[1]) / int(found[2]) * 1e6, int(found[4]) / 1000)


def pinned(command: Sequence[str], *, cpu: int) -> list[str]:
    """The command, bound to one CPU where there are two to choose from."""
    if not can_pin():
        return list(command)
    return [sys.executable, "-c", _PINNED, str(cpu), *command]


def can_pin() -> bool:
    """Whether the server and its load can have a CPU each."""
    return hasattr(os, "sched_setaffinity") and {0, 1} <= os.sched_getaffinity(0)


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def program(command: Sequence[str], port: int, output: Path, **variables: str) -> Iterator[None]:
    """Run a server for the length of the block, which begins once its port answers HTTP."""
    environment: Mapping[str, str] = {**os.environ, **variables}
    with output.open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + _PATIENCE
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command} did not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError:
        return True  # 401 is an answer
    except OSError:
        return False
    return True
