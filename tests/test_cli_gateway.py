"""`s2s-mesh gateway` as a program: what it prints, where it listens, how it ends, and whom it serves."""

from __future__ import annotations

import signal
import socket
import stat
import sys
from pathlib import Path

import httpx
import pytest

from s2s_mesh.forward_auth import FRONTS
from s2s_mesh.wellknown import JWKS

from .command_line import ISSUER, OTHER, PATIENCE, Terminal, make_terminal
from .fronts import node_app
from .servers import free_port, missing, wait_until

MARK = {"S2S-Mesh-Request": "true"}


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = make_terminal(tmp_path, monkeypatch)
    # tokens at once, instead of after the first key has been published for half a minute
    made.environment["S2S_MESH_ROTATION"] = "fast-for-tests"
    return made


def test_help_names_the_fronts(terminal: Terminal) -> None:
    """Every front that there is."""
    assert f"--front {'|'.join(FRONTS)}" in terminal.call("gateway", "--help").stdout


def test_life_of_a_gateway(terminal: Terminal) -> None:
    """It says where it listens, publishes, decides, and ends with 0 when asked to, without a complaint."""
    terminal.trust("")
    with terminal.server("gateway", "--front", "envoy", "--public", "/open") as server:
        assert server.ready_line == f"{server.url} ready\n"
        with httpx.Client(base_url=server.url) as client:
            assert client.get(JWKS).status_code == 200
            assert client.get("/healthz").text == "alive\n"
            wait_until(lambda: client.get("/readyz").status_code == 200, timeout=PATIENCE)
            assert client.get("/verify/open").status_code == 200
            assert client.get("/verify/else").status_code == 401
            # tokens are never handed out where the front asks
            assert client.get(f"/token?audience={OTHER}", headers=MARK).status_code == 404
            assert server.end(signal.SIGTERM) == (0, "")
    assert "Traceback" not in server.errors


def test_metrics_on_request(terminal: Terminal) -> None:
    """With the option, whoever reaches the gateway can scrape it."""
    terminal.trust("")
    with terminal.server("gateway", "--front", "envoy", "--metrics") as server:
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/verify/else").status_code == 401
            shown = client.get("/metrics").text
        refused = 's2s_mesh_verifications_total{cached="false",issuer="unknown",reason="no_credential"} 1.0'
        assert refused in shown.splitlines()
        assert server.end(signal.SIGTERM) == (0, "")


def test_metrics_need_their_package(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, what to install is said at once."""
    terminal.trust("")
    monkeypatch.delitem(sys.modules, "s2s_mesh.integrations.prometheus", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    result = terminal.call("gateway", "--front", "nginx", "--metrics")
    assert result.exit_code == 2
    assert "pip install 's2s-mesh[prometheus]'" in result.stderr


def test_tokens_on_loopback(terminal: Terminal) -> None:
    """A listener of its own hands out tokens, and knows nothing else; one line more says where."""
    terminal.trust("")
    options = ("gateway", "--front", "nginx", "--token-listen", "127.0.0.1:0")
    with terminal.server(*options) as server:
        assert server.process.stdout is not None
        url = server.process.stdout.readline().removesuffix(" ready\n")
        assert url.startswith("http://127.0.0.1:")
        answer = httpx.get(f"{url}/token?audience={OTHER}", headers=MARK)
        assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer"), server.errors
        assert httpx.get(f"{url}/token?audience={OTHER}").status_code == 403
        for path in ("/verify", JWKS, "/healthz"):
            assert httpx.get(url + path, headers=MARK).status_code == 404
        assert server.end(signal.SIGINT) == (0, "")


@pytest.mark.parametrize("one_is_left", [False, True])
def test_tokens_on_a_unix_socket(terminal: Terminal, one_is_left: bool) -> None:
    """A socket that owner and group may use, put in the place of one left behind, and removed at the end."""
    terminal.trust("")
    path = terminal.folder / "tokens.sock"
    if one_is_left:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
    with terminal.server("gateway", "--front", "nginx", "--token-listen", f"unix:{path}") as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == f"unix:{path} ready\n", server.errors
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), headers=MARK) as client:
            assert client.get(f"http://localhost/token?audience={OTHER}").status_code == 200
        second = terminal.run("gateway", "--front", "nginx", "--token-listen", f"unix:{path}")
        assert (second.returncode, second.stdout) == (2, "")
        expected = f"Error: --token-listen: cannot listen on unix:{path}: another process listens there\n"
        assert second.stderr == expected
        assert server.end(signal.SIGTERM) == (0, "")
    assert not path.exists()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9001",
        "[::]:9001",
        "10.0.0.1:9001",
        "localhost:9001",
        "tokens.internal:9001",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        ":9001",
        "",
    ],
)
def test_tokens_nowhere_else(terminal: Terminal, address: str) -> None:
    """A listener that another machine could reach, or that a name stands for, is refused."""
    terminal.trust("")
    result = terminal.call("gateway", "--front", "nginx", "--token-listen", address)
    assert result.exit_code == 2
    assert "expected 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, because" in result.stderr


def test_a_file_is_in_the_way(terminal: Terminal) -> None:
    """A file that is no socket is not removed."""
    terminal.trust("")
    path = terminal.folder / "precious"
    path.write_text("text")
    result = terminal.call("gateway", "--front", "nginx", "--token-listen", f"unix:{path}")
    assert (result.exit_code, path.read_text()) == (2, "text")
    assert f"cannot listen on unix:{path}: Address already in use" in result.stderr


def test_mistakes(terminal: Terminal) -> None:
    """A front that is none, and none at all, are exit code 2."""
    terminal.trust("")
    wrong = terminal.call("gateway", "--front", "apache")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "Error: 'apache' is not a front; expected one of nginx, caddy, traefik, envoy\n"
    assert terminal.call("gateway").exit_code == 2


def test_the_application_calls_others(terminal: Terminal, tmp_path: Path) -> None:
    """The Node application calls another service with a token from its gateway; that service knows it."""
    terminal.trust("")
    other = Terminal(tmp_path / "other")
    other.folder.mkdir()
    other.environment |= {"S2S_MESH_ISSUER": OTHER, "S2S_MESH_ROTATION": "fast-for-tests"}
    with terminal.server("gateway", "--front", "nginx", "--token-listen", "127.0.0.1:0") as gateway:
        assert gateway.process.stdout is not None
        tokens = gateway.process.stdout.readline().removesuffix(" ready\n")
        other.trust(
            f'[issuers."{ISSUER}"]\njwks_uri = "{gateway.url}{JWKS}"\n'
            f'[[allow]]\nissuer = "{ISSUER}"\naudience = "{OTHER}"\nscopes = ["read"]\n'
        )
        port = free_port()
        with (
            other.server("whoami") as ledger,
            node_app(tmp_path, port, S2S_MESH_TOKENS=tokens, LEDGER=ledger.url, LEDGER_ID=OTHER),
        ):
            told = httpx.get(f"http://127.0.0.1:{port}/statement", timeout=PATIENCE).json()
            assert (told["ledger"]["caller"], told["ledger"]["scopes"]) == (ISSUER, ["read"]), ledger.errors


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Node the tests that need it are skipped with the reason, and fail where all is required."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("S2S_MESH_TEST_REQUIRE_SERVERS", "0")
    with pytest.raises(pytest.skip.Exception, match="needs Node: "), node_app(tmp_path, 1):
        raise AssertionError("there is no Node")
    monkeypatch.setenv("S2S_MESH_TEST_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="needs nginx"):
        missing("nginx")
