"""The deny list of a service is one for all its replicas, survives a lost store, and fails closed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from s2s_mesh import KeyStoreError, StoreReason
from s2s_mesh.deny_keeper import NAME, DenyListKeeper
from s2s_mesh.deny_list import EMPTY, DenyList, DenyRule
from s2s_mesh.store import KeyStore, SealedStore, Sealer, open_store
from s2s_mesh.store.memory import MemoryStore

from .servers import RedisServer, wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, Clock

KEK, OTHER_KEK = bytes(range(32)), bytes(range(1, 33))


def keeper(store: KeyStore, clock: Clock | None = None, kek: bytes = KEK) -> DenyListKeeper:
    """The keeper of one replica of wallets."""
    return DenyListKeeper(
        SealedStore(store, Sealer([kek], issuer=WALLETS, purpose=NAME)), clock=clock or Clock()
    )


def rule(name: str = "r1", issuer: str = EDGE) -> DenyRule:
    return DenyRule(id=name, why="stolen laptop", added_at=NOW, issuer=issuer)


def denied(rules: DenyList | None, issuer: str = EDGE, now: float = NOW) -> bool:
    assert rules is not None
    return rules.find(now, issuer=issuer, kid="k", jti="j") is not None


def test_a_rule_that_one_adds_all_have_at_their_next_look() -> None:
    """And removing it is seen the same way."""
    store = MemoryStore()
    one, other = keeper(store), keeper(store)
    assert other.refresh() == EMPTY
    one.change(lambda rules, _now: rules.add(rule()))
    assert denied(other.refresh())
    one.change(lambda rules, now: rules.remove("r1", now))
    assert not denied(other.refresh())


def test_an_unchanged_list_stays_the_same_object_and_is_not_written() -> None:
    """Memories of verified tokens compare it by identity."""
    store = MemoryStore()
    one = keeper(store)
    one.change(lambda rules, _now: rules.add(rule()))
    document, held = store.load(), one.current
    assert one.refresh() is held
    assert store.load() == document


def test_a_list_that_the_store_lost_is_written_back() -> None:
    """After a FLUSHALL the rules stay in force, also for replicas that start later."""
    lost, clock = MemoryStore(), Clock()
    one = keeper(lost, clock)
    one.change(lambda rules, _now: rules.add(rule()))
    held = lost.load()
    assert held is not None
    lost._document = None
    assert denied(one.refresh())
    assert denied(keeper(lost).refresh())


def test_rules_added_at_the_same_time_are_all_kept() -> None:
    """Compare-and-set: nobody overwrites what somebody else has just added."""
    store = MemoryStore()
    names = [f"r{number}" for number in range(20)]

    def add(name: str) -> None:
        keeper(store).change(lambda rules, _now: rules.add(rule(name)))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(add, names))
    found = keeper(store).refresh()
    assert found is not None
    assert set(found.rules) == set(names)


class Failing(MemoryStore):
    """A store that can be switched off."""

    down = False

    def load(self) -> bytes | None:
        if self.down:
            raise KeyStoreError(StoreReason.UNREACHABLE, "nobody answers")
        return super().load()


def test_while_the_store_is_down_the_last_list_stays_in_force(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins and one when it ends, however often it is looked at."""
    store = Failing()
    one = keeper(store)
    one.change(lambda rules, _now: rules.add(rule()))
    store.down = True
    with caplog.at_level(logging.INFO, "s2s_mesh.deny"):
        caplog.clear()
        assert denied(one.refresh())
        assert denied(one.refresh())
        store.down = False
        assert denied(one.refresh())
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_list_that_was_never_read_is_not_an_empty_one() -> None:
    """Whoever asks is told that there is none."""
    store = Failing()
    store.down = True
    one = keeper(store)
    assert one.refresh() is None
    store.down = False
    assert one.refresh() == EMPTY


@pytest.mark.parametrize("document", [b'{"v":1,"rules":[]}', b"garbage"], ids=["plaintext", "garbage"])
def test_a_list_that_somebody_else_wrote_is_not_believed(document: bytes) -> None:
    """Whoever can write to the store can neither add a rule nor take one away."""
    store = MemoryStore()
    one = keeper(store)
    one.change(lambda rules, _now: rules.add(rule()))
    store.swap(store.load(), document)
    assert denied(one.refresh())
    assert keeper(store).refresh() is None
    with pytest.raises(KeyStoreError):
        one.change(lambda rules, _now: rules.add(rule("r2")))


def test_the_ring_or_another_services_list_in_its_place_is_not_believed() -> None:
    """A sealed document holds for one service and one purpose."""
    for sealer in (Sealer([KEK], issuer=WALLETS), Sealer([KEK], issuer=LEDGER, purpose=NAME)):
        store = MemoryStore()
        store.swap(None, sealer.seal(EMPTY.to_bytes()))
        assert keeper(store).refresh() is None


def test_every_change_is_one_line_in_the_log_of_every_replica(caplog: pytest.LogCaptureFixture) -> None:
    """With what is refused and why."""
    store = MemoryStore()
    other = keeper(store)
    other.refresh()
    keeper(store).change(lambda rules, _now: rules.add(rule()))
    with caplog.at_level(logging.WARNING, "s2s_mesh.deny"):
        caplog.clear()
        other.refresh()
        other.refresh()
    (line,) = caplog.messages
    assert line == f"deny rule r1 is in force: {{'issuer': '{EDGE}'}} (stolen laptop)"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def test_a_real_redis_tells_the_others_at_once(server: RedisServer) -> None:
    """A change is announced on the service's channel, so nobody has to wait for a poll."""
    heard: list[str] = []
    with (
        closing(open_store(server.url, issuer=WALLETS, name=NAME)) as mine,
        closing(open_store(server.url, issuer=WALLETS)) as ring,
    ):
        stop = ring.listen(heard.append)  # type: ignore[attr-defined]
        try:
            wait_until(lambda: "resubscribed" in heard, what="a subscription")
            keeper(mine).change(lambda rules, _now: rules.add(rule()))
            wait_until(lambda: len(heard) > 1, what="a message")
        finally:
            stop()
        assert denied(keeper(mine).refresh())
