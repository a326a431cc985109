"""`s2s-mesh trust export`: what is written, what is refused, and with which exit code."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from .command_line import Terminal, make_terminal
from .tokens import EDGE, WALLETS

TRUST = f"""version = 1
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read"]
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}"
methods = ["GET"]
scopes = ["cards:read"]
"""
BEGINS = {"envoy": "# Envoy", "istio": "# Istio", "nginx": "# nginx", "jose": "// A module"}


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = make_terminal(tmp_path, monkeypatch)
    made.environment.clear()
    Path("trust.toml").write_text(TRUST)
    return made


@pytest.mark.parametrize("target", BEGINS)
def test_printed_or_written(terminal: Terminal, target: str) -> None:
    """Printed, or put in the place of a file; the head names the digest of the trust file's bytes."""
    command = ("trust", "export", target, "--audience", WALLETS, "--file", "trust.toml")
    printed = terminal.call(*command)
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout.startswith(BEGINS[target])
    assert f"trust.toml (sha256 {sha256(TRUST.encode()).hexdigest()})" in printed.stdout
    written = terminal.call(*command, "--out", "made")
    assert (written.exit_code, written.stdout) == (
        0,
        f"wrote made for {target}: callers 1, route rules 1\n",
    )
    assert Path("made").read_text() == printed.stdout


def test_as_the_environment_says(terminal: Terminal) -> None:
    """Audience and file are those of the service, where nothing else is said."""
    terminal.environment |= {"S2S_MESH_ISSUER": WALLETS, "S2S_MESH_TRUST_FILE": "trust.toml"}
    assert f"for {WALLETS}" in terminal.call("trust", "export", "jose").stdout


def test_what_cannot_be_enforced(terminal: Terminal) -> None:
    """Each row is named, nothing is written, and the exit code is 1."""
    Path("trust.toml").write_text(TRUST + 'proof = "wpt"\nreplay = "once"\n')
    command = ("trust", "export", "envoy", "--audience", WALLETS, "--file", "trust.toml", "--out", "made")
    result = terminal.call(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    proof, once, end = result.stderr.splitlines()
    assert proof.startswith('envoy cannot enforce [[route]] GET /wallets/{wallet_id}: proof = "wpt"')
    assert once.startswith('envoy cannot enforce [[route]] GET /wallets/{wallet_id}: replay = "once"')
    assert end == "nothing is written"
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("envoy", "--audience", EDGE, "--file", "trust.toml"),
            "names the audience https://edge.example.com",
        ),
        (("envoy", "--audience", WALLETS, "--file", "none.toml"), "none.toml cannot be read"),
        (("envoy", "--audience", WALLETS, "--file", "bad.toml"), "version: found the integer 2"),
        (("envoy", "--file", "trust.toml"), "--audience"),
        (("linkerd", "--audience", WALLETS, "--file", "trust.toml"), "linkerd"),
        (
            ("jose", "--audience", WALLETS, "--file", "trust.toml", "--selector", "a=b"),
            "--selector is for istio",
        ),
        *(
            (("istio", "--audience", WALLETS, "--file", "trust.toml", "--selector", label), "LABEL=VALUE")
            for label in (
                *("wallets", "=wallets", "app=", "app=a=b", "app= a", "app =a", "app=a,b", "app=*", "-a=b"),
                *("app=a-", "app=é", "a/b/c=d", "A/b=c", "/a=b", "app=a\n", f"app={'a' * 64}"),
            )
        ),
        (("istio", "--audience", WALLETS, "--file", "trust.toml", "--out", "no/where"), "cannot be written"),
    ],
)
def test_what_is_a_mistake(terminal: Terminal, options: tuple[str, ...], says: str) -> None:
    """Exit code 2, and what it is."""
    Path("bad.toml").write_text("version = 2\n")
    result = terminal.call("trust", "export", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_two_values_for_a_label(terminal: Terminal) -> None:
    """No workload has both, and one of them would not be what was meant."""
    options = ("--audience", WALLETS, "--file", "trust.toml", "--selector", "app=a", "--selector", "app=b")
    result = terminal.call("trust", "export", "istio", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "each label once" in result.stderr


def test_the_labels_of_a_workload(terminal: Terminal) -> None:
    """They are in each of Istio's resources."""
    options = (
        "--audience",
        WALLETS,
        "--file",
        "trust.toml",
        "--selector",
        "app=wallets",
        "--selector",
        "x.example.com/b_C=d.E",
    )
    made = terminal.call("trust", "export", "istio", *options).stdout
    for one in yaml.safe_load_all(made):
        assert one["spec"]["selector"] == {"matchLabels": {"app": "wallets", "x.example.com/b_C": "d.E"}}
