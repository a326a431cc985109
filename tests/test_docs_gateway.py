"""What docs/gateway.md shows is what the program does: its commands are run, tables and lines compared."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from s2s_mesh.forward_auth import FRONTS, IDENTITY, REQUEST_ID

from .command_line import Terminal, make_terminal
from .fronts import EXAMPLES, fresh, wallets_gateway
from .programs import ROOT
from .servers import free_port
from .test_readme import snippets

DOCS = "docs/gateway.md"
TEXT = (ROOT / DOCS).read_text(encoding="utf-8")
SERVE, ASK = (block.strip().removeprefix("$ ") for block in snippets(DOCS, "console"))


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = make_terminal(tmp_path, monkeypatch)
    made.environment["S2S_MESH_ROTATION"] = "fast-for-tests"
    made.trust("")
    return made


def test_the_commands(terminal: Terminal) -> None:
    """The gateway is started and asked for a token as printed; the answer has the members shown."""
    ports = {"9000": str(free_port()), "9001": str(free_port())}
    serve, ask = (re.sub("9000|9001", lambda found: ports[found[0]], text) for text in (SERVE, ASK))
    with terminal.server(*serve.split()[1:]) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"http://127.0.0.1:{ports['9001']} ready\n", server.errors
        curl = shlex.split(ask)
        assert curl[:3] == ["curl", "-s", "-H"]
        name, _, value = curl[3].partition(": ")
        answer = httpx.get(curl[4], headers={name: value}).json()
        (shown,) = snippets(DOCS, "json")
        assert {**answer, "access_token": "..."} == {**json.loads(shown), "expires_in": answer["expires_in"]}
        asked = [("x-original-method", "GET"), ("x-original-uri", "/health")]
        assert httpx.get(f"{server.url}/verify", headers=asked).status_code == 200


def test_the_fields() -> None:
    """The table has a row for each field that the application gets, and no other."""
    rows = re.findall(r"^\| `(S2S-[A-Za-z-]+)` \|", TEXT, re.MULTILINE)
    assert [row.lower() for row in rows] == [*IDENTITY, REQUEST_ID]


def test_the_fronts() -> None:
    """The table has each front with the fields that are read."""
    for front, fields in FRONTS.items():
        (row,) = (line for line in TEXT.splitlines() if line.startswith("| `") and f"`{front}`" in line)
        for field in fields or ():
            assert f"`{field.decode()}`" in row.lower()


def test_the_log_lines(tmp_path: Path) -> None:
    """They are those of two real requests, but for the request ids and what is left out."""
    shown = re.findall(r"^(?:refused|admitted) .*$", TEXT, re.MULTILINE)
    assert len(shown) == 2
    bearer = {"authorization": f"Bearer {fresh(scope='cards:read')}"}
    with wallets_gateway(tmp_path, "envoy") as gateway:
        assert httpx.put(f"{gateway.url}/verify/wallets/42/card", headers=bearer).status_code == 403
        assert httpx.get(f"{gateway.url}/verify/wallets/42", headers=bearer).status_code == 200
        for line in shown:
            form = re.escape(re.sub(r"request \w+\.\.\.", "request ...", line)).replace(r"\.\.\.", ".+")
            assert re.search(f": {form}\n", gateway.errors), (line, gateway.errors)


def test_the_examples_are_linked() -> None:
    """Every file of the example, and those that are linked exist."""
    linked = set(re.findall(r"\]\(\.\./examples/gateway/([\w.]+)\)", TEXT))
    assert linked == {path.name for path in EXAMPLES.iterdir()}
    for other in re.findall(r"\]\(([\w-]+\.md)\)", TEXT):
        assert (ROOT / "docs" / other).exists(), other
