"""`s2s-mesh trust migration` and `s2s-mesh legacy`: who still comes the old way; keys and hashes for rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from s2s_mesh import settings, settings_env
from s2s_mesh.migration import Migration
from s2s_mesh.migration_use import DAY
from s2s_mesh.trust import TrustConfig

from .command_line import ISSUER, OTHER, Terminal, make_terminal
from .migrating import KEY, PASSWORD, row
from .tokens import NOW, frozen


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def trusting(terminal: Terminal, *rows: str) -> None:
    """Let OTHER call this service, and have these rows."""
    pair = f'[[allow]]\nissuer = "{OTHER}"\naudience = "{ISSUER}"\n'
    terminal.trust(pair + "".join(rows))


def mine(kind: str = "key", **members: Any) -> str:
    return row(kind, issuer=OTHER, audience=ISSUER, **members)


def used(terminal: Terminal, *ways: str, at: float = NOW) -> None:
    """Let a process of the service have seen OTHER."""
    built = settings.build(**settings_env.from_env(terminal.environment, {}))
    assert not isinstance(built.trust, TrustConfig)
    running = Migration(built, clock=lambda: at)
    running.use(built.trust.current)
    for way in ways:
        running.tally.note(OTHER, ISSUER, way, at)
    running.close()


def report(terminal: Terminal) -> tuple[int, list[dict[str, Any]]]:
    result = terminal.call("trust", "migration", "--json")
    return result.exit_code, json.loads(result.stdout)["rows"]


@pytest.mark.parametrize(
    ("stage", "seen", "code", "advice"),
    [
        ("observe", ["api_key"], 1, "have the caller send tokens"),
        ("observe", ["api_key", "token"], 1, 'set "prefer", so that uses are logged'),
        ("prefer", ["api_key", "token"], 1, "find what still sends it"),
        ("observe", ["token"], 0, 'set "require"'),
        ("prefer", ["token"], 0, 'set "require"'),
        ("observe", [], 0, "nobody came: ask the caller"),
        ("require", ["api_key", "token"], 1, "refused, and still sent: tell the caller"),
        ("require", ["token"], 0, "remove the row"),
        ("off", [], 0, 'set "observe" to begin'),
        ("off", ["api_key"], 1, "refused, and still sent: tell the caller"),
    ],
)
def test_the_next_step(terminal: Terminal, stage: str, seen: list[str], code: int, advice: str) -> None:
    """By stage, and by who was seen in the last eight days; exit code 1 while the old way is seen."""
    trusting(terminal, mine(migration=stage))
    used(terminal, *seen)
    with frozen(NOW + 60):
        found, (told,) = report(terminal)
    assert (found, told["next"]) == (code, advice)
    assert (told["stage"], told["accepted"]) == (stage, stage in ("observe", "prefer"))
    assert told["last_use"] == ("2027-01-15T08:00:00Z" if "api_key" in seen else None)
    assert told["last_token"] == ("2027-01-15T08:00:00Z" if "token" in seen else None)
    assert told["recent_uses"] == ("api_key" in seen)


def test_the_table_is_for_people(terminal: Terminal) -> None:
    """Caller, old way, stage, last day, uses and the next step, one line a row; never a hash."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{terminal.folder}/keys"
    trusting(terminal, mine(), mine("basic", until="2027-01-01"))
    used(terminal, "api_key", "api_key", "token")
    with frozen(NOW + 3600):
        result = terminal.call("trust", "migration")
    assert result.exit_code == 1
    head, first, second = (line.split("  ") for line in result.stdout.splitlines())
    cells = [[cell.strip() for cell in line if cell.strip()] for line in (head, first, second)]
    assert cells[0] == ["caller", "old way", "stage", "ends", "last used", "in 8 days", "last token", "next"]
    assert cells[1] == [
        *(OTHER, "x-api-key", "observe", "2027-01-31", "1 h ago", "2", "1 h ago"),
        'set "prefer", so that uses are logged',
    ]
    assert cells[2] == [
        *(OTHER, "Basic edge", "observe", "2027-01-01 (ended)", "never", "0", "1 h ago", "remove the row")
    ]
    assert "argon2" not in result.stdout


def test_an_old_use_that_is_long_past_is_shown_and_not_counted(terminal: Terminal) -> None:
    """So that a caller who comes once a month is not overlooked."""
    trusting(terminal, mine())
    used(terminal, "api_key", at=NOW - 20 * DAY)
    with frozen():
        code, (told,) = report(terminal)
    assert (code, told["recent_uses"], told["last_use"]) == (0, 0, "2026-12-26T08:00:00Z")


def test_counts_add_up_over_processes(terminal: Terminal) -> None:
    """One that ended, and one that came after it."""
    trusting(terminal, mine())
    for _ in range(3):
        used(terminal, "api_key")
    with frozen():
        assert report(terminal)[1][0]["recent_uses"] == 3


def test_a_service_without_rows_is_done(terminal: Terminal) -> None:
    """And says so; nothing is read or written."""
    trusting(terminal)
    result = terminal.call("trust", "migration")
    assert (result.exit_code, result.stdout) == (
        0,
        f"no [[legacy]] row for {ISSUER}: nobody calls it with an old credential\n",
    )
    assert report(terminal) == (0, [])
    assert not (terminal.folder / "keys").exists()


def test_a_store_that_nobody_shares_is_refused(terminal: Terminal) -> None:
    """What this command would count there is its own nothing."""
    trusting(terminal, mine())
    terminal.environment["S2S_MESH_KEY_STORE"] = "memory://"
    result = terminal.call("trust", "migration")
    assert result.exit_code == 2
    assert "set S2S_MESH_KEY_STORE to redis:// or file:///DIRECTORY" in result.stderr


def test_a_new_key_fits_its_row(terminal: Terminal) -> None:
    """256 bits, another one each time, with the line for the trust file."""
    made = json.loads(terminal.call("legacy", "key", "--json").stdout)
    assert len(made["key"]) == 43
    assert made["api_key_sha256"] == hashlib.sha256(made["key"].encode()).hexdigest()
    key, _, line = terminal.call("legacy", "key").stdout.splitlines()
    assert key != made["key"]
    assert line == f'api_key_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"'


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_in_use_is_hashed_from_standard_input(terminal: Terminal, end: str) -> None:
    """With or without the end of its line; the key itself is not printed."""
    result = terminal.call("legacy", "hash", stdin=KEY + end)
    assert result.stdout == f'api_key_sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n'


def test_a_password_is_hashed_with_argon2id(terminal: Terminal) -> None:
    """Into what a trust file accepts, and another one each time."""
    lines = [terminal.call("legacy", "hash", "--password", stdin=PASSWORD + "\n").stdout for _ in range(2)]
    assert lines[0] != lines[1]
    hashed = lines[0].partition('"')[2].removesuffix('"\n')
    assert PasswordHasher().verify(hashed, PASSWORD)
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(hashed, "wrong")
    trusting(terminal, mine("basic", password_argon2=hashed))
    assert terminal.call("trust", "check", "trust/trust.toml").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ([], "", "expected one line with the API key"),
        ([], KEY + "\n" + KEY, "expected one line with the API key"),
        ([], "short", "an API key of 5 characters can be guessed from its hash"),
        (["--password"], "\n", "expected one line with the password"),
        (["--password"], "a\tb", "without control characters"),
    ],
)
def test_what_is_no_secret_is_refused(
    terminal: Terminal, arguments: list[str], stdin: str, words: str
) -> None:
    """And not repeated."""
    result = terminal.call("legacy", "hash", *arguments, stdin=stdin)
    assert result.exit_code == 2
    assert words in result.stderr
    assert KEY not in result.output


def test_the_prompt_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person at a terminal is asked; what is typed stays hidden."""
    import io
    import sys

    import typer

    from s2s_mesh.cli import migration

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Tty())
    asked: list[tuple[str, bool]] = []

    def prompt(text: str, *, hide_input: bool) -> str:
        asked.append((text, hide_input))
        return KEY

    monkeypatch.setattr(typer, "prompt", prompt)
    migration.hash_(password=False)
    assert asked == [("API key", True)]


@pytest.mark.parametrize(
    ("until", "words"),
    [("2027-01-14", "has ended and is refused; remove the row"), ("2028-02-01", "more than a year to come")],
)
def test_check_warns_of_ends(terminal: Terminal, until: str, words: str) -> None:
    """Past ones and late ones; the file is good nevertheless."""
    trusting(terminal, mine(until=until))
    with frozen():
        result = terminal.call("trust", "check", "trust/trust.toml")
        data = json.loads(terminal.call("trust", "check", "--json", "trust/trust.toml").stdout)
    assert result.exit_code == 0
    assert f'warning: trust/trust.toml: legacy[0].until: the api_key of "{OTHER}"' in result.stdout
    assert words in result.stdout
    assert any(words in warning for warning in data["warnings"])


def test_check_refuses_a_row_without_a_pair(terminal: Terminal) -> None:
    """An old credential may do what its pair is granted; without a pair that is nothing."""
    terminal.trust(mine())
    result = terminal.call("trust", "check", "trust/trust.toml")
    assert result.exit_code == 1
    assert "found no [[allow]] row from" in result.stderr


def test_the_report_of_a_sealed_store_needs_its_key(terminal: Terminal) -> None:
    """What a stranger finds in the store says nothing."""
    kek = terminal.seal()
    terminal.environment["S2S_MESH_ISSUER"] = ISSUER
    trusting(terminal, mine())
    used(terminal, "api_key")
    documents = [path for path in (terminal.folder / "keys").rglob("*") if path.is_file()]
    assert not any(OTHER.encode() in path.read_bytes() for path in documents)
    del terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"]
    assert terminal.call("trust", "migration").exit_code == 2
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = kek
    assert terminal.call("trust", "migration").exit_code in (0, 1)
