"""docs/export.md: its commands are run, its module serves, its table is what the exporters refuse."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from s2s_mesh import export_envoy, export_istio, export_jose, export_nginx
from s2s_mesh.export_plan import Feature

from .docs_snippets import fences, snippets
from .exporting import signer
from .interop.node import node, node_modules
from .jwks_servers import JWKSServer
from .programs import ROOT, environment
from .servers import free_port, wait_until
from .tokens import EDGE, WALLETS, claims, header, sign

DOCS = "docs/export.md"
TEXT = (ROOT / DOCS).read_text(encoding="utf-8")
TRUST = f"""version = 1
[defaults]
allow_loopback_http = true
[issuers."{EDGE}"]
jwks_uri = "KEYS"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read"]
[issuers."https://ledger.example.com"]
jwks_uri = "http://127.0.0.1:9/ledger.json"
[[allow]]
issuer = "https://ledger.example.com"
audience = "{WALLETS}"
scopes = ["cards:write"]
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}"
methods = ["GET"]
scopes = ["cards:read"]
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["PUT"]
scopes = ["cards:write"]
"""
ROWS = {
    '`proof = "wpt"`': Feature.PROOF,
    '`proof = "mtls"`': Feature.OTHER_PROOF,
    '`replay = "once"`': Feature.ONCE,
    '`user` other than `"none"`': Feature.USER,
    "`may_act_for`": Feature.MAY_ACT_FOR,
    "`[[txn]]`": Feature.TXN,
    "`[[legacy]]`": Feature.LEGACY,
    "`[foreign_issuers]`": Feature.FOREIGN,
    "`algorithms` with Ed25519": Feature.ED25519,
    "`algorithms` other than the defaults": Feature.ALGORITHMS,
    "`eddsa`": Feature.EDDSA,
    "`typ` other than `at+jwt`": Feature.TYP,
    "`max_token_life` other than 15 m": Feature.LIFE,
    "`leeway` other than 30 s": Feature.LEEWAY,
    "`jwks_file`, an absolute name": Feature.JWKS_FILE,
    "`jwks_file`, a relative name": Feature.RELATIVE_JWKS_FILE,
    "`ca_file`, an absolute name": Feature.CA_FILE,
    "`ca_file`, a relative name": Feature.RELATIVE_CA_FILE,
    "`discovery`": Feature.DISCOVERY,
    "`jwks_origins`": Feature.JWKS_ORIGINS,
    "a path with other characters than ASCII letters, digits, `-._~!$&'()+,:@`": Feature.PATH,
    "a member that came after this page": Feature.OTHER,
}
CAN = {
    "envoy": export_envoy.CAN,
    "istio": export_istio.CAN,
    "nginx": export_nginx.CAN,
    "jose": export_jose.CAN,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a trust file is, and `s2s-mesh`."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "trust.toml").write_text(TRUST)
    program = tmp_path / "bin" / "s2s-mesh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m s2s_mesh "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(folder: Path, command: str) -> str:
    """What a command prints, on both ways out."""
    bash = ["bash", "-c", f'PATH="{folder}/bin:$PATH"; {command}']
    variables = environment()
    done = subprocess.run(
        bash, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def test_the_commands(folder: Path) -> None:
    """Each prints what is shown."""
    (folder / "trust" / "trust.toml").write_text(TRUST.replace("KEYS", f"{EDGE}/keys.json"))
    for text in [fence.text for fence in fences(DOCS) if fence.language == "console"]:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            assert run(folder, command) == shown, command


def test_the_table() -> None:
    """It has a row for all that not everybody can do, and says of each who can."""
    table = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    head, *rows = table
    assert head[1:] == list(CAN)
    assert rows[0][1:] == ["yes"] * 4
    assert {row[0]: row[1:] for row in rows[1:]} == {
        name: ["yes" if feature in can else "no" for can in CAN.values()] for name, feature in ROWS.items()
    }
    assert set(ROWS.values()) == set(Feature)


def test_the_module(folder: Path) -> None:
    """The server as printed greets a caller, and refuses others with nothing but the status."""
    (server,) = snippets(DOCS, "js")
    port = free_port()
    with JWKSServer(time.time) as keys:
        url = keys.endpoint("edge.json", signer(EDGE)).url
        (folder / "trust" / "trust.toml").write_text(TRUST.replace("KEYS", url))
        run(folder, f"s2s-mesh trust export jose --audience {WALLETS} --out trust.mjs")
        (folder / "server.mjs").write_text(server)
        (folder / "node_modules").symlink_to(node_modules())
        variables = {**environment(), "PORT": str(port)}
        with subprocess.Popen(
            [node(), "server.mjs"], cwd=folder, env=variables, stderr=subprocess.PIPE
        ) as process:
            try:
                base = f"http://127.0.0.1:{port}"
                wait_until(lambda: _answers(base), what="the server")
                now = int(time.time())
                token = sign(header(signer(EDGE)), claims(iat=now, exp=now + 600), signer(EDGE)).decode()
                bearer = {"authorization": f"Bearer {token}"}
                greeted = httpx.get(f"{base}/wallets/42", headers=bearer)
                assert (greeted.status_code, greeted.text) == (200, f"hello, {EDGE}: cards:read")
                refused = httpx.put(f"{base}/wallets/42/card", headers=bearer)
                assert (refused.status_code, refused.text) == (403, "")
                # nobody is there who could have ledger's keys
                foreign = {"iss": "https://ledger.example.com"}
                names = {**foreign, "sub": foreign["iss"], "client_id": foreign["iss"]}
                away = sign(
                    header(signer(EDGE)), claims(iat=now, exp=now + 600, **names), signer(EDGE)
                ).decode()
                asked = httpx.get(
                    f"{base}/wallets/42", headers={"authorization": f"Bearer {away}"}, timeout=20
                )
                assert (asked.status_code, asked.text) == (503, "")
            finally:
                process.terminate()


def _answers(base: str) -> bool:
    try:
        return httpx.get(base).status_code == 401
    except httpx.TransportError:
        return False
