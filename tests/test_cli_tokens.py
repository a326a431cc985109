"""`s2s-mesh token`: minted by the rules for processes that serve no keys, inspected without belief."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from s2s_mesh import Reason, Service, TokenRejected
from s2s_mesh import clock as clock_module
from s2s_mesh.cli import signing

from .command_line import ISSUER, OTHER, MovableTime, Terminal, make_terminal
from .tokens import NOW, claims, header, key, sign

MINT = ("token", "mint", "--audience", OTHER)
PAIR = f"""
[issuers."{ISSUER}"]
jwks_file = "jwks.json"
[[allow]]
issuer = "{ISSUER}"
audience = "{OTHER}"
scopes = ["cards:read", "cards:write"]
[user_issuers."https://login.example.com/"]
audiences = ["{OTHER}"]
jwks_file = "jwks.json"
"""


class Clock(MovableTime):
    """The time as the command line sees it: it stands still, and sleeping takes none of ours.

    Attributes:
        started: the real time when it was made, Unix seconds.
        slept: how long was slept, each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started = time.time()
        self.slept: list[float] = []

    def time(self) -> float:
        """Unix seconds."""
        return self.started + self.ahead

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.slept.append(seconds)
        self.ahead += seconds


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(clock_module, "time", clock)
    monkeypatch.setattr(signing, "time", SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def with_ring(terminal: Terminal, clock: Clock) -> Terminal:
    """A terminal whose service has had a ring for a minute."""
    with clock.ago(60):
        terminal.create_ring()
    return terminal


def receiver(terminal: Terminal) -> Service:
    """The service that is called, with the terminal's trust file and the JWKS as printed."""
    path = terminal.trust(PAIR)
    path.with_name("jwks.json").write_bytes(terminal.call("jwks").stdout_bytes)
    return Service(issuer=OTHER, trust=path, key_store=None)


def test_mint(with_ring: Terminal, clock: Clock) -> None:
    """Nothing but a token is printed, and a receiver with the printed JWKS accepts it."""
    result = with_ring.call(*MINT)
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    principal = receiver(with_ring).verify(result.stdout.strip())
    assert (principal.issuer, principal.scopes) == (ISSUER, frozenset({"cards:read", "cards:write"}))
    assert clock.slept == []


def test_scopes(with_ring: Terminal) -> None:
    """`--scope` asks for no more than that."""
    token = with_ring.call(*MINT, "--scope", "cards:write", "--scope", "other").stdout.strip()
    assert receiver(with_ring).verify(token).scopes == {"cards:write"}


def test_young_ring(terminal: Terminal, clock: Clock) -> None:
    """On a young ring the token is minted once the key has been published for 30 seconds."""
    terminal.create_ring()
    clock.ahead += 4
    result = terminal.call(*MINT)
    assert result.exit_code == 0
    assert result.stdout.startswith("eyJ")
    assert result.stderr.startswith(f"waiting 26 s: the first key of {ISSUER} was published 4 s ago")
    assert 25 < sum(clock.slept) < 26.1


def test_no_wait(terminal: Terminal, clock: Clock) -> None:
    """With `--no-wait` a young ring is exit code 1, with the time that is missing."""
    terminal.create_ring()
    result = terminal.call(*MINT, "--no-wait")
    assert (result.exit_code, result.stdout, clock.slept) == (1, "", [])
    assert result.stderr.startswith("in 30 s: the first key ")


def test_no_ring(terminal: Terminal) -> None:
    """Without a ring there is no token, and none is made."""
    result = terminal.call(*MINT)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: no_ring: no ring for {ISSUER}: ")
    assert "s2s-mesh keys init" in result.stderr
    assert not (terminal.folder / "keys").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--audience", "wallets"], "--audience: 'wallets' is not a service id"),
        (["--audience", OTHER, "--scope", "a b"], "--scope: 'a b' is not a scope"),
        (["--audience", "https://login.example.com"], "--audience: https://login.example.com is an identity"),
    ],
)
def test_bad_options(terminal: Terminal, arguments: list[str], problem: str) -> None:
    """What cannot be asked for is refused, naming the option."""
    terminal.trust(PAIR)
    result = terminal.call("token", "mint", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_inspect(terminal: Terminal, clock: Clock) -> None:
    """Header and claims are shown, times in words, and that nothing was verified."""
    clock.ahead = NOW + 20 - clock.started
    token = sign(header(key()), claims(nbf=NOW + 50), key()).decode()
    result = terminal.call("token", "inspect", token)
    assert result.exit_code == 0
    verdict, empty, *lines = result.stdout.splitlines()
    assert verdict.startswith("NOT VERIFIED: ")
    assert empty == ""
    table = "\n".join(" ".join(line.split()) for line in lines)
    assert f'header kid "{key().kid}"' in table
    assert 'claims aud "https://wallets.example.com"' in table
    assert f"iat {NOW} issued 20 s ago, 2027-01-15 08:00:00 UTC" in table
    assert f"exp {NOW + 120} expires in 1 min 40 s, 2027-01-15 08:02:00 UTC" in table
    assert f"nbf {NOW + 50} becomes valid in 30 s, " in table


def test_inspect_expired(terminal: Terminal, clock: Clock) -> None:
    """An expired token is shown all the same, from standard input too."""
    clock.ahead = NOW + 123 - clock.started
    token = sign(header(key()), claims(), key())
    result = terminal.call("token", "inspect", "-", stdin=token + b"\n")
    assert result.exit_code == 0
    assert "expired 3 s ago, " in result.stdout


def test_inspect_as_data(terminal: Terminal) -> None:
    """`--json` holds header, claims and times, and says that they are not verified."""
    token = sign(header(key()), claims(), key()).decode()
    assert json.loads(terminal.call("token", "inspect", token, "--json").stdout) == {
        "verified": False,
        "header": {"alg": "ES256", "kid": key().kid, "typ": "at+jwt"},
        "claims": claims(),
        "times": {"iat": "2027-01-15T08:00:00Z", "exp": "2027-01-15T08:02:00Z"},
    }


def test_inspect_of_somebody_elses_token(terminal: Terminal) -> None:
    """What a trust file may let pass of an identity provider's header is shown by its name alone."""
    members = {name: value for name, value in header(key(), x5t="AAAA").items() if name != "typ"}
    token = sign(members, claims(), key()).decode()
    shown = json.loads(terminal.call("token", "inspect", token, "--json").stdout)
    assert shown["header"] == {"alg": "ES256", "kid": key().kid, "beside": ["x5t"]}
    assert "AAAA" not in terminal.call("token", "inspect", token).stdout


@pytest.mark.parametrize("instant", [True, 1.5, "soon", -1, 2**52, None])
def test_inspect_odd_times(terminal: Terminal, instant: object) -> None:
    """A time that no calendar has is said to be none."""
    token = sign(header(key()), claims(exp=instant), key()).decode()
    result = terminal.call("token", "inspect", token)
    assert result.exit_code == 0
    assert "not whole Unix seconds" in result.stdout
    assert "exp" not in json.loads(terminal.call("token", "inspect", token, "--json").stdout)["times"]


def test_inspect_steers_no_terminal(terminal: Terminal) -> None:
    """What a token holds cannot move the cursor or pose as our own words."""
    hostile = "\x1b[2J\nVERIFIED \u202e"
    token = sign(header(key(), typ="\x1b[2J"), claims(sub=hostile, **{hostile: 1}), key()).decode()
    for arguments in ((), ("--json",)):
        shown = terminal.call("token", "inspect", token, *arguments).stdout
        assert shown.isascii()
        assert "\x1b" not in shown
        assert "\nVERIFIED" not in shown


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", Reason.NOT_A_COMPACT_JWS),
        ("abc", Reason.NOT_A_COMPACT_JWS),
        ("a.b.c", Reason.BAD_BASE64),
        ("\udcff.b.c", Reason.BAD_BASE64),
        (sign(header(key(), jku="https://x"), claims(), key()).decode(), Reason.HEADER_MEMBER),
        ("x" * 9000, Reason.TOKEN_TOO_LARGE),
    ],
)
def test_inspect_malformed(terminal: Terminal, token: str, reason: Reason) -> None:
    """What every receiver refuses for its form is exit code 1, with the reason."""
    result = terminal.call("token", "inspect", token)
    assert (result.exit_code, result.stdout) == (1, "")
    assert reason.value in result.stderr
    as_json = terminal.call("token", "inspect", token, "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["reason"]) == (1, reason.value)


def test_real_standard_input(terminal: Terminal) -> None:
    """A pipe works as one would expect, and what was minted by nobody verifies nowhere."""
    forged = sign(header(key()), claims(iss=ISSUER, aud=OTHER), key()).decode()
    done = terminal.run("token", "inspect", "-", stdin=f" {forged}\n")
    assert done.returncode == 0
    assert done.stdout.startswith("NOT VERIFIED")
    terminal.create_ring()
    with pytest.raises(TokenRejected):
        receiver(terminal).verify(forged)
