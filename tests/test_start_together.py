"""Many processes at the same instant on an empty store end with one ring.

`S2S_MESH_TEST_ROUNDS` says how often; twenty rounds are what the project claims.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s2s_mesh import Service
from s2s_mesh.store import generate_key_encryption_key

from .programs import ROOT, environment
from .servers import RedisServer
from .tokens import EDGE, WALLETS

ROUNDS = int(os.environ.get("S2S_MESH_TEST_ROUNDS", "1"))
# `keys init` and `jwks` as commands; the token from a process that serves routes, as a web worker does
START = f"""
{sys.executable} -m s2s_mesh keys init >&2 &&
{sys.executable} -m s2s_mesh jwks &&
{sys.executable} -c '
from s2s_mesh import Service
service = Service.from_env()
service.routes
print(service.token("{WALLETS}"))'
"""


@pytest.fixture
def valkey() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def start_together(number: int, store: str) -> list[tuple[str, str]]:
    """Run the commands in `number` processes at once; the JWKS and the token that each printed."""
    variables = environment(
        S2S_MESH_ISSUER=EDGE,
        S2S_MESH_KEY_STORE=store,
        S2S_MESH_KEY_ENCRYPTION_KEY=generate_key_encryption_key(),
        S2S_MESH_TRUST_FILE=str(ROOT / "trust/trust.toml"),
    )

    def run(_number: int) -> tuple[str, str]:
        done = subprocess.run(["sh", "-c", START], env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        document, token = done.stdout.splitlines()
        return document, token

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def check_one_ring(printed: list[tuple[str, str]], folder: Path) -> None:
    """All JWKS documents are equal to the byte, and a receiver that has one of them verifies every token."""
    assert len({document for document, _ in printed}) == 1
    (folder / "edge.json").write_text(printed[0][0])
    (folder / "trust.toml").write_text(
        f'version = 1\n[issuers."{EDGE}"]\njwks_file = "edge.json"\n'
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    )
    with Service(issuer=WALLETS, trust=folder / "trust.toml", key_store=None) as receiver:
        assert {receiver.verify(token).issuer for _, token in printed} == {EDGE}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_32_processes_on_an_empty_redis_end_with_one_ring(
    valkey: RedisServer, tmp_path: Path, number: int
) -> None:
    """`keys init && jwks` in 32 processes at the same instant: one ring, no exception."""
    check_one_ring(start_together(32, valkey.url), tmp_path)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_16_processes_on_an_empty_directory_end_with_one_ring(tmp_path: Path, number: int) -> None:
    """The same on a `file://` store with 16 processes."""
    check_one_ring(start_together(16, f"file://{tmp_path}/keys"), tmp_path)
