"""What docs/migration.md shows is what the program does: its rows, commands and client are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.errors import Reason
from s2s_mesh.trust_legacy import end_warnings

from .command_line import make_terminal
from .docs_snippets import commands, snippets
from .migrating import HASHER, KEY, PASSWORD
from .programs import ROOT, http_server
from .servers import free_port
from .tokens import NOW

DOCS = "docs/migration.md"
WALLETS, LEDGER = "https://wallets.example.com", "https://ledger.example.com"


def test_the_rows_are_good() -> None:
    """As printed, without a warning, in the stages that the text says."""
    (text,) = snippets(DOCS, "toml")
    trust = TrustConfig.parse("version = 1\n" + text)
    assert trust.warnings == ()
    assert [(rule.way, rule.stage) for rule in trust.legacy] == [("api_key", "observe"), ("basic", "prefer")]
    assert end_warnings(trust.legacy, NOW) == []
    defaults = re.sub(r'^(token_)?header = ".*\n', "", text, flags=re.MULTILINE)
    assert defaults != text
    assert TrustConfig.parse("version = 1\n" + defaults).legacy == trust.legacy


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them runs as printed, with the files that it names."""
    terminal = make_terminal(tmp_path, monkeypatch)
    terminal.trust("[[allow]]\n" + 'issuer = "https://a.example.com"\naudience = "https://b.example.com"\n')
    files = {"edge-key.txt": KEY, "ledger-password.txt": PASSWORD}
    lines = [line.removeprefix("s2s-mesh ") for line in commands(DOCS)]
    assert len(lines) == 4
    for line in lines:
        command, _, file = line.partition(" < ")
        result = terminal.call(*command.split(), stdin=files[file] if file else "")
        assert result.exit_code == 0, (line, result.output)


def test_the_client_that_sends_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Basic and a token in one request, through a real server; at observe it passes, and both are counted."""
    (code,) = snippets(DOCS, "python")
    (rows,) = snippets(DOCS, "toml")
    own, wallets = (f"http://127.0.0.1:{free_port()}" for _ in range(2))

    def local(text: str) -> str:
        return text.replace(WALLETS, wallets).replace(LEDGER, own)

    rows = re.sub(r"until = .*", "until = 2099-12-31", rows)
    rows = re.sub(r'password_argon2 = ".*?"', f'password_argon2 = "{HASHER.hash("...")}"', rows)
    trust = tmp_path / "trust.toml"
    trust.write_text(f"version = 1\n[defaults]\nallow_loopback_http = true\n{local(rows)}")
    receiver = Service(issuer=wallets, trust=trust, key_store=None)
    caller = Service(issuer=own, trust=trust, key_store="memory://")
    monkeypatch.setattr(Service, "from_env", lambda: caller)

    async def app(scope: object, receive: object, send: object) -> None:
        from starlette.requests import Request
        from starlette.responses import JSONResponse

        user = Request(scope).user  # type: ignore[arg-type]
        await JSONResponse({"caller": user.issuer})(scope, receive, send)  # type: ignore[arg-type]

    async def nothing(scope: object, receive: object, send: object) -> None:
        raise AssertionError("only the documents of the caller are asked for")

    with (
        http_server(caller.wrap(nothing), int(own.rpartition(":")[2])),
        http_server(receiver.wrap(app), int(wallets.rpartition(":")[2])),
        receiver,
        caller,
    ):
        exec(compile(local(code), DOCS, "exec"), {})
        migration = receiver.running().migration
        migration.keep(at_once=True)
        ways = {who.way for who in migration.pending.by_who}
    assert capsys.readouterr().out == "200\n"
    assert ways == {"token", "basic"}


def test_every_reason_in_the_tables_exists() -> None:
    """And none of those about old credentials is missing from the page."""
    text = (ROOT / DOCS).read_text()
    named = set(re.findall(r"`(legacy_[a-z_]+|several_credentials)`", text))
    about = {reason.value for reason in Reason if reason.value.startswith("legacy_")}
    assert named == about | {Reason.SEVERAL_CREDENTIALS.value}
