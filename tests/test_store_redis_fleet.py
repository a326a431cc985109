"""Redis made of several servers: replicas, Sentinel, Cluster."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest

from s2s_mesh.errors import KeyStoreError, StoreReason
from s2s_mesh.store import KeyStore, Notifier, open_store
from s2s_mesh.testing import KeyStoreConformance
from tests.servers import (
    CuttingProxy,
    RedisServer,
    SentinelSetup,
    cluster,
    cluster_url,
    replicated,
    sentinel_setup,
    wait_until,
)


@pytest.fixture(scope="module")
def sentinel() -> Iterator[SentinelSetup]:
    """A Sentinel setup that all tests of this module may write to."""
    with sentinel_setup() as setup:
        yield setup


@pytest.fixture(scope="module")
def nodes() -> Iterator[Sequence[RedisServer]]:
    """A cluster of three primaries that all tests of this module may write to."""
    with cluster() as servers:
        yield servers


@pytest.fixture
def issuer() -> str:
    """An issuer that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example.com"


class TestSentinelStore(KeyStoreConformance):
    """The conformance suite behind a Sentinel."""

    @pytest.fixture(autouse=True)
    def place(self, sentinel: SentinelSetup, issuer: str) -> None:
        self.url, self.issuer = sentinel.url, issuer

    def make_store(self) -> KeyStore:
        return open_store(self.url, issuer=self.issuer)


class TestClusterStore(KeyStoreConformance):
    """The conformance suite on a cluster."""

    @pytest.fixture(autouse=True)
    def place(self, nodes: Sequence[RedisServer], issuer: str) -> None:
        self.url, self.issuer = cluster_url(nodes), issuer

    def make_store(self) -> KeyStore:
        return open_store(self.url, issuer=self.issuer)


def check_notification(url: str, issuer: str) -> None:
    """Publish from one store and hear it in another."""
    heard: list[str] = []
    with closing(open_store(url, issuer=issuer)) as speaker:
        assert isinstance(speaker, Notifier)
        stop = speaker.listen(heard.append)
        wait_until(lambda: heard)
        speaker.publish("changed")
        wait_until(lambda: len(heard) > 1)
        stop()
    assert heard == ["resubscribed", "changed"]


def reached(call: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that makes the call and says whether the store was reached."""

    def attempt() -> bool:
        try:
            call()
        except KeyStoreError as error:
            if error.reason is not StoreReason.UNREACHABLE:
                raise
            return False
        return True

    return attempt


# --- replicas


def test_a_write_waits_for_a_replica(issuer: str, caplog: pytest.LogCaptureFixture) -> None:
    """When a swap returns, a replica holds the document as well."""
    with replicated() as (primary, replica), closing(open_store(primary.url, issuer=issuer)) as store:
        held = None
        for number in range(20):
            new = b"%d" % number
            store.swap(held, new)
            key = f"s2s-mesh:{{{issuer}}}:ring"
            assert replica.command("GET", key) == b"$%d\r\n%s\r\n" % (len(new), new), caplog.text
            held = new
    assert not caplog.records


def test_a_stuck_replica_is_a_warning(issuer: str, caplog: pytest.LogCaptureFixture) -> None:
    """The write counts, and every one that no replica acknowledged is logged with what that means."""
    with replicated() as (primary, replica), closing(open_store(primary.url, issuer=issuer)) as store:
        store.swap(None, b"first")
        assert not caplog.records
        replica.pause()
        store.swap(b"first", b"second")
        store.swap(b"second", b"third")
        assert store.load() == b"third"
    told = [record.levelname for record in caplog.records if record.name == "s2s_mesh.store"]
    assert told == ["WARNING"] * 2
    assert "none of 1 Redis replicas acknowledged" in caplog.text


def test_a_lost_acknowledgement_is_a_warning(issuer: str, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that dies after the write was answered does not turn success into failure."""
    with (
        replicated() as (primary, _),
        CuttingProxy(primary) as proxy,
        closing(open_store(proxy.url, issuer=issuer)) as store,
    ):
        proxy.cut_next("request", containing=b"WAIT\r\n$1\r\n1\r\n")
        store.swap(None, b"first")
        assert "none of 1 Redis replicas acknowledged" in caplog.text
        assert store.load() == b"first"


def test_without_replicas_nobody_waits(
    issuer: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without replicas is not asked for acknowledgements."""
    monkeypatch.setattr("s2s_mesh.store.redis.ACKNOWLEDGEMENT_WAIT", 2000)  # milliseconds
    with RedisServer() as alone, closing(open_store(alone.url, issuer=issuer)) as store:
        started = time.monotonic()
        for number in range(20):
            store.swap(b"%d" % number if number else None, b"%d" % (number + 1))
        assert time.monotonic() - started < 20  # twenty times two seconds otherwise
    assert not caplog.records


def test_a_replica_takes_no_writes(issuer: str) -> None:
    """A URL that leads to a replica is refused at the first write, with what to check."""
    with replicated() as (_, replica), closing(open_store(replica.url, issuer=issuer)) as store:
        assert store.load() is None
        for _ in range(2):
            with pytest.raises(KeyStoreError, match="URL points to the primary") as refusal:
                store.swap(None, b"first")
            assert refusal.value.reason is StoreReason.UNREACHABLE


# --- Sentinel


def test_messages_pass_behind_a_sentinel(sentinel: SentinelSetup, issuer: str) -> None:
    """Publishing and listening find the primary too."""
    check_notification(sentinel.url, issuer)


def test_a_sentinel_that_is_away_is_passed_over(sentinel: SentinelSetup, issuer: str) -> None:
    """One Sentinel of those listed is enough, wherever it stands in the list."""
    with RedisServer() as gone:
        address = gone.address
    url = sentinel.url.replace("://", f"://{address},")
    with closing(open_store(url, issuer=issuer)) as store:
        store.swap(None, b"first")


def test_an_unknown_service_name_is_unreachable(sentinel: SentinelSetup, issuer: str) -> None:
    """The error repeats the name that the Sentinels do not know."""
    with closing(open_store(sentinel.url + "x", issuer=issuer)) as store:
        with pytest.raises(KeyStoreError, match="walletsx") as refusal:
            store.load()
        assert refusal.value.reason is StoreReason.UNREACHABLE


def test_a_sentinel_may_want_a_login(issuer: str) -> None:
    """Sentinels have passwords of their own; a missing one is a matter of permissions."""
    with RedisServer() as primary:
        config = f"sentinel monitor wallets 127.0.0.1 {primary.port} 1\nrequirepass Tr0ub4dor\n"
        with RedisServer("--sentinel", config=config) as guarded:
            url = f"redis+sentinel://{guarded.address}/wallets"
            with closing(open_store(f"{url}?sentinel_password=Tr0ub4dor", issuer=issuer)) as store:
                store.swap(None, b"first")
            with (
                closing(open_store(f"{url}?sentinel_password=wr0ng", issuer=issuer)) as store,
                pytest.raises(KeyStoreError, match="sentinel_password") as refusal,
            ):
                store.load()
            assert refusal.value.reason is StoreReason.PERMISSIONS
            assert "wr0ng" not in str(refusal.value)


def test_a_failover_keeps_the_document(issuer: str) -> None:
    """When the primary dies, the same store and the same listener go on with the promoted replica."""
    heard: list[str] = []
    with sentinel_setup() as setup, closing(open_store(setup.url, issuer=issuer)) as store:
        assert isinstance(store, Notifier)
        stop = store.listen(heard.append)
        store.swap(None, b"first")
        wait_until(lambda: heard == ["resubscribed"])
        setup.primary.kill()

        wait_until(reached(lambda: store.swap(b"first", b"second")), what="failover")
        assert store.load() == b"second"
        assert b"second" in setup.replica.command("GET", f"s2s-mesh:{{{issuer}}}:ring")
        wait_until(lambda: heard == ["resubscribed"] * 2)
        stop()


# --- Cluster


def test_messages_pass_in_a_cluster(nodes: Sequence[RedisServer], issuer: str) -> None:
    """Publishing and listening work in a cluster."""
    check_notification(cluster_url(nodes), issuer)


def test_everything_of_an_issuer_is_in_one_slot(nodes: Sequence[RedisServer], issuer: str) -> None:
    """Ring, deny list and channel hash to one slot, so that they move together."""
    names = (f"s2s-mesh:{{{issuer}}}:{name}" for name in ("ring", "deny", "changes"))
    assert len({nodes[0].command("CLUSTER", "KEYSLOT", name) for name in names}) == 1


def test_one_node_of_a_cluster_is_enough_to_find_the_others(
    nodes: Sequence[RedisServer], issuer: str
) -> None:
    """Any node may be named in the URL, whichever of them holds the document."""
    held = None
    for number, node in enumerate(nodes):
        with closing(open_store(cluster_url([node]), issuer=issuer)) as store:
            assert store.load() == held
            store.swap(held, b"%d" % number)
            held = b"%d" % number


def test_a_cluster_is_not_a_single_server(nodes: Sequence[RedisServer], issuer: str) -> None:
    """With the scheme of a single server the error names the one that is needed."""
    places = [open_store(node.url, issuer=issuer) for node in nodes]
    refusals = []
    for store in places:
        with closing(store):
            try:
                store.load()
            except KeyStoreError as error:
                refusals.append(error)
    assert len(refusals) == len(nodes) - 1
    for refusal in refusals:
        assert refusal.reason is StoreReason.UNREACHABLE
        assert "redis+cluster://" in str(refusal)


def test_a_slot_that_moves_is_followed(issuer: str) -> None:
    """When the issuer's slot moves to another node, a store that is in use goes on working."""
    with cluster(2) as servers, closing(open_store(cluster_url(servers), issuer=issuer)) as store:
        store.swap(None, b"first")
        key = f"s2s-mesh:{{{issuer}}}:ring"
        slot = servers[0].command("CLUSTER", "KEYSLOT", key).strip(b":\r\n").decode()
        source, target = servers if int(slot) < 8192 else servers[::-1]
        source_id, target_id = (
            server.command("CLUSTER", "MYID").split(b"\r\n")[1].decode() for server in (source, target)
        )
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        moved = source.command("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
        assert moved == b"+OK\r\n"
        assert store.load() == b"first"  # redirected for this once (ASK)
        for server in (target, source):
            assert server.command("CLUSTER", "SETSLOT", slot, "NODE", target_id) == b"+OK\r\n"
        store.swap(b"first", b"second")  # redirected for good (MOVED)
        assert store.load() == b"second"
        assert target.command("GET", key) == b"$6\r\nsecond\r\n"


@pytest.mark.own_times("store")
def test_a_cluster_that_lost_the_slot_is_unreachable(issuer: str) -> None:
    """While nobody serves the issuer's slot the reason is UNREACHABLE; it works again with the node."""
    with cluster(2) as servers, closing(open_store(cluster_url(servers), issuer=issuer)) as store:
        store.swap(None, b"first")
        slot = int(servers[0].command("CLUSTER", "KEYSLOT", f"s2s-mesh:{{{issuer}}}:ring").strip(b":\r\n"))
        holder = servers[slot // 8192]
        holder.pause()
        with pytest.raises(KeyStoreError) as refusal:
            store.load()
        assert refusal.value.reason is StoreReason.UNREACHABLE
        holder.resume()
        wait_until(reached(store.load), what="the cluster is whole again")
        assert store.load() == b"first"


@pytest.mark.own_times("store")
def test_a_frozen_cluster_fails_in_bounded_time(issuer: str) -> None:
    """With every node silent, a call costs a time-out for the node and one for each node asked."""
    with cluster(2) as servers, closing(open_store(cluster_url(servers), issuer=issuer)) as store:
        assert store.load() is None
        for server in servers:
            server.pause()
        started = time.monotonic()
        with pytest.raises(KeyStoreError) as refusal:
            store.load()
        assert refusal.value.reason is StoreReason.UNREACHABLE
        assert time.monotonic() - started < 12
