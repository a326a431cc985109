"""What docs/oauth.md says, done: its registration at a real oidc-provider, its application, its commands."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s2s_mesh import Service, TrustConfig

from .docs_snippets import commands, snippets
from .interop.oauth_server import authorization_server
from .programs import Program, environment
from .servers import free_port

DOCS = "docs/oauth.md"
KEY = "A" * 43


def a_ring_since_a_minute(issuer: str, folder: Path) -> None:
    """Old enough for a process that serves no routes, such as worker.py, and far from its first rotation."""
    service = Service(
        issuer=issuer,
        trust=TrustConfig.parse("version = 1\n"),
        key_store=folder.as_uri(),
        key_encryption_key=KEY,
        allow_loopback_http=True,
    )
    service.clock = lambda: time.time() - 60
    service.serves_documents()
    with service:
        service.load()


def test_the_three_steps_as_printed(tmp_path: Path) -> None:
    """A client that is registered so, an application that is written so, and commands that are typed so."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    registered = json.loads(snippets(DOCS, "json")[0].replace("https://wallets.example.com", own))
    with authorization_server([registered]) as server:
        for code in snippets(DOCS, "python"):
            code = code.replace("https://login.example.com", server.issuer)
            code = code.replace("https://api.example.com", server.resource)
            (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
        (tmp_path / "trust.toml").write_text("version = 1\n[defaults]\nallow_loopback_http = true\n")
        variables = environment(
            S2S_MESH_ISSUER=own,
            S2S_MESH_TRUST_FILE="trust.toml",
            S2S_MESH_KEY_STORE=tmp_path.as_uri(),
            S2S_MESH_KEY_ENCRYPTION_KEY=KEY,
        )
        a_ring_since_a_minute(own, tmp_path)
        run, curl = (shlex.split(line.replace("8000", str(port))) for line in commands(DOCS))
        with Program([sys.executable, "-m", *run], variables, tmp_path).until_answering(f"{own}/cards"):
            said = subprocess.run(curl, capture_output=True, text=True, check=True, timeout=60).stdout
            assert json.loads(said)["client"] == own
            for name in ("worker.py", "legacy.py"):
                done = subprocess.run(
                    [sys.executable, name],
                    cwd=tmp_path,
                    env=variables,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                assert done.stdout == "2\n", done.stderr


@pytest.mark.parametrize("name", ["app.py", "worker.py", "legacy.py"])
def test_the_programs_of_the_page(name: str) -> None:
    """As many as the test above runs."""
    assert name in {code.splitlines()[0].removeprefix("# ") for code in snippets(DOCS, "python")}
