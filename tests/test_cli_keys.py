"""`s2s-mesh keys` and `s2s-mesh jwks`: one ring, shown as it is, made only where that was asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from s2s_mesh.cli.environment import key_manager, load_settings
from s2s_mesh.keyring import KeyRing
from s2s_mesh.wellknown import JWKS, WellKnown

from .command_line import ISSUER, Terminal, make_terminal
from .servers import RedisServer

PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "private"}


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return make_terminal(tmp_path, monkeypatch)


@pytest.fixture
def ring(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    """The ring that the terminal's service has."""
    terminal.create_ring()
    for name, value in terminal.environment.items():
        monkeypatch.setenv(name, value)
    found = key_manager(load_settings(), may_create=False).peek()
    assert found is not None
    return found


def members(value: Any) -> set[str]:
    """The names of all members of JSON data, however deep."""
    if isinstance(value, list):
        return set().union(*map(members, value))
    return set(value).union(*map(members, value.values())) if isinstance(value, dict) else set()


def test_init_creates_once(terminal: Terminal) -> None:
    """The first `keys init` creates the ring, the next ones find it and change nothing."""
    first = json.loads(terminal.call("keys", "init", "--json").stdout)
    assert first["created"] is True
    assert [key["signs_now"] for key in first["keys"]] == [True, False]
    again = json.loads(terminal.call("keys", "init", "--json").stdout)
    assert again == {**first, "created": False}
    assert terminal.call("keys", "init").stdout.startswith(f"found the key ring of {ISSUER}, version 1\n")


def test_show(terminal: Terminal, ring: KeyRing) -> None:
    """Each key is one row: kid, algorithm, state, and its times in UTC and in words."""
    head, titles, active, following = terminal.call("keys", "show").stdout.splitlines()
    signing = ring.signing_record(next(iter(ring.records.values())).created)
    assert signing is not None
    assert head == f"key ring of {ISSUER}, version 1"
    assert titles.split() == ["kid", "alg", "state", "signs", "from", "signs", "until", "removed", "at"]
    assert active.startswith(f"{signing.kid}  ES256  active, signs now  ")
    assert "  pre-activation     " in following
    assert active.count(" UTC (in ") == 2
    assert active.count(" ago)") == 1


def test_show_as_data(terminal: Terminal, ring: KeyRing) -> None:
    """`--json` holds public facts of every key and nothing private."""
    answer = json.loads(terminal.call("keys", "show", "--json").stdout)
    assert {key["kid"] for key in answer["keys"]} == set(ring.records)
    assert [key["state"] for key in answer["keys"]] == ["active", "pre-activation"]
    assert all(key["published"] and key["revoked_at"] is None for key in answer["keys"])
    assert not PRIVATE & members(answer)


def test_jwks(terminal: Terminal, ring: KeyRing) -> None:
    """The JWKS is what the service serves, byte for byte, and a line end."""
    served = WellKnown(load_settings().issuer, ring.schedule).answer(JWKS, ring, 0, method="GET").body
    printed = terminal.call("jwks").stdout_bytes
    assert printed == served + b"\n"
    assert not PRIVATE & members(json.loads(printed))


def test_export_as_jwks(terminal: Terminal, ring: KeyRing) -> None:
    """It is the JWKS, printed or in a file that everybody may read and nobody sees half written."""
    printed = terminal.call("keys", "export-public").stdout_bytes
    assert printed == terminal.call("jwks").stdout_bytes
    done = terminal.call("keys", "export-public", "--output", "public.jwks.json")
    assert done.stdout == f"wrote 2 public keys of {ISSUER} to public.jwks.json\n"
    assert (terminal.folder / "public.jwks.json").read_bytes() == printed
    assert [path.name for path in terminal.folder.iterdir() if "public" in path.name] == ["public.jwks.json"]


def test_export_as_pem(terminal: Terminal, ring: KeyRing) -> None:
    """One PEM block per published key, each under its kid and algorithm."""
    text = terminal.call("keys", "export-public", "--pem").stdout
    blocks = dict(
        re.findall(
            r"# (\S+) ES256\n(-----BEGIN PUBLIC KEY-----\n.+?-----END PUBLIC KEY-----\n)", text, re.DOTALL
        )
    )
    assert set(blocks) == set(ring.records)
    for kid, pem in blocks.items():
        assert JWK.from_pem(pem.encode()).thumbprint() == kid
    assert "PRIVATE" not in text


def test_export_to_a_place_that_cannot_be_written(terminal: Terminal, ring: KeyRing) -> None:
    """Exit code 2, and nothing is left there."""
    refused = terminal.call("keys", "export-public", "--output", "missing/public.jwks.json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "missing/public.jwks.json cannot be written: No such file or directory" in refused.stderr


@pytest.mark.parametrize("command", ["keys show", "keys show --json", "jwks", "keys export-public"])
def test_no_ring(terminal: Terminal, command: str) -> None:
    """Where there is no ring, looking at it is exit code 1 and makes none."""
    result = terminal.call(*command.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"there is no key ring for {ISSUER}; run `s2s-mesh keys init`")
    assert not (terminal.folder / "keys").exists()


def test_revoked_ring(terminal: Terminal, ring: KeyRing) -> None:
    """A ring whose keys are all revoked has no JWKS to print; `keys init` then makes new keys."""
    store = load_settings().open_key_store()
    assert store is not None
    revoked = ring
    for kid in ring.records:
        revoked = revoked.compromise(kid, ring.records[kid].created)
    store.swap(ring.to_bytes(), revoked.written().to_bytes())
    result = terminal.call("jwks")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no published key" in result.stderr
    states = [key["state"] for key in json.loads(terminal.call("keys", "show", "--json").stdout)["keys"]]
    assert states == ["compromised", "compromised"]
    answer = json.loads(terminal.call("keys", "init", "--json").stdout)
    assert answer["created"] is True
    assert sum(key["published"] for key in answer["keys"]) == 2


def test_memory(terminal: Terminal) -> None:
    """A store that dies with the command is refused, because it would look like another service's."""
    terminal.environment["S2S_MESH_KEY_STORE"] = "memory://"
    result = terminal.call("keys", "init")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "S2S_MESH_KEY_STORE is memory://" in result.stderr


def test_together(terminal: Terminal) -> None:
    """Of several processes at the same instant one creates the ring, and all show the same."""
    terminal.seal()
    with RedisServer() as server:
        del terminal.environment["S2S_MESH_KEY_STORE"]
        terminal.environment["REDIS_URL"] = server.url
        started = [terminal.start("keys", "init", "--json") for _ in range(3)]
        answers = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(answer.pop("created") for answer in answers) == [False, False, True]
    assert all(answer == answers[0] for answer in answers)
