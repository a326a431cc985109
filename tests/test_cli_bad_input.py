"""Bad configuration: a clear paragraph that names the variable, exit code 2, and never a key made over it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from s2s_mesh.store import generate_key_encryption_key

from .command_line import ISSUER, OTHER, Terminal, make_terminal
from .servers import free_port

SECRET = "hunter2"
UNSET = None
COMMANDS = (
    ("keys", "init"),
    ("keys", "show"),
    ("jwks",),
    ("token", "mint", "--audience", OTHER),
    ("serve",),
    ("whoami",),
)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = make_terminal(tmp_path, monkeypatch)
    (tmp_path / "bad.toml").write_text('version = 1\n[[allow]]\nissuer = "https://a.example.com/"\n')
    return terminal


def refusal(terminal: Terminal, *arguments: str) -> str:
    """Run a command that must end with exit code 2 without touching the store; its error."""
    result = terminal.call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert SECRET not in result.stderr
    assert not (terminal.folder / "keys").exists()
    return result.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ISSUER", UNSET, "S2S_MESH_ISSUER is not set"),
        ("ISSUER", " ", "S2S_MESH_ISSUER is not set"),
        ("ISSUER", "wallets", "(S2S_MESH_ISSUER): 'wallets' is not a service id"),
        ("ISSUER", "https://wallets.example.com/", "(S2S_MESH_ISSUER): "),
        ("ISSUER", "http://wallets.example.com", "the scheme must be https"),
        ("ISSUER", "https://wallets@example.com", "user info is not allowed"),
        ("ISSUER", "https://wallets.example.com", "set S2S_MESH_KEY_ENCRYPTION_KEY"),
        ("TRUST_FILE", "nothing.toml", "trust file nothing.toml does not exist"),
        ("TRUST_FILE", ".", "(S2S_MESH_TRUST_FILE names the file to use)"),
        ("TRUST_FILE", "bad.toml", "bad.toml: allow[0].issuer (row at line 2): "),
        ("KEY_STORE", UNSET, "neither S2S_MESH_KEY_STORE nor REDIS_URL is set"),
        ("KEY_STORE", f"postgres://user:{SECRET}@host", "(S2S_MESH_KEY_STORE, else REDIS_URL): "),
        ("KEY_STORE", f"user:{SECRET}@host", "the key store URL has no scheme"),
        ("KEY_STORE", f"redis://user:{SECRET}/@host", "(S2S_MESH_KEY_STORE, else REDIS_URL): "),
        ("KEY_STORE", "file://keys", "expected three slashes and an absolute path"),
        ("KEY_ENCRYPTION_KEY", SECRET, "(S2S_MESH_KEY_ENCRYPTION_KEY): key-encryption key number 1 of 1"),
        ("KEY_ENCRYPTION_KEY", f"{'A' * 43},{SECRET}", "key-encryption key number 2 of 2"),
        ("ALGORITHM", "HS256", "(S2S_MESH_ALGORITHM): 'HS256' is not offered"),
        ("AUDIENCES", "https://a.example.com,b", "(S2S_MESH_AUDIENCES): 'b' is not a service id"),
        ("ROTATION", "daily", "S2S_MESH_ROTATION is 'daily'; expected one of default, "),
    ],
)
def test_bad_variable(terminal: Terminal, name: str, value: str | None, words: str) -> None:
    """Each bad value is refused in one line that says which variable holds it; secrets are not repeated."""
    terminal.environment[f"S2S_MESH_{name}"] = value or ""
    message = refusal(terminal, "keys", "init")
    assert words in message
    if value != "bad.toml":
        assert message.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command(terminal: Terminal, command: tuple[str, ...]) -> None:
    """Every command that needs the service's configuration refuses a bad one."""
    del terminal.environment["S2S_MESH_ISSUER"]
    assert "S2S_MESH_ISSUER is not set" in refusal(terminal, *command)


@pytest.mark.parametrize("command", COMMANDS)
def test_trust_file_that_is_named(terminal: Terminal, command: tuple[str, ...]) -> None:
    """A trust file that is named has to be there, even for commands that could do without."""
    terminal.environment["S2S_MESH_TRUST_FILE"] = "nothing.toml"
    assert "nothing.toml does not exist" in refusal(terminal, *command)


@pytest.mark.parametrize("command", COMMANDS)
def test_default_trust_file_that_is_bad(terminal: Terminal, command: tuple[str, ...]) -> None:
    """A trust file in the usual place has to be good."""
    terminal.trust("frob = 1\n")
    assert "trust/trust.toml: " in refusal(terminal, *command)


def test_no_trust_file(terminal: Terminal) -> None:
    """`whoami` lets callers in by a trust file, so it needs one."""
    assert "trust file trust/trust.toml does not exist" in refusal(terminal, "whoami")


def test_memory_store_of_an_https_issuer(terminal: Terminal) -> None:
    """A ring in memory is refused where several processes could be one issuer."""
    terminal.seal()
    terminal.environment["S2S_MESH_KEY_STORE"] = "memory://"
    assert "S2S_MESH_ALLOW_MEMORY_STORE=1" in refusal(terminal, "serve")


def test_program_says_the_same(terminal: Terminal) -> None:
    """The real program ends with the same code and the same words."""
    terminal.environment["S2S_MESH_ISSUER"] = "wallets"
    done = terminal.run("keys", "init")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == refusal(terminal, "keys", "init")


@pytest.mark.parametrize("command", COMMANDS[:4])
def test_wrong_key_encryption_key(terminal: Terminal, command: tuple[str, ...]) -> None:
    """A ring that cannot be opened is an error, and stays as it is."""
    terminal.seal()
    terminal.create_ring()
    (document,) = (terminal.folder / "keys").glob("*.ring")
    before = document.read_bytes()
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = generate_key_encryption_key()
    result = terminal.call(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: wrong_key_encryption_key: ")
    assert "S2S_MESH_KEY_ENCRYPTION_KEY" in result.stderr
    assert document.read_bytes() == before


@pytest.mark.parametrize("command", COMMANDS[:4])
def test_unreachable_redis(terminal: Terminal, command: tuple[str, ...]) -> None:
    """A Redis that is not there is exit code 2 within seconds; the password is not shown."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"redis://user:{SECRET}@127.0.0.1:{free_port()}"
    start = time.monotonic()
    assert refusal(terminal, *command).startswith("Error: unreachable: the key store at redis://127.0.0.1:")
    assert time.monotonic() - start < 10


def test_store_of_somebody_else(terminal: Terminal) -> None:
    """A directory that others may write is refused before anything is stored in it."""
    folder = terminal.folder / "keys"
    folder.mkdir()
    folder.chmod(0o777)
    result = terminal.call("keys", "init")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: permissions: ")
    assert list(folder.iterdir()) == []
    assert ISSUER not in result.stdout
