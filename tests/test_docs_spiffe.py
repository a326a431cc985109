"""What docs/spiffe.md shows is what the program does: its commands, programs and trust file are used."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.spiffe_bundle import DOCUMENT

from .command_line import Terminal, make_terminal
from .docs_snippets import ROOT, commands, snippets
from .jwks_servers import Peer, answer, says
from .servers import free_port
from .tokens import EDGE, WALLETS

DOCS = "docs/spiffe.md"
TEXT = (ROOT / DOCS).read_text(encoding="utf-8")
EXPORT, SERVE, ASK, CHECK = commands(DOCS)
OURS, THEIRS = snippets(DOCS, "python")
BUNDLE_URL = EDGE + DOCUMENT


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = make_terminal(tmp_path, monkeypatch)
    made.trust("")
    return made


def test_the_bundle_is_served(terminal: Terminal) -> None:
    """By the command, at the address, with the members that are shown; the hint is the one printed."""
    name, _, value = EXPORT.removeprefix("export ").partition("=")
    terminal.environment[name] = value
    port = str(free_port())
    with terminal.server(*SERVE.replace("8080", port).split()[1:]) as server:
        curl = shlex.split(ASK.replace("8080", port))
        assert curl[:2] == ["curl", "-s"]
        assert curl[2] == server.url + DOCUMENT
        served = httpx.get(curl[2]).json()
    (shown,) = re.findall(r"^ +(\{\"keys.*)$", TEXT, re.MULTILINE)
    form = json.loads(shown.replace("[...]", "[]").replace(":...", ":0"))
    assert served.keys() == form.keys()
    assert served["spiffe_refresh_hint"] == form["spiffe_refresh_hint"]


def test_both_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ours sends, theirs takes for the SPIFFE ID that the page gives the service."""
    (tmp_path / "trust.toml").write_text("version = 1\n")
    name, _, value = EXPORT.removeprefix("export ").partition("=")
    environ = {name: value, "S2S_MESH_ISSUER": EDGE, "S2S_MESH_KEY_STORE": "memory://"}
    environ |= {"S2S_MESH_ALLOW_MEMORY_STORE": "1", "S2S_MESH_TRUST_FILE": str(tmp_path / "trust.toml")}
    for variable, setting in environ.items():
        monkeypatch.setenv(variable, setting)
    with Peer(says(answer(b""))) as reports:
        ours = run(OURS.replace("https://reports.example.org", reports.url("")))
        ours["report"]("/daily")
        (head,) = reports.heads
    scheme, _, token = head.fields["authorization"].partition(" ")
    service: Service = ours["service"]
    assert service.well_known is not None
    served = service.well_known.answer(DOCUMENT, service.running().ring, service.clock(), method="GET").body
    with service, Peer(says(answer(served, kind="application/json"))) as endpoint:
        assert BUNDLE_URL in THEIRS
        theirs = run(THEIRS.replace(BUNDLE_URL, endpoint.url(DOCUMENT)))
        assert (scheme, theirs["caller"](token)) == ("Bearer", value)


def run(code: str) -> dict[str, Any]:
    """The names that a program defines."""
    names: dict[str, Any] = {}
    exec(compile(code, DOCS, "exec"), names)
    return names


def test_the_triple() -> None:
    """What the other side is told is where the bundle of that service is, and for whom."""
    rows = dict(re.findall(r"^ +\| ([a-z ]+) \| `([^`]+)` \|$", TEXT, re.MULTILINE))
    domain = EXPORT.partition("spiffe://")[2].partition("/")[0]
    assert rows == {"trust domain": domain, "bundle endpoint": BUNDLE_URL, "profile": "https_web"}


def test_the_trust_file(terminal: Terminal) -> None:
    """It is good without a warning, and the check prints what is shown."""
    (text,) = snippets(DOCS, "toml")
    config = TrustConfig.parse(text)
    assert config.warnings == ()
    assert config.for_audiences([WALLETS]).foreign_issuers.keys() == {"spiffe://example.org"}
    (terminal.folder / "trust.toml").write_text(text)
    printed = terminal.call(*CHECK.split()[1:])
    assert printed.exit_code == 0
    (shown,) = (block for block in snippets(DOCS, "console") if CHECK in block)
    assert printed.stdout == shown.partition("\n")[2]
