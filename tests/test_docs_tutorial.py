"""docs/tutorial.md, done by a stranger: an empty folder, the wheel, and what the page says, in its order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from .docs_snippets import ROOT, Fence, fences
from .programs import environment
from .servers import free_port, wait_until

DOCS = "docs/tutorial.md"
MOST_LINES = 40
TEN_MINUTES = 600
_END = "--end-of-this-command--"


class Shell:
    """One bash, as somebody types into it: in a folder, with this environment."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "-m"],  # jobs, as in a terminal
            cwd=folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> str:
        """What the command prints; it must succeed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho {_END}$?\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            before, end, status = line.partition(_END)
            printed += before
            if end:
                assert status == "0\n", (command, status, printed)
                return printed
        raise AssertionError((command, printed))

    def close(self) -> None:
        """End it and whatever it still runs."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; exit\n")
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        finally:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this tree and nothing else."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture
def shell(tmp_path: Path, wheels: Path) -> Iterator[Shell]:
    """In an empty folder, where pip finds the wheel, and dependencies are those that the tests have."""
    folder = tmp_path / "empty"
    folder.mkdir()
    mine = environment(
        PYTHONPATH=sysconfig.get_path("purelib"),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(wheels),
        PIP_NO_DEPS="1",
        PIP_IGNORE_INSTALLED="1",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_CONFIG_FILE=os.devnull,
    )
    shell = Shell(folder, {name: text for name, text in mine.items() if not name.startswith("S2S_MESH_")})
    yield shell
    shell.close()


def steps(block: Fence) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what is printed below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def matches(shown: str, printed: str) -> bool:
    """Whether it is what the page shows, where `...` stands for anything, but for the widths of columns."""
    pattern = ".*".join(re.escape(part) for part in _narrow(shown).split("..."))
    return re.fullmatch(pattern, _narrow(printed), re.DOTALL) is not None


def _narrow(text: str) -> str:
    return re.sub(" +", " ", text).strip()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _see(shell: Shell, command: str, shown: str) -> None:
    """Type it, and see what the page shows; "after a moment" where a service has to notice something."""
    printed = shell.type(command)

    def seen() -> bool:
        nonlocal printed
        if not matches(shown, printed):
            printed = shell.type(command)
        return matches(shown, printed)

    if command.startswith("curl"):
        wait_until(seen, timeout=60, what=f"{command} to print what the page shows")
    elif shown:
        assert matches(shown, printed), (command, printed)


def test_the_walk(shell: Shell, tmp_path: Path) -> None:
    """Each block as printed, but for free ports: two services, under forty lines, in under ten minutes."""
    began = time.monotonic()
    ports = {"8100": str(free_port()), "8101": str(free_port())}
    lines = 0
    for block in fences(DOCS):
        block = Fence(block.language, re.sub("|".join(ports), lambda found: ports[found[0]], block.text))
        if block.language != "console":
            (tmp_path / "empty" / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
            lines += sum(bool(line.strip()) for line in block.text.splitlines())
            continue
        for command, shown in steps(block):
            _see(shell, command, shown)
            if "uvicorn" in command:
                port = re.findall(r"--port (\d+)", command)[0]
                url = f"http://127.0.0.1:{port}/.well-known/jwks.json"
                wait_until(partial(answers, url), timeout=60, what=f"{command} to serve its keys")
            if command.startswith("pip install"):
                home = shell.type("python -c 'import s2s_mesh; print(s2s_mesh.__file__)'")
                assert home.startswith(str(tmp_path / "empty" / ".venv")), home
    assert 0 < lines < MOST_LINES
    assert time.monotonic() - began < TEN_MINUTES
