"""What docs/asap.md shows is what the program does, with `atlassian-jwt-auth` at the other end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from atlassian_jwt_auth.frameworks.common.backend import Backend

from s2s_mesh import Service
from s2s_mesh.trust import TrustConfig

from .command_line import make_terminal
from .docs_snippets import ROOT, commands, snippets
from .interop.asap import KEYS, Authority, forget_session, on_werkzeug, receiver
from .programs import http_server
from .servers import free_port
from .tokens import EDGE, LEDGER

DOCS = "docs/asap.md"
HERE, WALLETS = "https://edge.example.com", "https://wallets.example.com"


def test_the_trust_files() -> None:
    """The first vouches for ledger, the second lets it sign for itself as well; no warning, no relaxation."""
    caller, moved = snippets(DOCS, "toml")
    config = TrustConfig.parse(caller)
    assert config.warnings == ()
    entry = config.foreign_issuers["team/ledger"]
    assert (entry.profile, dict(entry.audiences)) == ("asap", {"team/edge": EDGE})
    assert LEDGER not in config.issuers
    both = TrustConfig.parse(caller + moved)
    assert both.warnings == ()
    assert LEDGER in both.issuers
    last = re.sub(r"\[foreign_issuers.*?(?=\[\[allow)", "", caller, flags=re.DOTALL)
    assert TrustConfig.parse(last).warnings == ()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them runs as printed, with the environment of the page."""
    terminal = make_terminal(tmp_path, monkeypatch)
    (variables,) = snippets(DOCS, "text")
    terminal.seal()
    for line in variables.splitlines():
        name, _, value = line.partition("=")
        terminal.environment[name] = value
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/trust.toml").write_text(snippets(DOCS, "toml")[0])
    lines = [line.removeprefix("s2s-mesh ") for line in commands(DOCS)]
    assert len(lines) == 3
    for line in lines:
        result = terminal.call(*line.split())
        assert result.exit_code == 0, (line, result.output)
    assert len(list((tmp_path / "key-server/team/edge").iterdir())) == 2


def test_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their receiver, configured as shown, lets our service in, called as shown."""
    configured, code = snippets(DOCS, "python")
    authority, port = Authority(tmp_path), free_port()
    service = Service(
        issuer=HERE,
        trust=TrustConfig.parse("version = 1"),
        key_store="memory://",
        asap_issuer="team/edge",
    )
    monkeypatch.setattr(Service, "from_env", lambda: service)
    app = receiver("https://nobody.example.com/", authority.retriever())
    assert KEYS in configured
    exec(compile(configured.replace(HERE, f"https://localhost:{port}"), DOCS, "exec"), {"app": app})

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("only our own documents are asked for")

    with service, http_server(service.wrap(nothing), port, **authority.server), on_werkzeug(app) as url:
        exec(compile(code.replace(WALLETS, url), DOCS, "exec"), {})
        forget_session()
    assert capsys.readouterr().out == "200\n"


def test_every_setting_of_theirs_has_its_row() -> None:
    """None is left out, and none is invented."""
    text = (ROOT / DOCS).read_text(encoding="utf-8")
    assert set(re.findall(r"`(ASAP_[A-Z_]+)", text)) == set(Backend.default_settings)
