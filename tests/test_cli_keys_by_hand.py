"""`s2s-mesh keys rotate`, `revoke` and `rewrap`: what a person does to a ring, and what it spares callers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh.store import generate_key_encryption_key

from .command_line import Terminal, make_terminal
from .tokens import NOW, frozen

LEAD, DRAIN, PERIOD = 7200, 1800, 30 * 86400


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


def keys(terminal: Terminal) -> list[dict[str, Any]]:
    """The ring as `keys show` has it."""
    found: list[dict[str, Any]] = json.loads(terminal.call("keys", "show", "--json").stdout)["keys"]
    return found


def signing(terminal: Terminal) -> str:
    """The kid that signs now."""
    (kid,) = [key["kid"] for key in keys(terminal) if key["signs_now"]]
    return str(kid)


def published(terminal: Terminal) -> list[str]:
    return [key["kid"] for key in keys(terminal) if key["published"]]


def test_rotate_now_waits_until_every_receiver_has_the_next_key(terminal: Terminal) -> None:
    """Before the lead is over nothing changes; after it the next key signs, and the old one stays."""
    with frozen() as clock:
        terminal.create_ring()
        first = signing(terminal)
        early = terminal.call("keys", "rotate", "--now", "--yes")
        assert early.stdout.startswith("nothing changed: ")
        assert early.stdout.endswith("(in 2 h) at the earliest\n")
        assert signing(terminal) == first
        clock.tick(LEAD)
        done = terminal.call("keys", "rotate", "--now", "--yes")
        second = signing(terminal)
        assert second != first
        assert done.stdout.startswith(f"{second} signs from ")
        assert set(published(terminal)) > {first, second}
        assert terminal.call("keys", "rotate", "--now", "--yes").stdout.startswith("nothing changed: ")


def test_rotate_sets_the_earliest_safe_instant(terminal: Terminal) -> None:
    """Without --now the next key takes over as soon as every cache has it."""
    with frozen() as clock:
        terminal.create_ring()
        first = signing(terminal)
        assert "(in 2 h) on" in terminal.call("keys", "rotate", "--yes").stdout
        assert "(in 2 h) anyway" in terminal.call("keys", "rotate", "--yes").stdout
        clock.tick(LEAD - 1)
        assert signing(terminal) == first
        clock.tick(1)
        assert signing(terminal) != first


def test_a_rotation_that_would_publish_a_fifth_key_is_refused(terminal: Terminal) -> None:
    """Two by hand in one period are possible; the next says when there is room again, with exit code 2."""
    with frozen() as clock:
        terminal.create_ring()
        for _ in range(2):
            clock.tick(LEAD)
            assert "signs from" in terminal.call("keys", "rotate", "--now", "--yes").stdout
        clock.tick(LEAD)
        refused = terminal.call("keys", "rotate", "--now", "--yes")
        assert refused.exit_code == 2
        assert "4 keys of one algorithm are published already" in refused.stderr
        assert len(published(terminal)) == 4


def test_a_change_of_algorithm_is_one_more_rotation(terminal: Terminal) -> None:
    """Published now, signs when every receiver has it, made once however often it is asked for."""
    with frozen() as clock:
        terminal.create_ring()
        first = signing(terminal)
        done = terminal.call("keys", "rotate", "--algorithm", "Ed25519", "--yes")
        assert done.stdout.endswith("(in 2 h) on\n")
        assert "set S2S_MESH_ALGORITHM=Ed25519 in every process" in done.stderr
        again = terminal.call("keys", "rotate", "--algorithm", "Ed25519", "--yes")
        assert again.stdout.endswith("(in 2 h) anyway\n")
        clock.tick(LEAD - 1)
        assert signing(terminal) == first
        clock.tick(1)
        (now,) = [key for key in keys(terminal) if key["signs_now"]]
        assert now["alg"] == "Ed25519"
        assert first in published(terminal)
        terminal.environment["S2S_MESH_ALGORITHM"] = "Ed25519"
        quiet = terminal.call("keys", "rotate", "--algorithm", "Ed25519", "--yes")
        assert (quiet.exit_code, quiet.stderr) == (0, "")
        assert signing(terminal) == now["kid"]


def test_a_change_of_algorithm_is_never_at_once(terminal: Terminal) -> None:
    """No receiver has a key that is not made yet: `--now` changes nothing and says what would."""
    terminal.create_ring()
    before = keys(terminal)
    done = terminal.call("keys", "rotate", "--algorithm", "RS256", "--now", "--yes")
    assert done.stdout == "nothing changed: the next key is not of RS256; without --now one is made\n"
    assert keys(terminal) == before


def test_an_algorithm_that_is_not_offered(terminal: Terminal) -> None:
    """Exit code 2, with those that are."""
    terminal.create_ring()
    refused = terminal.call("keys", "rotate", "--algorithm", "HS256", "--yes")
    assert refused.exit_code == 2
    assert "'HS256' is not one of ES256, ES384, Ed25519, PS256, RS256" in refused.stderr


def test_a_key_that_rotated_out_is_removed_when_its_last_token_has_expired(terminal: Terminal) -> None:
    """Its removal time is the one it was born with."""
    with frozen() as clock:
        terminal.create_ring()
        first = signing(terminal)
        clock.tick(LEAD)
        terminal.call("keys", "rotate", "--now", "--yes")
        clock.move_to("2027-02-14 08:29:59")  # NOW + PERIOD + DRAIN - 1
        assert first in published(terminal)
        clock.tick(2)
        assert first not in published(terminal)
    assert NOW + PERIOD + DRAIN == 1_802_593_800


def test_revoke_unpublishes_at_once_and_the_next_key_signs_at_once(terminal: Terminal) -> None:
    """No lead is needed; a new next key is made in the same step; it cannot be undone by asking again."""
    with frozen():
        terminal.create_ring()
        first, second = signing(terminal), next(k["kid"] for k in keys(terminal) if not k["signs_now"])
        done = terminal.call("keys", "revoke", first, "--yes")
        assert done.stdout == f"revoked {first}; {second} signs now\n"
        assert first not in published(terminal)
        assert len(published(terminal)) == 2
        assert [key["state"] for key in keys(terminal) if key["kid"] == first] == ["compromised"]
        assert terminal.call("keys", "revoke", first, "--yes").exit_code == 0
        assert signing(terminal) == second


def test_revoking_a_key_that_is_not_there_says_which_are(terminal: Terminal) -> None:
    """A typing mistake is exit code 2, and names the keys of the ring; a kid may begin with a hyphen."""
    terminal.create_ring()
    for kid in ("NzbLsXh8", "-RyXdJ7OSQyhyFrjzm9BYirMyc1HoWQZkqm3rVgpn_E"):
        refused = terminal.call("keys", "revoke", kid, "--yes")
        assert refused.exit_code == 2
        assert kid in refused.stderr
        assert signing(terminal) in refused.stderr


@pytest.mark.parametrize("command", [["rotate"], ["revoke", "x"], ["rewrap"]])
def test_a_script_has_to_say_yes(terminal: Terminal, command: list[str]) -> None:
    """Where nobody can be asked, nothing happens, with exit code 2."""
    terminal.create_ring()
    before = keys(terminal)
    refused = terminal.call("keys", *command)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert keys(terminal) == before


@pytest.mark.parametrize("command", [["rotate"], ["revoke", "x"], ["rewrap"]])
def test_without_a_ring_there_is_nothing_to_change(terminal: Terminal, command: list[str]) -> None:
    """No ring is made by any of these; the text says how to make one."""
    refused = terminal.call("keys", *command, "--yes")
    assert refused.exit_code == 2
    assert "keys init" in refused.stderr
    assert terminal.call("keys", "show").exit_code == 1


def test_rewrap_replaces_the_key_encryption_key_without_a_gap(terminal: Terminal) -> None:
    """NEW,OLD opens what OLD sealed; after `rewrap` NEW alone opens it, and OLD alone no longer does."""
    old, new = terminal.seal(), generate_key_encryption_key()
    terminal.create_ring()
    before = keys(terminal)
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = f"{new},{old}"
    assert keys(terminal) == before
    assert terminal.call("keys", "rewrap", "--yes").stdout == "sealed anew\n"
    assert terminal.call("keys", "rewrap", "--yes").stdout.startswith("nothing changed")
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = new
    assert keys(terminal) == before
    terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"] = old
    refused = terminal.call("keys", "show")
    assert refused.exit_code == 2
    assert "key-encryption key" in refused.stderr
