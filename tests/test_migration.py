"""The uses of old credentials outlive a process, are added up by all of them, and harm nobody by failing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from s2s_mesh import StoreReason
from s2s_mesh.migration import NAME, Migration, read_uses, stored_uses
from s2s_mesh.migration_use import TOKEN, Uses, Who
from s2s_mesh.store import generate_key_encryption_key

from .migrating import KEY, X_API_KEY, row, trusting
from .receiver import Receiver
from .servers import RedisServer, wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, Clock, good, key

OLD = [(X_API_KEY, KEY.encode())]
WHO, BY_TOKEN = Who(EDGE, WALLETS, "api_key"), Who(EDGE, WALLETS, TOKEN)
KEK = generate_key_encryption_key()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def receiver(folder: Path, server: RedisServer, trust: str = row()) -> Receiver:
    folder.mkdir(exist_ok=True)
    made = Receiver(folder, edge_keys=[key()], trust=trust, key_store=server.url, key_encryption_key=KEK)
    made.service.clock = Clock()
    return made


def counts(door: Receiver) -> dict[Who, int]:
    """What the store holds."""
    store = stored_uses(door.service.settings)
    assert store is not None
    with closing(store):
        return {who: sum(use.days.values()) for who, use in read_uses(store).by_who.items()}


def test_counts_outlive_the_process_and_are_added_up(tmp_path: Path, server: RedisServer) -> None:
    """Two replicas, one after the other and side by side, on a real Redis; sealed."""
    first = receiver(tmp_path / "a", server)
    assert counts(first) == {}
    assert first.call(headers=OLD).status == 200
    first.close()
    assert counts(first) == {WHO: 1}
    again, beside = receiver(tmp_path / "a", server), receiver(tmp_path / "b", server)
    for door in (again, beside, again):
        assert door.call(headers=OLD).status == 200
        assert door.call(good()).status == 200
    for door in (again, beside):
        door.service.running().migration.keep(at_once=True)
    assert counts(again) == {WHO: 4, BY_TOKEN: 3}
    for door in (again, beside):
        door.close()
    assert counts(again) == {WHO: 4, BY_TOKEN: 3}
    assert EDGE.encode() not in server.command("GET", f"s2s-mesh:{{{WALLETS}}}:{NAME}")


def test_the_housekeeper_brings_them_without_being_asked(tmp_path: Path, server: RedisServer) -> None:
    """Within ten seconds; the clock is moved instead of waiting."""
    door = receiver(tmp_path, server)
    door.service.running()
    door.call(headers=OLD)
    clock = door.service.clock
    assert isinstance(clock, Clock)
    clock.now += 11
    door.service.running().kick()
    wait_until(lambda: counts(door) == {WHO: 1}, what="the count")
    door.close()


@pytest.mark.own_times("store")
def test_a_store_that_fails_is_written_later(
    tmp_path: Path, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests notice nothing, and nothing is lost; one line of the log says so."""
    door = receiver(tmp_path, server)
    migration = door.service.running().migration
    assert door.call(headers=OLD).status == 200
    server.pause()
    for _ in range(2):
        assert door.call(headers=OLD).status == 200
        migration.keep(at_once=True)
    lines = [record.getMessage() for record in caplog.records if record.name == "s2s_mesh.migration"]
    failures = [line for line in lines if line.startswith("uses of old credentials stay in memory: ")]
    assert len(failures) == 1
    assert StoreReason.UNREACHABLE.value in failures[0]
    server.resume()
    migration.keep(at_once=True)
    assert counts(door)[WHO] >= 3
    assert migration.pending.by_who == {}
    door.close()


def test_a_row_that_is_removed_takes_its_counts_along(tmp_path: Path, server: RedisServer) -> None:
    """At the next writing; a service whose last row is gone writes nothing any more."""
    door = receiver(tmp_path, server)
    settings, clock = door.service.settings, Clock()
    ledgers = row(issuer=LEDGER, api_key_sha256="0" * 64)
    for rows, expected in (
        (row() + ledgers, {WHO: 1, Who(LEDGER, WALLETS, "api_key"): 1}),
        (row(), {WHO: 2}),
        ("", {WHO: 2}),
    ):
        migration = Migration(settings, clock=clock)
        migration.use(trusting(rows))
        for issuer in (EDGE, LEDGER):
            migration.tally.note(issuer, WALLETS, "api_key", NOW)
        migration.close()
        assert counts(door) == expected
    door.close()


def test_nothing_is_written_before_it_is_due(tmp_path: Path, server: RedisServer) -> None:
    """Or when the clock went back; and nothing at all where nothing was counted."""
    door = receiver(tmp_path, server)
    clock = Clock()
    migration = Migration(door.service.settings, clock=clock)
    migration.use(trusting(row()))
    migration.keep()
    assert counts(door) == {}
    migration.tally.note(*WHO, NOW)
    for step, expected in ((1, {}), (10, {WHO: 1})):
        clock.now += step
        migration.keep()
        assert counts(door) == expected
    migration.tally.note(*WHO, NOW)
    clock.now -= 3600
    migration.keep()
    assert counts(door) == {WHO: 2}
    migration.close()
    door.close()


def test_without_a_store_they_stay_in_memory_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a day for each caller and old way; none for tokens."""
    door = Receiver(tmp_path, edge_keys=[key()], trust=row())
    clock = Clock()
    migration = Migration(door.service.settings, clock=clock)
    migration.use(trusting(row()))
    with caplog.at_level(logging.INFO, "s2s_mesh.migration"):
        for day in range(2):
            for _ in range(3):
                migration.tally.note(*WHO, NOW + day * 86400)
                migration.tally.note(*BY_TOKEN, NOW)
                migration.keep(at_once=True)
    assert sum(migration.pending.by_who[WHO].days.values()) == 6
    assert [record.getMessage() for record in caplog.records] == [
        f"{EDGE} still uses its api_key at {WALLETS}"
    ] * 2
    migration.close()
    door.close()


def test_rows_that_come_with_a_changed_file_are_counted(tmp_path: Path, server: RedisServer) -> None:
    """Without a restart, and those that go are refused."""
    door = receiver(tmp_path, server, trust="")
    assert door.call(headers=OLD).status == 401
    for more, status in ((row(), 200), (row(migration="require"), 401), ("", 401)):
        door.write_trust(more)
        door.reload_trust()
        assert door.call(headers=OLD).status == status
    door.close()


def test_a_row_that_needs_what_is_not_installed_changes_nothing(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good file stays in force, and the log says why."""
    door = receiver(tmp_path, server)
    runtime = door.service.running()
    monkeypatch.setitem(__import__("sys").modules, "argon2", None)
    door.write_trust(row("basic"))
    runtime.reload_trust()  # unless the housekeeper is about to
    wait_until(lambda: "the changed trust file is not taken over" in caplog.text)
    assert door.call(headers=OLD).status == 200
    door.close()


def test_a_service_without_a_place_has_no_document(tmp_path: Path) -> None:
    """It only verifies."""
    door = Receiver(tmp_path, edge_keys=[key()])
    assert stored_uses(door.service.settings) is None
    assert Uses().by_who == {}
    door.close()
