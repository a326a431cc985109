"""A token id is used once, whoever asks, and nobody who cannot tell says yes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from s2s_mesh import ConfigError, KeyStoreError, StoreReason
from s2s_mesh.store.redis_errors import acl
from s2s_mesh.store.replay import MemoryReplays, ReplayStore, open_replay_store

from .servers import RedisServer, cluster, cluster_url
from .tokens import EDGE, LEDGER, WALLETS, Clock


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture(params=["memory", "redis"])
def replays(request: pytest.FixtureRequest) -> Iterator[ReplayStore]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("server").url
    audience = f"https://{request.node.name.partition('[')[0].replace('_', '-')}.example.com"
    with closing(open_replay_store(url, audience=audience)) as opened:
        yield opened


def test_the_second_use_is_none(replays: ReplayStore) -> None:
    """Whoever comes first has it; another id, and the same id of another issuer, are others."""
    assert replays.use(EDGE, "one", 60)
    assert not replays.use(EDGE, "one", 60)
    assert replays.use(EDGE, "two", 60)
    assert replays.use(LEDGER, "one", 60)


def test_of_many_at_once_one_has_it(replays: ReplayStore) -> None:
    """Exactly one, in every round."""
    with ThreadPoolExecutor(20) as pool:
        for number in range(20):
            wins = pool.map(lambda _, number=number: replays.use(EDGE, str(number), 60), range(50))
            assert sum(wins) == 1


def test_ids_are_forgotten_when_their_tokens_have_expired(server: RedisServer) -> None:
    """Memory by its clock, Redis by its own, in milliseconds."""
    clock = Clock(0)
    memory = MemoryReplays(clock)
    assert memory.use(EDGE, "one", 60)
    clock.now = 59.9
    assert not memory.use(EDGE, "one", 60)
    clock.now = 60
    assert memory.use(EDGE, "one", 60)
    with closing(open_replay_store(server.url, audience=WALLETS)) as shared:
        shared.use(EDGE, "one", 123.456)
    count, _, key, _ = server.command("KEYS", f"s2s-mesh:{WALLETS}:jti:*").decode().split("\r\n")
    assert count == "*1"
    assert 120_000 < int(server.command("PTTL", key)[1:]) <= 123_456


def test_a_memory_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never forgets an id that still counts; it makes room from those that do not."""
    monkeypatch.setattr("s2s_mesh.store.replay._MAX_REMEMBERED", 3)
    clock = Clock(0)
    memory = MemoryReplays(clock)
    for number in range(3):
        assert memory.use(EDGE, str(number), 60)
    with pytest.raises(KeyStoreError, match="remembered already"):
        memory.use(EDGE, "3", 60)
    assert not memory.use(EDGE, "0", 60)
    clock.now = 60
    assert memory.use(EDGE, "3", 60)


def test_replicas_share_a_redis_and_services_do_not(server: RedisServer) -> None:
    """One audience, one memory."""
    with (
        closing(open_replay_store(server.url, audience="https://a.example.com")) as one,
        closing(open_replay_store(server.url, audience="https://a.example.com")) as replica,
        closing(open_replay_store(server.url, audience="https://b.example.com")) as other,
    ):
        assert one.use(EDGE, "one", 60)
        assert not replica.use(EDGE, "one", 60)
        assert other.use(EDGE, "one", 60)


@pytest.mark.own_times("store")
def test_a_store_that_is_down_or_hangs_cannot_tell() -> None:
    """It raises within its time-outs, then at once; and recovers by itself."""
    with RedisServer() as own, closing(open_replay_store(own.url, audience=WALLETS)) as replays:
        assert replays.use(EDGE, "one", 60)
        own.pause()
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(KeyStoreError) as refused:
                replays.use(EDGE, "two", 60)
            assert refused.value.reason is StoreReason.UNREACHABLE
        assert time.monotonic() - began < 15  # twenty time-outs of a second are more
        own.resume()
        deadline = time.monotonic() + 60
        while True:
            try:
                assert not replays.use(EDGE, "one", 60)
                break
            except KeyStoreError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_a_cluster_spreads_the_ids() -> None:
    """Their names have no hash tag, so no slot is hot."""
    with cluster() as nodes:
        with closing(open_replay_store(cluster_url(nodes), audience=WALLETS)) as replays:
            for number in range(50):
                assert replays.use(EDGE, str(number), 60)
                assert not replays.use(EDGE, str(number), 60)
        assert sum(1 for node in nodes if int(node.command("DBSIZE")[1:])) > 1


@pytest.mark.parametrize("url", ["file:///var/lib/wallets", "", "postgres://db"])
def test_stores_that_replicas_cannot_ask_in_an_instant(url: str) -> None:
    """Refused with what is expected."""
    with pytest.raises(ConfigError, match="redis:// or one of its relatives"):
        open_replay_store(url, audience=WALLETS)


def test_the_documented_rights_are_enough() -> None:
    """And they hold for one service: another one's ids cannot be touched."""
    config = f"user default on nopass {acl(WALLETS)}\n"
    with (
        RedisServer(config=config) as guarded,
        closing(open_replay_store(guarded.url, audience=WALLETS)) as own,
        closing(open_replay_store(guarded.url, audience=LEDGER)) as other,
    ):
        assert own.use(EDGE, "one", 60)
        assert not own.use(EDGE, "one", 60)
        with pytest.raises(KeyStoreError) as refused:
            other.use(EDGE, "one", 60)
        assert refused.value.reason is StoreReason.PERMISSIONS
