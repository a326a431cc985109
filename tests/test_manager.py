"""One ring per issuer, whatever replicas, stores and clocks do; no key is made because one was unreadable."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from s2s_mesh import KeyStoreError, RotationSchedule, StoreConflict, StoreReason, TrustConfig
from s2s_mesh import settings as settings_
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import KeyRing
from s2s_mesh.manager import KeyManager, key_manager
from s2s_mesh.store import KeyStore, Sealer, generate_key_encryption_key, open_store
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.strict_json import encode

from .managers import manager
from .servers import RedisServer, run_child, wait_until
from .tokens import EDGE, LEDGER, NOW, Clock, key

DEFAULT, FAST = RotationSchedule.DEFAULT, RotationSchedule.FAST_FOR_TESTS
KEK, OTHER_KEK = bytes(range(32)), bytes(range(1, 33))
DOWN = KeyStoreError(StoreReason.UNREACHABLE, "nobody answers")


class Store(MemoryStore):
    """A store that fails on demand.

    Attributes:
        fault: what every call ends with, or None.
        conflicts: how many of the next swaps end as conflicts.
        before_conflict: called before such a conflict.
        loads, offered: the calls so far; each document that somebody wanted to store.
    """

    def __init__(self, document: bytes | None = None) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.conflicts = 0
        self.before_conflict: Callable[[], object] = lambda: None
        self.loads = 0
        self.offered: list[bytes] = []
        self.put(document)

    def put(self, document: bytes | None) -> None:
        """What an operator, an eviction or a restored backup does."""
        self._document = document

    def load(self) -> bytes | None:
        self.loads += 1
        if self.fault is not None:
            raise self.fault
        return super().load()

    def swap(self, expected: bytes | None, new: bytes) -> None:
        self.offered.append(new)
        if self.fault is not None:
            raise self.fault
        if self.conflicts:
            self.conflicts -= 1
            self.before_conflict()
            raise StoreConflict
        super().swap(expected, new)


class Talking(Store):
    """A store that tells others about changes; `heard` is called with every message."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.heard: Callable[[str], object] = lambda _message: None

    def publish(self, message: str) -> None:
        self.messages.append(message)
        self.heard(message)

    def listen(self, on_message: Callable[[str], None]) -> Callable[[], None]:
        return lambda: None


def refused(replica: KeyManager) -> KeyStoreError:
    """How a step fails; `last_error` says the same."""
    with pytest.raises(KeyStoreError) as failure:
        replica.refresh()
    assert replica.last_error is failure.value
    return failure.value


def kids_offered(document: bytes) -> set[str]:
    return set(KeyRing.parse(document, issuer=EDGE, schedule=DEFAULT).records)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that all tests of this module may write to."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def issuer() -> str:
    """An issuer that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example.com"


# -- one ring -------------------------------------------------------------------------------------------


def test_the_first_replica_makes_the_ring_and_the_second_adopts_it() -> None:
    """A first ring has a signing key and its successor; whoever comes later takes it as it is."""
    store = Store()
    first, second = manager(store), manager(store, may_create=False)
    made = first.refresh()
    assert (len(made.records), made.version) == (2, 1)
    assert made.signing_key(NOW) is not None
    assert second.refresh() == made
    assert second.ring is second.refresh()
    assert first.refresh() is made
    assert (first.writes, second.writes, len(store.offered)) == (1, 0, 1)


@pytest.mark.parametrize("place", ["memory://", "redis://"])
def test_replicas_that_start_together_end_with_one_ring(place: str, issuer: str, server: RedisServer) -> None:
    """Eight replicas at the same instant on an empty store: one of them creates, all hold the same."""
    memory = Store()
    together = threading.Barrier(8)

    def replica(_number: int) -> tuple[bytes, int]:
        store = memory if place == "memory://" else open_store(server.url, issuer=issuer)
        with closing(manager(store, keks=[KEK], issuer=issuer, schedule=FAST)) as starting:
            together.wait(timeout=60)
            return starting.refresh().to_bytes(), starting.writes

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(replica, range(8)))
    assert len({ring for ring, _ in outcomes}) == 1
    assert sum(writes for _, writes in outcomes) == 1


def test_a_process_that_serves_no_jwks_never_makes_the_first_key() -> None:
    """It is told what to start instead, stores nothing, and goes on by itself once there is a ring."""
    store = Store()
    batch = manager(store, may_create=False)
    error = refused(batch)
    assert error.reason is StoreReason.NO_RING
    assert str(error) == (
        f"no ring for {EDGE}: start a process that serves service.routes, run `s2s-mesh serve`, or run "
        "`s2s-mesh keys init`"
    )
    assert (batch.ring, store.offered) == (None, [])
    ring = manager(store).refresh()
    assert batch.refresh() == ring
    assert batch.last_error is None


def test_keys_are_of_the_algorithm_configured() -> None:
    """First key and successor are of the algorithm of the process that makes them."""
    ring = manager(Store(), algorithm="Ed25519").refresh()
    assert [record.public.alg for record in ring.records.values()] == ["Ed25519", "Ed25519"]


# -- a store that lost the ring ---------------------------------------------------------------------------


def test_a_holder_writes_a_lost_ring_back() -> None:
    """After a FLUSHALL the ring is what it was; also a process that may not create heals it."""
    store = Store()
    holder = manager(store, may_create=False)
    made = manager(store).refresh()
    holder.refresh()
    store.put(None)
    assert holder.refresh() == made
    assert manager(store, may_create=False).refresh() == made


def test_a_newcomer_asks_first_and_adopts_what_a_holder_writes_back() -> None:
    """On an empty store a replica that may create says `who-has`, waits, and looks again."""
    store = Talking()
    holder, newcomer = manager(store, schedule=FAST), manager(store, schedule=FAST)
    made = holder.refresh()
    store.put(None)
    store.messages.clear()
    store.heard = lambda message: holder.refresh() if message == "who-has" else None
    assert newcomer.refresh() == made
    assert (newcomer.writes, store.messages) == (0, ["who-has", "changed"])


def test_a_holder_that_listens_answers_at_once(
    server: RedisServer, issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real server the newcomer's question makes the holder write back before anything is created."""

    def until_answered(_least: float, _most: float) -> float:
        wait_until(lambda: holder.writes == 2, what="the holder's answer")
        return 0.0  # more of the time that a newcomer gives holders

    stores = [open_store(server.url, issuer=issuer) for _ in range(2)]
    holder, newcomer = (manager(store, keks=[KEK], issuer=issuer, schedule=FAST) for store in stores)
    with closing(holder), closing(newcomer):
        made = holder.refresh()
        woken: list[float] = []

        def wake() -> None:
            woken.append(time.monotonic())
            holder.refresh()

        stop = holder.listen(wake)
        try:
            wait_until(lambda: woken, what="subscribed")
            server.flushall()
            monkeypatch.setattr("s2s_mesh.manager.between", until_answered)
            assert newcomer.refresh() == made
        finally:
            stop()
        assert (newcomer.writes, holder.writes) == (0, 2)


def test_without_a_holder_a_new_ring_is_made_within_seconds(server: RedisServer, issuer: str) -> None:
    """Nobody answers on a first start, so the wait is bounded."""
    started = time.monotonic()
    with closing(manager(open_store(server.url, issuer=issuer), keks=[KEK], issuer=issuer)) as alone:
        alone.refresh()
    assert 1.0 <= time.monotonic() - started < 20  # for ever otherwise
    assert alone.writes == 1


def test_the_wait_for_holders_can_be_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped during its first start does not wait for others."""
    monkeypatch.setattr("s2s_mesh.manager.between", lambda _least, _most: 60.0)  # not one to two seconds
    store = Talking()
    starting = manager(store)
    store.heard = lambda _message: starting.interrupt()
    started = time.monotonic()
    starting.refresh()
    assert time.monotonic() - started < 20


# -- a document that cannot be read -------------------------------------------------------------------------


def sealed(plain: bytes, *, kek: bytes = KEK, issuer: str = EDGE) -> bytes:
    return Sealer([kek], issuer=issuer).seal(plain)


def ring_bytes(issuer: str = EDGE) -> bytes:
    keys = iter([key("ES256", "first"), key("ES256", "second")])
    return KeyRing(issuer, DEFAULT).advance(NOW, generate=lambda: next(keys)).to_bytes()


GOOD = sealed(ring_bytes())
CHANGED = GOOD[:300] + (b"B" if GOOD[300:301] == b"A" else b"A") + GOOD[301:]
UNREADABLE: list[tuple[str, bytes, StoreReason]] = [
    ("another key", sealed(ring_bytes(), kek=OTHER_KEK), StoreReason.WRONG_KEY_ENCRYPTION_KEY),
    ("one character changed", CHANGED, StoreReason.TAMPERED),
    ("another issuer", sealed(ring_bytes(LEDGER), issuer=LEDGER), StoreReason.OTHER_ISSUER),
    ("another issuer inside", sealed(ring_bytes(LEDGER)), StoreReason.OTHER_ISSUER),
    ("not sealed", ring_bytes(), StoreReason.PLAINTEXT),
    ("cut in half", GOOD[: len(GOOD) // 2], StoreReason.TRUNCATED),
    ("empty", b"", StoreReason.TRUNCATED),
    ("not a ring", sealed(b'{"v":1}'), StoreReason.UNREADABLE),
    ("a later format", sealed(encode({**json.loads(ring_bytes()), "v": 2})), StoreReason.UNREADABLE),
]
WAYS = [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in UNREADABLE]


@pytest.mark.parametrize(("document", "reason"), WAYS)
def test_an_unreadable_document_is_never_a_reason_to_make_a_key(document: bytes, reason: StoreReason) -> None:
    """At a first start it is an error with its own reason; the document stays as it is."""
    store = Store(document)
    starting = manager(store, keks=[KEK])
    for _ in range(2):
        assert refused(starting).reason is reason
    assert starting.ring is None
    assert (store.load(), store.offered) == (document, [])
    store.put(GOOD)
    assert starting.refresh().to_bytes() == ring_bytes()
    assert starting.last_error is None


@pytest.mark.parametrize(("document", "reason"), WAYS)
def test_a_ring_that_is_held_outlives_an_unreadable_document(document: bytes, reason: StoreReason) -> None:
    """A running replica keeps signing and serving, changes nothing in the store, and says why."""
    store = Store(GOOD)
    running = manager(store, keks=[KEK])
    held = running.refresh()
    store.put(document)
    error = refused(running)
    assert error.reason is reason
    assert EDGE in str(error) or "document" in str(error)
    assert running.ring is held
    assert (store.load(), store.offered) == (document, [])
    store.put(None)  # the operator deletes it, as the message says
    assert running.refresh() == held
    assert running.last_error is None


def test_a_sealed_document_needs_its_key() -> None:
    """A replica without a key-encryption key says which variable is missing."""
    error = refused(manager(Store(GOOD)))
    assert error.reason is StoreReason.MISSING_KEY_ENCRYPTION_KEY
    assert "S2S_MESH_KEY_ENCRYPTION_KEY" in str(error)


@pytest.mark.parametrize("private", [{"d": "AAAA"}, {}, "stolen", 5], ids=str)
def test_a_private_half_that_is_none_is_found_before_anything_is_signed(private: object) -> None:
    """A ring whose signing key cannot sign for its public half is unreadable; nothing of it is quoted."""
    document = json.loads(ring_bytes())
    secrets = [entry["private"]["d"] for entry in document["keys"]]
    for entry in document["keys"]:
        entry["private"] = private
    damaged = manager(Store(encode(document)))
    error = refused(damaged)
    assert error.reason is StoreReason.UNREADABLE
    assert not any(secret in str(error) for secret in [*secrets, "AAAA", "stolen"])
    assert damaged.ring is None


def test_swapped_private_halves_are_found() -> None:
    """Whole, but of another key: a signature made with it would verify nowhere."""
    document = json.loads(ring_bytes())
    one, other = document["keys"]
    one["private"], other["private"] = other["private"], one["private"]
    assert refused(manager(Store(encode(document)))).reason is StoreReason.UNREADABLE


# -- a store that fails -------------------------------------------------------------------------------------


def test_an_unreachable_store_changes_nothing_that_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """The ring stays, the error is logged once however often it repeats, and its end is logged too."""
    caplog.set_level(logging.INFO, logger="s2s_mesh.keys")
    store = Store()
    replica = manager(store)
    held = replica.refresh()
    caplog.clear()
    store.fault = DOWN
    for _ in range(3):
        assert refused(replica).reason is StoreReason.UNREACHABLE
    assert replica.ring is held
    store.fault = KeyStoreError(StoreReason.PERMISSIONS, "not allowed")
    refused(replica)
    store.fault = None
    assert replica.refresh() is held
    assert replica.last_error is None
    replica.refresh()
    assert [record.getMessage() for record in caplog.records] == [
        f"key ring of {EDGE}: unreachable: nobody answers",
        f"key ring of {EDGE}: permissions: not allowed",
        f"key ring of {EDGE} is in order again",
    ]


def test_a_first_start_without_a_store_recovers_by_itself() -> None:
    """Nothing is held and nothing invented until the store answers."""
    store = Store()
    store.fault = DOWN
    starting = manager(store)
    assert refused(starting).reason is StoreReason.UNREACHABLE
    assert starting.ring is None
    store.fault = None
    assert len(starting.refresh().records) == 2


def test_many_callers_share_one_attempt_while_the_store_hangs() -> None:
    """Whoever needs a first ring waits for one time-out of the store and not for one of each caller."""

    class Hanging(Store):
        def load(self) -> bytes | None:
            time.sleep(0.2)
            return super().load()

    store = Hanging()
    store.fault = DOWN
    starting = manager(store)
    together = threading.Barrier(20)

    def ask(_number: int) -> StoreReason:
        together.wait(timeout=60)
        with pytest.raises(KeyStoreError, match="nobody answers") as failure:
            starting.load()
        return failure.value.reason

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(20))) == {StoreReason.UNREACHABLE}
    assert store.loads <= 3
    store.fault = None
    with ThreadPoolExecutor(20) as pool:
        rings = list(pool.map(lambda _number: starting.load(), range(20)))
    assert all(ring is rings[0] for ring in rings)
    assert starting.load() is rings[0]
    assert starting.writes == 1


def test_conflicts_are_retried_with_the_same_keys() -> None:
    """However many others write first, the keys of one series of attempts are made once."""
    store = Store()
    store.conflicts = 5
    replica = manager(store)
    ring = replica.refresh()
    assert len(store.offered) == 6
    assert {frozenset(kids_offered(document)) for document in store.offered} == {frozenset(ring.records)}


def test_a_series_of_conflicts_ends_and_the_next_poll_goes_on() -> None:
    """A step gives up in bounded time; the keys it has made are those of the next step as well."""
    store = Store()
    store.conflicts = 1000
    replica = manager(store)
    replica.interrupt()  # no pauses
    error = refused(replica)
    assert error.reason is StoreReason.CONFLICT
    assert 5 <= len(store.offered) <= 50
    assert replica.ring is None
    store.conflicts = 0
    ring = replica.refresh()
    assert kids_offered(store.offered[0]) == set(ring.records)


def test_keys_survive_a_store_that_fails_after_they_were_made() -> None:
    """A write that fails is repeated with the same keys, also where it had been carried out after all."""
    store = Store()
    store.conflicts = 1

    def fail() -> None:
        store.fault = DOWN

    store.before_conflict = fail
    replica = manager(store)
    assert refused(replica).reason is StoreReason.UNREACHABLE
    store.fault = None
    assert set(replica.refresh().records) == kids_offered(store.offered[0])


def test_the_loser_of_a_race_adopts_the_winner() -> None:
    """A conflict on the first write means that there is a ring now, and that is the one."""
    store = Store()
    winner, loser = manager(store), manager(store)
    store.conflicts = 1
    store.before_conflict = winner.refresh
    assert loser.refresh() == winner.ring
    assert (winner.writes, loser.writes) == (1, 0)


# -- time ---------------------------------------------------------------------------------------------------


def test_rotation_runs_by_itself_for_many_periods() -> None:
    """Two replicas that poll now and then: always a key to sign with, known to both, and a successor."""
    clock, store = Clock(), Store()
    replicas = [manager(store, clock, schedule=FAST) for _ in range(2)]
    seen_published: dict[str, float] = {}
    first_signed: dict[str, float] = {}
    last_signed: dict[str, float] = {}
    step = FAST.replica_lag / 4
    for number in range(int(6 * FAST.period / step)):
        clock.now = NOW + number * step
        for replica, every in zip(replicas, (2, 3), strict=True):
            if number % every == 0:
                replica.refresh()
        rings = [replica.ring for replica in replicas]
        published = [set(ring.jwks(clock.now).keys) for ring in rings if ring is not None]
        for kid in published[0] & published[1]:
            seen_published.setdefault(kid, clock.now)
        for ring in rings:
            assert ring is not None
            signing = ring.signing_record(clock.now)
            assert signing is not None
            assert all(signing.kid in kids for kids in published)
            successors = [r for r in ring.records.values() if r.may_sign_until() > signing.sign_until]
            # it is made by the first poll after the key before it became the signing key
            assert successors or clock.now < signing.sign_from + FAST.replica_lag
            assert all(record.published(clock.now) for record in successors)
            first_signed.setdefault(signing.kid, clock.now)
            last_signed[signing.kid] = clock.now
        assert all(len(kids) <= 4 for kids in published)
        for kid, at in last_signed.items():
            # a token of a key's last moment is good for T and S more
            assert clock.now > at + FAST.max_token_life + FAST.max_skew or all(kid in k for k in published)
    assert len(first_signed) == 6
    leads = [at - seen_published[kid] for kid, at in first_signed.items()]
    assert leads[0] == 0  # a first key has no predecessor to sign meanwhile
    assert all(lead >= FAST.lead for lead in leads[1:])


def test_any_replica_may_make_the_successor() -> None:
    """Rotation goes on while only processes without routes are awake."""
    clock, store = Clock(), Store()
    first = manager(store, clock).refresh()
    batch = manager(store, clock, may_create=False)
    clock.now = NOW + DEFAULT.period
    ring = batch.refresh()
    assert len(ring.records) == 3
    assert set(first.records) < set(ring.records)
    assert batch.writes == 1


def test_a_step_that_finds_nothing_due_writes_nothing() -> None:
    """Polling is reading; the snapshot keeps its identity, so that nothing downstream is computed anew."""
    clock, store = Clock(), Store()
    replica = manager(store, clock)
    held = replica.refresh()
    for _ in range(5):
        clock.now += 10
        assert replica.refresh() is held
    assert len(store.offered) == 1


def test_a_store_that_went_back_is_healed(caplog: pytest.LogCaptureFixture) -> None:
    """An old backup does not bring a revoked key back while any replica remembers the revocation."""
    store = Store()
    replica = manager(store)
    first = replica.refresh()
    backup = store.load()
    signing = first.signing_key(NOW)
    assert signing is not None
    store.put(first.compromise(signing.kid, NOW).written().to_bytes())
    revoked = replica.refresh()
    assert signing.kid not in revoked.jwks(NOW).keys
    store.put(backup)
    healed = replica.refresh()
    assert healed == revoked
    assert healed.version > revoked.version
    assert f"went back from version {revoked.version} to 1; healing it" in caplog.text
    assert manager(store, may_create=False).refresh() == revoked


def test_an_older_version_of_the_same_content_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    """The number counts writes and no more: there is nothing to heal, and nothing to say at every poll."""
    caplog.set_level(logging.WARNING, "s2s_mesh")
    store = Store()
    replica = manager(store)
    document = encode({**json.loads(replica.refresh().to_bytes()), "version": 7})
    backup = store.load()
    store.put(document)
    assert replica.refresh().version == 7
    store.put(backup)
    assert replica.refresh().version == 7
    assert (store.load(), caplog.text) == (backup, "")


@pytest.mark.parametrize("held", [True, False], ids=["held", "loaded"])
def test_a_ring_of_expired_keys_begins_anew_like_a_first_start(held: bool) -> None:
    """After a long sleep only a process that serves the JWKS may do so; what is published stays so."""
    clock, store = Clock(), Store(ring_bytes())
    batch, web = manager(store, clock, may_create=False), manager(store, clock)
    if held:
        batch.refresh()
        web.refresh()
    clock.now = NOW + 2 * DEFAULT.period + DEFAULT.drain / 2
    error = refused(batch)
    assert error.reason is StoreReason.NO_RING
    assert "no ring with an unexpired key" in str(error)
    assert store.offered == []
    ring = web.refresh()
    old: list[KeyRecord] = [r for r in ring.records.values() if r.created == NOW]
    assert [record.private for record in old] == [None]
    assert len(ring.jwks(clock.now).keys) == 3
    assert batch.refresh() == ring


# -- beside the steps ---------------------------------------------------------------------------------------


def create_elsewhere(url: str, issuer: str) -> None:
    """What another process does; prints the key ids."""
    with closing(manager(open_store(url, issuer=issuer), keks=[KEK], issuer=issuer, schedule=FAST)) as other:
        print(*other.refresh().records)


def test_a_change_by_another_process_wakes_whoever_listens(server: RedisServer, issuer: str) -> None:
    """The message comes at once, and with it the ring, without waiting for a poll."""
    waiting = manager(
        open_store(server.url, issuer=issuer), keks=[KEK], issuer=issuer, schedule=FAST, may_create=False
    )
    woken = threading.Event()
    with closing(waiting):
        stop = waiting.listen(woken.set)
        try:
            assert woken.wait(60)  # subscribed
            woken.clear()
            kids = run_child(create_elsewhere, server.url, issuer)
            assert woken.wait(60)
        finally:
            stop()
        assert list(waiting.refresh().records) == kids.split()


def test_a_store_that_cannot_tell_is_polled_only() -> None:
    """Listening on such a store does nothing, and stopping neither."""
    calls: list[str] = []
    manager(Store()).listen(lambda: calls.append("woken"))()
    assert calls == []


def test_peek_shows_what_is_stored_and_changes_nothing() -> None:
    """None where there is nothing; an error where it cannot be read; never a write."""
    store = Store()
    looking = manager(store, keks=[KEK])
    assert looking.peek() is None
    store.put(GOOD)
    assert looking.peek() == KeyRing.parse(ring_bytes(), issuer=EDGE, schedule=DEFAULT)
    store.put(ring_bytes())
    with pytest.raises(KeyStoreError) as refusal:
        looking.peek()
    assert refusal.value.reason is StoreReason.PLAINTEXT
    assert (looking.ring, store.offered) == (None, [])


def test_a_closed_manager_keeps_its_snapshot() -> None:
    """Closing lets go of the store, not of the ring."""
    replica = manager(Store())
    ring = replica.refresh()
    replica.close()
    replica.close()
    assert replica.ring is ring


def settings_for(key_store: str | KeyStore | None, kek: str | None = None) -> settings_.Settings:
    return settings_.build(
        issuer=EDGE,
        trust=TrustConfig.parse("version = 1"),
        key_store=key_store,
        key_encryption_key=kek,
        algorithm="Ed25519",
        schedule=FAST,
    )


def test_a_service_seals_what_other_processes_could_read(tmp_path: Path) -> None:
    """A shared store holds one sealed document; one that lives in memory needs no seal."""
    settings = settings_for(f"file://{tmp_path}/keys", generate_key_encryption_key())
    store = settings.open_key_store()
    assert store is not None
    with closing(key_manager(settings, store, may_create=lambda: True, clock=Clock())) as made:
        ring = made.refresh()
        assert {record.public.alg for record in ring.records.values()} == {"Ed25519"}
        assert ring.schedule is FAST
        document = store.load()
    assert document is not None
    assert document.startswith(b"eyJ")
    assert document.count(b".") == 4
    memory = MemoryStore()
    key_manager(settings, memory, may_create=lambda: True, clock=Clock()).refresh()
    assert (memory.load() or b"").startswith(b"{")


def test_a_process_that_was_frozen_for_longer_than_its_keys_loads_before_it_signs() -> None:
    """What is held has run out, so whoever needs a key takes a step first; a store that is away says so."""
    store, clock = Store(), Clock()
    frozen, other = manager(store, clock), manager(store, clock)
    held = frozen.refresh()
    assert frozen.load() is held
    clock.now += 3 * DEFAULT.period
    store.fault = DOWN
    with pytest.raises(KeyStoreError) as refused:
        frozen.load()
    assert refused.value.reason is StoreReason.UNREACHABLE
    store.fault = None
    other.refresh()
    assert frozen.load() == other.ring
    assert frozen.load().signing_key(clock.now) is not None
