"""`s2s-mesh deny`: rules are added, shown and removed; what is not meant is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .command_line import OTHER, Terminal, make_terminal
from .tokens import frozen

WHY = "--why", "stolen laptop"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def rules(terminal: Terminal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(terminal.call("deny", "list", "--json").stdout)["rules"]
    return found


def test_a_rule_is_added_shown_and_removed(terminal: Terminal) -> None:
    """The list keeps what was removed, so that it can be seen who did what when."""
    terminal.seal()
    with frozen() as clock:
        added = terminal.call("deny", "add", "--issuer", OTHER, "--for", "1h", *WHY, "--yes")
        assert added.exit_code == 0, added.output
        (rule,) = rules(terminal)
        assert added.stdout.startswith(f"rule {rule['id']}: issuer '{OTHER}' refused until 2027-")
        assert (rule["issuer"], rule["why"], rule["holds"]) == (OTHER, "stolen laptop", True)
        assert "in force until" in terminal.call("deny", "list").stdout
        clock.tick(3600)
        assert not rules(terminal)[0]["holds"]
        assert "ran out" in terminal.call("deny", "list").stdout
        assert terminal.call("deny", "remove", rule["id"], "--yes").exit_code == 0
        assert "removed" in terminal.call("deny", "list").stdout


def test_a_rule_without_an_end_holds_for_ever(terminal: Terminal) -> None:
    """And names all that was given."""
    done = terminal.call("deny", "add", "--kid", "k1", "--user-sub", "u1", *WHY, "--yes")
    assert done.stdout.endswith(": user_sub 'u1', kid 'k1' refused for ever\n")
    assert {"kid": "k1", "user_sub": "u1", "until": None}.items() <= rules(terminal)[0].items()


def test_nobody_is_denied_at_first(terminal: Terminal) -> None:
    """An empty list is said to be empty, and looking at it makes none."""
    assert terminal.call("deny", "list").stdout == "nobody is denied\n"
    assert rules(terminal) == []
    assert not (terminal.folder / "keys").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["add", *WHY, "--yes"], "would deny all"),
        (["add", "--issuer", "wallets", *WHY, "--yes"], "is not a service id"),
        (["add", "--issuer", OTHER, "--yes"], "--why"),
        (["add", "--issuer", OTHER, "--why", "", "--yes"], "why must say"),
        (["add", "--issuer", OTHER, "--for", "90", *WHY, "--yes"], 'did you mean "90s"?'),
        (["add", "--issuer", OTHER, *WHY], "--yes"),
        (["remove", "abc", "--yes"], "no deny rule 'abc'; there are: none"),
    ],
)
def test_what_is_not_meant_is_exit_code_2(terminal: Terminal, arguments: list[str], text: str) -> None:
    """And changes nothing."""
    refused = terminal.call("deny", *arguments)
    assert refused.exit_code == 2
    assert text in refused.stderr
    assert rules(terminal) == []


def test_a_store_that_only_this_process_sees_is_no_place_for_rules(terminal: Terminal) -> None:
    """The service would never hear of them."""
    terminal.environment["S2S_MESH_KEY_STORE"] = "memory://"
    refused = terminal.call("deny", "list")
    assert refused.exit_code == 2
    assert "set S2S_MESH_KEY_STORE" in refused.stderr


def test_a_foreign_issuer_is_denied_as_the_trust_file_writes_it(terminal: Terminal) -> None:
    """And nothing else that is no service id, because it could be a typing error."""
    terminal.seal()
    hub = "robot@example.com"
    terminal.trust(f'[foreign_issuers."{hub}"]\njwks_file = "robot.jwks.json"\n')
    added = terminal.call("deny", "add", "--issuer", hub, *WHY, "--yes")
    assert added.exit_code == 0, added.output
    assert rules(terminal)[0]["issuer"] == hub
    assert terminal.call("deny", "add", "--issuer", f"{hub}.", *WHY, "--yes").exit_code == 2
