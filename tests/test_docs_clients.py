"""What docs/clients.md shows is what the program does: every snippet calls a real server, as printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from .programs import ROOT
from .targets import serving
from .test_grpc_client import Wallets as GRPCWallets
from .test_readme import snippets
from .tokens import EDGE

DOCS = "docs/clients.md"
SNIPPETS = {code.splitlines()[0]: code for code in snippets(DOCS, "python")}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of edge, with leave for wallets to be on this machine."""
    trust = tmp_path / "trust.toml"
    trust.write_text("version = 1\n[defaults]\nallow_loopback_http = true\n")
    monkeypatch.setenv("S2S_MESH_TRUST_FILE", str(trust))
    monkeypatch.setenv("S2S_MESH_ISSUER", EDGE)
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != "# with_grpc.py"])
def test_each_client_as_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says 200, and the token was there."""
    if "httpx2" in name and sys.version_info < (3, 11):
        pytest.skip("httpx2 needs Python 3.11")
    names: dict[str, object] = {}
    with serving() as wallets:
        code = SNIPPETS[name].replace("https://wallets.example.com", wallets.url)
        exec(compile(code, DOCS, "exec"), names)
        names["service"].__exit__()  # type: ignore[attr-defined]
        assert len(wallets.tokens) == 1
    assert capsys.readouterr().out == "200\n"


def test_grpc_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the answer, and the token was there."""
    wallets = GRPCWallets()
    wallets.server.start()
    names: dict[str, object] = {"authority": wallets.authority}
    code = SNIPPETS["# with_grpc.py"].replace("wallets.example.com:443", wallets.target)
    code = code.replace("https://wallets.example.com", wallets.url)
    code = code.replace("ssl_channel_credentials()", "ssl_channel_credentials(authority)")
    exec(compile(code, DOCS, "exec"), names)
    names["service"].__exit__()  # type: ignore[attr-defined]
    wallets.server.stop(None).wait()
    assert capsys.readouterr().out == "b'card'\n"
    assert len(wallets.seen) == 1


def test_every_client_has_its_snippet_and_its_extra() -> None:
    """As many as there are modules."""
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for name in SNIPPETS:
        assert name.removeprefix("# with_").removesuffix(".py") in extras
    modules = {path.stem for path in (ROOT / "s2s_mesh" / "integrations").glob("*_client.py")}
    modules |= {path.stem for path in (ROOT / "s2s_mesh" / "integrations").glob("*_auth.py")}
    text = (ROOT / DOCS).read_text()
    assert {name for name in modules if f"s2s_mesh.integrations.{name} import" in text} == modules
