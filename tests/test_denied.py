"""The deny list at the door: who is denied is out of every process within a second, and stays out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import KeyStoreError
from s2s_mesh.deny_keeper import NAME, DenyListKeeper, deny_list_keeper
from s2s_mesh.deny_list import DenyRule
from s2s_mesh.errors import Reason

from .hostile import rows
from .receiver import Receiver
from .receiving_fleet import ReceivingFleet, statuses
from .servers import RedisServer, wait_until
from .tokens import EDGE, LEDGER, LOGIN, NOW, WALLETS, carrying, good, key

NO_CHANNEL = "user default on nopass resetchannels allcommands ~*\n"


class Door:
    """A receiver on a real store, and an operator beside it."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.receiver = Receiver(
            folder,
            edge_keys=[key()],
            may_act_for=[LOGIN],
            key_store=server.url,
            allow_unsealed_key_store=True,
        )
        self.receiver.service.clock = lambda: float(NOW)

    def operator(self) -> DenyListKeeper:
        found = deny_list_keeper(self.receiver.service.settings, clock=lambda: float(NOW))
        assert found is not None
        return found

    def deny(self, **named: Any) -> None:
        """Add a rule, and wait until the receiver has it."""
        rule = DenyRule(id="r1", why="stolen laptop", added_at=NOW, **named)
        with closing(self.operator()) as operator:
            rules = operator.change(lambda rules, _now: rules.add(rule))
        wait_until(lambda: self.receiver.service.running().verifier.deny == rules, what="the rule")

    def verdict(self, token: bytes | None = None) -> tuple[int, str | None]:
        answer = self.receiver.call(token or TOKEN)
        return answer.status, answer.reason


TOKEN = good()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def door(tmp_path: Path, server: RedisServer) -> Iterator[Door]:
    made = Door(tmp_path, server)
    yield made
    made.receiver.close()


ROWS: list[tuple[str, dict[str, str], Reason | None]] = [
    ("another service", {"issuer": LEDGER}, None),
    ("the caller", {"issuer": EDGE}, Reason.DENIED),
    ("its key", {"kid": key().kid}, Reason.DENIED),
    ("this token", {"jti": "JG7TbVpiXKr0eTnbsFSM6A"}, Reason.DENIED),
    ("another key of the caller", {"issuer": EDGE, "kid": "another"}, None),
    ("a user of the caller's name", {"user_sub": EDGE}, None),
]


@pytest.mark.parametrize(("named", "reason"), rows(ROWS))
def test_who_is_denied_is_refused_although_verified_before(
    door: Door, named: dict[str, str], reason: Reason | None
) -> None:
    """401 as for any bad token; the log says which rule it was; others go on."""
    assert door.verdict() == (200, None)
    door.deny(**named)
    for _ in range(2):
        assert door.verdict() == ((200, None) if reason is None else (401, reason.value))


USERS: list[tuple[str, dict[str, str], Reason | None]] = [
    ("another user", {"user_sub": "2"}, None),
    ("the user", {"user_sub": "248289761001"}, Reason.DENIED),
    ("the user, by another service", {"user_sub": "248289761001", "issuer": LEDGER}, None),
    ("the user, by this service", {"user_sub": "248289761001", "issuer": EDGE}, Reason.DENIED),
]


@pytest.mark.parametrize(("named", "reason"), rows(USERS))
def test_a_user_is_denied_whoever_carries_it(
    door: Door, named: dict[str, str], reason: Reason | None
) -> None:
    """Also where the token was verified before; the service may still call for others, and as itself."""
    token = carrying()
    assert door.verdict(token) == (200, None)
    door.deny(**named)
    for _ in range(2):
        assert door.verdict(token) == ((200, None) if reason is None else (401, reason.value))
    assert door.verdict() == (200, None)
    forged = token[:-4] + b"AAAA"
    assert door.verdict(forged) == (401, Reason.BAD_SIGNATURE.value)


def test_a_rule_ends(door: Door) -> None:
    """Removed, or run out: who it refused may call again."""
    door.deny(issuer=EDGE)
    assert door.verdict() == (401, Reason.DENIED.value)
    with closing(door.operator()) as operator:
        operator.change(lambda rules, now: rules.remove("r1", now))
    wait_until(lambda: door.verdict() == (200, None), what="the removal")


def test_nobody_learns_of_a_rule_without_a_good_token(door: Door) -> None:
    """The list is asked after the signature."""
    door.deny(issuer=EDGE)
    forged = TOKEN[:-4] + b"AAAA"
    assert door.verdict(forged) == (401, Reason.BAD_SIGNATURE.value)


STORES: list[tuple[str, bool, Reason | None]] = [
    ("the store answers", True, None),
    ("the store is down", False, Reason.DENY_LIST_UNAVAILABLE),
]


@pytest.mark.parametrize(("up", "reason"), rows(STORES))
def test_a_process_that_never_had_the_list_lets_nobody_in(
    tmp_path: Path, server: RedisServer, up: bool, reason: Reason | None
) -> None:
    """503 with Retry-After; the first request of a process waits until the list is there."""
    if not up:
        server.kill()
    door = Door(tmp_path, server)
    answer = door.receiver.call(TOKEN)
    assert (answer.status, answer.reason) == ((200, None) if reason is None else (503, reason.value))
    assert ("retry-after" in answer.headers) is not up
    door.receiver.close()


def test_while_the_store_is_down_the_rules_stay_and_nobody_is_let_in_without_them(
    tmp_path: Path, server: RedisServer
) -> None:
    """A process that has the list goes on; one that never had it answers 503 until it has."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    old = Door(tmp_path / "old", server)
    old.deny(issuer=EDGE)
    server.kill()
    new = Door(tmp_path / "new", server)
    try:
        answer = new.receiver.call(TOKEN)
        assert (answer.status, answer.reason) == (503, Reason.DENY_LIST_UNAVAILABLE.value)
        assert int(answer.headers["retry-after"]) > 0
        assert old.verdict() == (401, Reason.DENIED.value)
        server.start()  # empty: the old one writes the list back
        wait_until(lambda: new.verdict() == (401, Reason.DENIED.value), what="the list, healed")
    finally:
        old.receiver.close()
        new.receiver.close()


def test_a_list_that_somebody_else_wrote_is_not_believed(door: Door, server: RedisServer) -> None:
    """Whoever can write to the store cannot let anybody in again."""
    door.deny(issuer=EDGE)
    server.command("SET", f"s2s-mesh:{{{WALLETS}}}:{NAME}", "garbage")
    with closing(door.operator()) as operator, pytest.raises(KeyStoreError):
        operator.peek()
    time.sleep(1)  # two polls
    assert door.verdict() == (401, Reason.DENIED.value)


@pytest.mark.parametrize("config", [None, NO_CHANNEL], ids=["messages", "polling only"])
def test_who_is_denied_on_the_command_line_is_out_of_four_processes(
    tmp_path: Path, config: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a second; also a process that starts afterwards refuses."""
    at = int(time.time())
    token = good(iat=at, exp=at + 900)
    with RedisServer(config=config) as store:
        fleet = ReceivingFleet(tmp_path, store.url)
        with fleet.running(4) as urls:
            assert statuses(urls, token) == [200] * 4
            said = fleet.command("deny", "add", "--issuer", EDGE, "--why", "stolen laptop", "--yes")
            began = time.monotonic()
            wait_until(lambda: statuses(urls, token) == [401] * 4, what="refusal everywhere")
            with capsys.disabled():
                print(f"\ndenied in four processes {time.monotonic() - began:.2f} s after the command's end")
        rule = said.split()[1].rstrip(":")
        with fleet.running(1) as urls:
            assert statuses(urls, token) == [401]
            fleet.command("deny", "remove", rule, "--yes")
            wait_until(lambda: statuses(urls, token) == [200], what="the removal")
