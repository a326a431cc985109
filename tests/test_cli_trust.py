"""`s2s-mesh trust check`: the answer is yes, no, or that there is nothing to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import token_hash

from .carrying import LOGIN, carrying
from .command_line import ROOT, Terminal, make_terminal
from .identity_provider import idp_key, user_token
from .tokens import EDGE, NOW, WALLETS, frozen, good, key

BAD = """\
version = 1
[[allow]]
issuer = "https://edge.example.com"
audiance = "https://wallets.example.com"
[[allow]]
issuer = "https://*.example.com"
audience = "https://wallets.example.com"
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def test_good(terminal: Terminal) -> None:
    """A good file is exit code 0, with the number of pairs; no environment is needed."""
    terminal.environment.clear()
    path = ROOT / "trust" / "trust.toml"
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"{path} is good: 5 pairs, 9 route rules\n"


def test_warnings(terminal: Terminal) -> None:
    """What looks like a mistake is a warning, and the file is good."""
    path = terminal.trust('[[allow]]\nissuer = "https://a.example.com"\naudience = "https://b.example.com"\n')
    with path.open("a") as file:
        file.write(
            '[[route]]\naudience = "https://b.example.com"\npath = "/x"\nmethods = ["GET"]\nscopes = ["s"]'
        )
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 0
    warning, verdict = result.stdout.splitlines()
    assert warning.startswith(f"warning: {path}: route[0]")
    assert verdict.endswith("is good: 1 pair, 1 route rule")
    answer = json.loads(terminal.call("trust", "check", str(path), "--json").stdout)
    assert answer == {
        "file": str(path),
        "good": True,
        "pairs": 1,
        "routes": 1,
        "problems": [],
        "warnings": [warning.removeprefix("warning: ")],
        "relaxations": [],
    }


def test_what_is_relaxed_is_listed(terminal: Terminal) -> None:
    """Each member that lets more of an issuer's tokens pass has a line, and the file is good."""
    path = terminal.trust(
        '[issuers."https://a.example.com"]\ntyp = ["JWT"]\n'
        '[[allow]]\nissuer = "https://a.example.com"\naudience = "https://b.example.com"\n'
    )
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 0
    line = f'{path}: issuers."https://a.example.com".typ: tokens of type jwt are accepted'
    assert f"relaxed: {line}" in result.stdout.splitlines()
    answer = json.loads(terminal.call("trust", "check", str(path), "--json").stdout)
    assert answer["relaxations"] == [line.removeprefix(f"{path}: ")]


def test_refused(terminal: Terminal) -> None:
    """A bad file is exit code 1, with every mistake, and what was meant."""
    Path("bad.toml").write_text(BAD)
    result = terminal.call("trust", "check", "bad.toml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bad.toml: allow[0].audiance (row at line 2): found an unknown member" in result.stderr
    assert "did you mean `audience`?" in result.stderr
    assert "wildcards do not exist" in result.stderr
    assert result.stderr.endswith("bad.toml is refused\n")
    as_json = terminal.call("trust", "check", "bad.toml", "--json")
    assert as_json.exit_code == 1
    answer = json.loads(as_json.stdout)
    assert answer["good"] is False
    assert "\n".join(answer["problems"]) in result.stderr


def test_file_that_everybody_may_write(terminal: Terminal) -> None:
    """What a service would refuse to use is refused."""
    path = terminal.trust("")
    path.chmod(0o666)
    result = terminal.call("trust", "check", str(path))
    assert result.exit_code == 1
    assert "chmod o-w" in result.stderr


@pytest.mark.parametrize(("name", "problem"), [("nothing.toml", "does not exist"), (".", "is a directory")])
def test_nothing_to_look_at(terminal: Terminal, name: str, problem: str) -> None:
    """A file that is not there, or is none, is exit code 2."""
    result = terminal.call("trust", "check", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(terminal: Terminal) -> None:
    """A file that may not be read is exit code 2."""
    path = terminal.trust("")
    path.chmod(0)
    assert terminal.call("trust", "check", str(path)).exit_code == 2


ADMITTED = "admitted, with the scopes cards:read, unless `s2s-mesh deny list` names it"
EXPLAINED = f"""
[issuers."{EDGE}"]
jwks_file = "edge.jwks.json"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read"]
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["GET"]
scopes = ["cards:read"]
"""


PROVEN = f"""may_act_for = ["{LOGIN}"]
[[route]]
audience = "{WALLETS}"
path = "/card"
methods = ["GET"]
user = "proven"
[user_issuers."{LOGIN}"]
audiences = ["{EDGE}"]
jwks_file = "login.jwks.json"
"""


@pytest.fixture
def receiver(terminal: Terminal) -> Terminal:
    """A shell beside a trust file that lets edge call wallets, with edge's keys in a file."""
    path = terminal.trust(EXPLAINED)
    (path.parent / "edge.jwks.json").write_bytes(JWKSet([key().public]).to_bytes())
    terminal.environment = {"S2S_MESH_ISSUER": WALLETS}
    return terminal


def test_explain_an_admitted_call(receiver: Terminal) -> None:
    """Exit code 0, every check ticked, and the scopes that the caller has."""
    with frozen():
        result = receiver.call("trust", "explain", "-", "--path", "/cards", stdin=good())
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == ADMITTED
    assert [line.split()[0] for line in lines[1:-2]] == ["✓"] * 20
    assert f"now {NOW}, leeway 30 s, life 900 s at most" in result.stdout


def test_explain_a_refused_call(receiver: Terminal) -> None:
    """Exit code 1, a cross where it ends, the reason as in the log, and the one thing to change."""
    with frozen(NOW + 600):
        result = receiver.call("trust", "explain", good().decode())
        as_json = json.loads(receiver.call("trust", "explain", good().decode(), "--json").stdout)
    assert result.exit_code == 1
    *steps, _, refused, advice = result.stdout.splitlines()
    (crossed,) = [line for line in steps if line.startswith("✗")]
    assert crossed.split()[1] == "times"
    assert refused == "refused: expired: expired 480 s ago; leeway is 30 s"
    assert advice.startswith("to change: the caller must mint a new token")
    assert (as_json["admitted"], as_json["reason"]) == (False, "expired")
    assert [step["verdict"] for step in as_json["steps"]].count("failed") == 1


def test_explain_the_evidence_of_a_user(receiver: Terminal) -> None:
    """A user's token or a transaction token is looked at with the receiver's own checks, on its route."""
    folder = receiver.trust(EXPLAINED.replace("[[route]]", PROVEN + "[[route]]")).parent
    (folder / "login.jwks.json").write_bytes(JWKSet([idp_key().public]).to_bytes())
    evidence = folder / "user.jwt"
    evidence.write_bytes(user_token(LOGIN) + b"\n")
    bound = carrying(oth={"s2s-user-token": token_hash(user_token(LOGIN))}).decode()
    command = ("trust", "explain", bound, "--path", "/card")
    with frozen():
        missing = receiver.call(*command)
        good_one = receiver.call(*command, "--user-token", str(evidence))
        wrong_kind = receiver.call(*command, "--txn-token", str(evidence))
        evidence.write_bytes(user_token(LOGIN, sub="bob"))
        other = receiver.call(*command, "--user-token", str(evidence))
        nowhere = receiver.call("trust", "explain", bound, "--user-token", str(evidence))
    assert (missing.exit_code, good_one.exit_code) == (1, 0)
    assert "expected one s2s-user-token field; found 0" in missing.stdout
    assert "found 0" in wrong_kind.stdout
    assert "refused: user_unproven: the service token is not bound" in other.stdout
    assert nowhere.exit_code == 2
    assert user_token(LOGIN).decode() not in good_one.output


def test_explain_without_a_token(receiver: Terminal) -> None:
    """What a caller may do, and the row that is missing for one who may not."""
    allowed = receiver.call("trust", "explain", "--issuer", EDGE, "--method", "get", "--path", "/cards")
    assert (allowed.exit_code, allowed.stdout.splitlines()[-1]) == (0, ADMITTED)
    refused = receiver.call("trust", "explain", "--issuer", "https://new.example.com")
    assert refused.exit_code == 1
    assert f'add [[allow]] issuer = "https://new.example.com", audience = "{WALLETS}"' in refused.stdout


def test_explain_where_the_terminal_knows_ascii_only(receiver: Terminal) -> None:
    """Words take the place of ticks."""
    receiver.environment["PYTHONIOENCODING"] = "ascii"
    done = receiver.run("trust", "explain", "--issuer", "https://new.example.com")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith("FAILED  issuer")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--issuer", EDGE, "--receiver", "wallets"], "is not a service id"),
        ([], "give a token"),
        (["-", "--issuer", EDGE], "give a token"),
        (["--issuer", EDGE, "--trust-file", "missing.toml"], "does not exist"),
    ],
)
def test_explain_used_wrongly(receiver: Terminal, arguments: list[str], problem: str) -> None:
    """Exit code 2, and what is missing."""
    result = receiver.call("trust", "explain", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_explain_needs_to_know_who_is_called(receiver: Terminal) -> None:
    """Where the environment does not say so either."""
    receiver.environment.clear()
    result = receiver.call("trust", "explain", "--issuer", EDGE)
    assert result.exit_code == 2
    assert "--receiver" in result.stderr
