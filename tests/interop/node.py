"""Node programs of other people: installed once into node_modules beside this file, run in processes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ..servers import missing

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
_LOCK_FILE = HERE / "package-lock.json"
_LEAST_NODE = 20  # what the packages ask for
_DONE = MODULES / ".package-lock.json"  # npm writes it last


@cache
def node() -> str:
    """The path of Node; without it the test is skipped, or fails where servers are required."""
    found = _program("node", "nodejs")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _LEAST_NODE:
        missing(f"Node {_LEAST_NODE} or newer, and not {version}")
    return found


@cache
def node_modules() -> Path:
    """The folder with the packages of package-lock.json, which are installed if they are not there.

    A module of ours is found by Node's own rules if it lies in this folder's parent: `HERE`.
    """
    npm = _program("npm", "npm")
    with (HERE / ".npm-lock").open("w") as lock:  # several test processes begin at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _DONE.exists() or _DONE.stat().st_mtime < _LOCK_FILE.stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{' '.join(command)} in {HERE} failed:\n{done.stderr}"
            _DONE.touch()
    return MODULES


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"{name}: apt-get install {package}")
    return str(found)
