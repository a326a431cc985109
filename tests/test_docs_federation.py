"""What docs/federation.md shows is what the program does: its commands are run, its snippets executed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s2s_mesh.cli.finding_table import print_findings
from s2s_mesh.cloud_checks import Seen, algorithms, discovery, issuer_url, keys, lead, subject
from s2s_mesh.clouds import CLOUDS
from s2s_mesh.identity import ServiceId
from s2s_mesh.jws import decode
from s2s_mesh.rotation import RotationSchedule
from s2s_mesh.strict_json import decode_object
from s2s_mesh.wellknown import JWKS, OPENID_CONFIGURATION, WellKnown

from .cloud_servers import CLIENT, TENANT
from .command_line import ROOT, MovableTime, Terminal, make_terminal
from .docs_snippets import commands, fences, snippets
from .key_pool import pool
from .test_cloud_checks import ring
from .tokens import NOW, WALLETS

DOCS = "docs/federation.md"
HOUR = 3600.0


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: MovableTime) -> Terminal:
    """wallets, whose ring is an hour old; `s2s-mesh` is in PATH."""
    made = make_terminal(tmp_path, monkeypatch)
    program = tmp_path / "bin" / "s2s-mesh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m s2s_mesh "$@"\n')
    program.chmod(0o755)
    made.seal()
    made.environment |= {
        "S2S_MESH_ISSUER": WALLETS,
        "S2S_MESH_ROTATION": "cloud-federation",
        "S2S_MESH_ALGORITHM": "RS256",  # what every one of them verifies
        "PATH": f"{program.parent}:/usr/bin:/bin",
    }
    with moved.ago(HOUR):
        made.create_ring()
    return made


def shell(terminal: Terminal, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        shell=True,
        cwd=terminal.folder,
        env=terminal.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def steps() -> Iterator[tuple[str, str]]:
    """Each command, and what is shown after it."""
    for block in snippets(DOCS, "console"):
        command, _, shown = block.partition("\n")
        yield command.removeprefix("$ "), shown


def plain(text: str) -> str:
    """What is the same each time."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "INSTANT", text)


def test_the_commands(terminal: Terminal) -> None:
    """Each of them does what the text says, and warns of nothing."""
    assert len(commands(DOCS)) == 9
    for command, shown in steps():
        done = shell(terminal, command)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert plain(done.stdout) == plain(shown), command
        words = shlex.split(command)
        if "--token-file" in words:
            path = terminal.folder / words[words.index("--token-file") + 1]
            claims = decode(path.read_bytes()).claims
            assert claims["iss"] == claims["sub"] == WALLETS
            assert path.name.startswith(words[2])
    assert WALLETS in (terminal.folder / "gcp.tf").read_text()
    assert WALLETS in (terminal.folder / "azure.tf").read_text()
    assert len(list(yaml.safe_load_all((terminal.folder / "kubernetes.yaml").read_text()))) == 2
    config = json.loads((terminal.folder / "gcp.json").read_text())
    assert "executable" in config["credential_source"]
    assert json.loads((terminal.folder / "wallets.jwks.json").read_text())["keys"]


def test_the_kubeconfig(terminal: Terminal) -> None:
    """Its command is found and prints a credential."""
    (text,) = snippets(DOCS, "yaml")
    entry = yaml.safe_load(text)["users"][0]["user"]["exec"]
    done = shell(terminal, shlex.join([entry["command"], *entry["args"]]))
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["apiVersion"] == entry["apiVersion"]
    assert decode(printed["status"]["token"].encode()).claims["aud"] == "https://kubernetes.example.com"


def test_the_callback(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-identity gets a token from the service."""
    (code,) = snippets(DOCS, "python")
    terminal.trust("")
    for name, value in terminal.environment.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"TENANT": TENANT, "CLIENT": CLIENT}
    exec(compile(code, DOCS, "exec"), names)
    with names["service"], names["credential"]:
        claims = decode(names["credential"]._func().encode()).claims
    assert claims["aud"] == "api://AzureADTokenExchange"


def test_what_check_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is the one of these findings; on the page without what is in order with the documents."""
    es256 = ring(pool(1), pool(2))
    served = WellKnown(ServiceId(WALLETS), RotationSchedule.DEFAULT)
    document, jwks = (
        Seen(place=WALLETS + path, members=decode_object(served.answer(path, es256, NOW, method="GET").body))
        for path in (OPENID_CONFIGURATION, JWKS)
    )
    azure = CLOUDS["azure"]
    print_findings(
        [
            issuer_url(azure, WALLETS),
            subject(None, WALLETS),
            algorithms(azure, es256, NOW),
            lead(RotationSchedule.DEFAULT),
            discovery(WALLETS, document, jwks),
            *keys(azure, jwks, es256, NOW),
        ],
        as_json=False,
    )
    (shown,) = [fence.text for fence in fences(DOCS) if not fence.language]
    command, _, table = shown.partition("\n")
    assert command == "$ s2s-mesh federate check azure"
    assert re.sub(" +", " ", table) == re.sub(" +", " ", capsys.readouterr().out)
