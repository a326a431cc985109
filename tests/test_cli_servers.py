"""`s2s-mesh whoami` and `s2s-mesh serve`: real servers, one ready line, a clean end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.jws import decode
from s2s_mesh.store import generate_key_encryption_key

from .command_line import ISSUER, OTHER, PATIENCE, Server, Terminal, make_terminal
from .servers import RedisServer, wait_until

INTRUDER = "http://127.0.0.1:8103"
NOBODY = TrustConfig(issuers={}, pairs={}, allow_loopback_http=True)
JWKS = "/.well-known/jwks.json"
BUNDLE = "/.well-known/spiffe-bundle.json"
PAIR = f"""
[issuers."{OTHER}"]
jwks_file = "other.jwks.json"
[[allow]]
issuer = "{OTHER}"
audience = "{ISSUER}"
scopes = ["cards:write", "cards:read"]
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def service(issuer: str) -> Service:
    """A service that has keys and serves nothing."""
    return Service(issuer=issuer, trust=NOBODY, key_store="memory://")


@pytest.fixture(scope="module")
def caller() -> Iterator[Service]:
    """The one service that `whoami` lets in."""
    with service(OTHER) as other:
        yield other


@pytest.fixture(scope="module")
def whoami(tmp_path_factory: pytest.TempPathFactory, caller: Service) -> Iterator[Server]:
    """A running `whoami`."""
    terminal = Terminal(tmp_path_factory.mktemp("whoami"))
    ring = caller.running().load_ring()
    terminal.trust(PAIR).with_name("other.jwks.json").write_bytes(ring.jwks(time.time()).to_bytes())
    with terminal.server("whoami") as server:
        yield server


def bearer(token: str) -> dict[str, str]:
    """The header field that carries a token."""
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("PUT", "/wallets/42/card?x=1"), ("FROB", "/a/%20/b/"), ("OPTIONS", "/x")],
)
def test_whoami(whoami: Server, caller: Service, method: str, path: str) -> None:
    """Every path and method is answered with who the caller is."""
    token = caller.token(ISSUER)
    answer = httpx.request(method, whoami.url + path, headers=bearer(token), content=b"body")
    assert answer.status_code == 200, whoami.errors
    facts = answer.json()
    assert 0 < facts.pop("expires_in") <= 120
    assert facts == {
        "caller": OTHER,
        "subject": OTHER,
        "audience": ISSUER,
        "scopes": ["cards:read", "cards:write"],
        "user": None,
        "kid": decode(token.encode()).header.kid,
    }


def test_whoami_head(whoami: Server, caller: Service) -> None:
    """HEAD has the same header and no body."""
    answer = httpx.head(whoami.url, headers=bearer(caller.token(ISSUER)))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"


def test_whoami_refuses(whoami: Server) -> None:
    """Who is not listed gets a 401 that says nothing; the reason is in the log."""
    answer = httpx.get(f"{whoami.url}/card", headers=bearer(service(INTRUDER).token(ISSUER)))
    assert answer.status_code == 401
    assert "unknown_issuer" not in answer.text
    whoami.wait_for_error("refused GET /card: unknown_issuer")


def test_whoami_without_a_token(whoami: Server) -> None:
    """Who brings no token is refused and logged too."""
    assert httpx.post(whoami.url).status_code == 401
    whoami.wait_for_error("refused POST /: no_credential")


def test_whoami_publishes_its_keys(whoami: Server, caller: Service) -> None:
    """Its own documents are open to everybody, whatever comes along."""
    document = httpx.get(whoami.url + JWKS, headers=bearer("nonsense"))
    assert document.status_code == 200
    assert len(document.json()["keys"]) == 2
    assert httpx.get(f"{whoami.url}/.well-known/openid-configuration").json()["issuer"] == ISSUER


def _can_listen(host: str) -> bool:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "number"),
    [
        ("127.0.0.1", signal.SIGTERM),
        pytest.param(
            "::1", signal.SIGINT, marks=pytest.mark.skipif(not _can_listen("::1"), reason="needs IPv6")
        ),
    ],
)
def test_life_of_a_server(terminal: Terminal, host: str, number: signal.Signals) -> None:
    """It says where it listens, and nothing else, and ends with 0 when asked to, without a complaint."""
    with terminal.server("serve", "--host", host) as server:
        assert re.fullmatch(rf"http://\[?{host}\]?:[1-9][0-9]+ ready\n", server.ready_line), server.errors
        with httpx.Client(base_url=server.url) as client:  # a connection that is open at the end
            printed = terminal.call("jwks").stdout_bytes
            assert client.get(JWKS).content + b"\n" == printed
            assert client.get("/").status_code == 404
            assert client.get(f"{JWKS}/").status_code == 404
            assert client.head("/.well-known/oauth-authorization-server").status_code == 200
            assert server.end(number) == (0, "")
    assert "Traceback" not in server.errors
    assert "ERROR" not in server.errors


def test_issuer_with_a_path(terminal: Terminal) -> None:
    """An issuer with a path is served on it, and where a proxy cuts it off; a SPIFFE bundle too."""
    terminal.environment["S2S_MESH_ISSUER"] = f"{ISSUER}/pay"
    terminal.environment["S2S_MESH_SPIFFE_ID"] = "spiffe://pay.example.com/pay"
    with terminal.server("serve") as server:
        for path in (f"/pay{JWKS}", JWKS, "/.well-known/oauth-authorization-server/pay", f"/pay{BUNDLE}"):
            assert httpx.get(server.url + path).status_code == 200
        assert httpx.get(f"{server.url}/other{JWKS}").status_code == 404


def test_redis_comes_later(terminal: Terminal) -> None:
    """Without its Redis a server starts, answers 503 with Retry-After, and turns ready by itself."""
    redis = RedisServer()
    terminal.environment |= {"S2S_MESH_KEY_STORE": redis.url, "S2S_MESH_ROTATION": "fast-for-tests"}
    with terminal.server("serve") as server:
        answer = httpx.get(server.url + JWKS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "unreachable" in server.errors
        with redis:
            wait_until(lambda: httpx.get(server.url + JWKS).status_code == 200, timeout=PATIENCE)
            printed = json.loads(terminal.call("jwks").stdout)
            assert printed["keys"]


def test_wrong_key_encryption_key(terminal: Terminal) -> None:
    """A mistake that no waiting mends ends a server before it is ready."""
    terminal.seal()
    terminal.create_ring()
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = generate_key_encryption_key()
    done = terminal.run("serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: wrong_key_encryption_key: ")


def test_port_in_use(terminal: Terminal) -> None:
    """An address that cannot be listened on is exit code 2, naming the options."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = terminal.run("serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: cannot listen on 127.0.0.1 port {port} (--host, --port): ")
