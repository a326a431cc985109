"""The living parts: what the housekeeper does without being asked, and what it survives."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import (
    ConfigError,
    KeyStoreError,
    RotationSchedule,
    Service,
    StoreReason,
    TokenRejected,
    TrustConfig,
)
from s2s_mesh.errors import Reason
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import decode
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.manager import KeyManager
from s2s_mesh.store import SealedStore, Sealer, open_store, parse_key_encryption_keys
from s2s_mesh.store.memory import MemoryStore

from .receiver import TRUST
from .servers import RedisServer, wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, Clock, good, key

DEFAULT, FAST = RotationSchedule.DEFAULT, RotationSchedule.FAST_FOR_TESTS
NOBODY = TrustConfig.parse("version = 1")
KEK = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"
DOWN = KeyStoreError(StoreReason.UNREACHABLE, "nobody answers")
TICK = 600.0  # seconds between two looks of a housekeeper that is left alone
SELDOM = RotationSchedule(replica_lag=3 * TICK, drain=6 * TICK)


class Store(MemoryStore):
    """A store that counts, fails on demand, and can tell about changes.

    Attributes:
        fault: what `load` ends with, or None.
        loads: the calls so far.
        during_load: called in each of them.
        tell: who listens for changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.loads = 0
        self.during_load: Callable[[], object] = lambda: None
        self.tell: Callable[[str], None] = lambda _message: None

    def load(self) -> bytes | None:
        self.loads += 1
        document = super().load()
        self.during_load()
        if self.fault is not None:
            raise self.fault
        return document

    def put(self, ring: KeyRing) -> None:
        """What another replica writes."""
        self._document = ring.to_bytes()


class Shared(Store):
    """The same, as if other processes could hold the ring too."""

    shared = True


class Talking(Store):
    """The same, with a channel."""

    def publish(self, message: str) -> None:
        pass

    def listen(self, on_message: Callable[[str], None]) -> Callable[[], None]:
        self.tell = on_message
        return lambda: None


@pytest.fixture
def make() -> Iterator[Callable[..., Service]]:
    """Makes services that are stopped at the end."""
    made: list[Service] = []

    def new(
        store: Any = "memory://", *, clock: Clock | None = None, serves: bool = True, **more: Any
    ) -> Service:
        service = Service(**{"issuer": EDGE, "trust": NOBODY, "key_store": store, **more})
        if clock is not None:
            service.clock = clock
        if serves and store is not None:
            assert service.routes
        made.append(service)
        return service

    yield new
    for service in made:
        service.__exit__()


def made_ring(clock: Callable[[], float]) -> KeyRing:
    """A ring as a web process makes it."""
    return manager(MemoryStore(), clock).refresh()


def manager(store: Any, clock: Callable[[], float]) -> KeyManager:
    """Another replica's manager."""
    return KeyManager(
        SealedStore(store, None),
        issuer=EDGE,
        schedule=DEFAULT,
        algorithm="ES256",
        may_create=lambda: True,
        clock=clock,
    )


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("s2s-mesh")}


def soon(happened: Callable[[], object]) -> bool:
    """Whether it happens long before the housekeeper's next tick."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.005)
    return False


# -- being overdue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "seconds"),
    [
        ("token", 7200),
        ("token", -7200),
        ("asap token", 7200),
        ("SVID", 7200),
        ("federation token", 7200),
        ("verify", 5 * TICK),
        ("request", -7200),
    ],
)
def test_whoever_finds_the_housekeeper_overdue_wakes_it(
    make: Callable[..., Service], use: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use after a sleep, or after the clock was moved, has the ring looked at without delay."""
    monkeypatch.setattr("s2s_mesh.runtime._TICK", TICK)
    clock, store = Clock(), Store()
    service = make(store, clock=clock, schedule=SELDOM, spiffe_id="spiffe://edge.example.com/edge")
    service.load()
    mints = {
        "token": lambda: service.token(WALLETS),
        "asap token": lambda: service.asap_token("team/wallets", issuer="team/edge"),
        "SVID": lambda: service.jwt_svid(WALLETS),
        "federation token": lambda: service.federation_token("aws"),
    }

    def used() -> None:
        if use in mints:
            mints[use]()
        elif use == "verify":
            with pytest.raises(TokenRejected):
                service.verify("x")
        else:
            service.running().check_overdue(clock())  # what the ASGI door does

    # the first look may be the one at the start; and who is looking just now has seen the clock, and is not
    # overdue
    for attempt in range(5):
        loads = store.loads
        clock.now += seconds
        used()
        if soon(lambda before=loads: store.loads > before) and attempt:  # type: ignore[misc]
            return
    pytest.fail("use did not wake the housekeeper")


def test_use_in_time_wakes_nobody(make: Callable[..., Service]) -> None:
    """A thousand tokens of one second cost no look at the store."""
    clock, store = Clock(), Store()
    service = make(store, clock=clock)
    wait_until(lambda: service.running().ring, what="the housekeeper's first look")
    loads = store.loads
    for _ in range(1000):
        service.token(WALLETS)
    assert store.loads == loads


def test_a_key_that_an_issuer_revoked_during_a_sleep_is_dropped(
    make: Callable[..., Service], tmp_path: Path
) -> None:
    """After an hour the other issuers' keys are read anew, although the old ones might still serve."""
    publish(tmp_path, "edge", key("ES256", "first"))
    publish(tmp_path, "ledger")
    clock = Clock()
    service = make(None, clock=clock, issuer=WALLETS, trust=write_trust(tmp_path))
    assert service.verify(good(key("ES256", "first"))).issuer == EDGE
    publish(tmp_path, "edge", key("ES256", "second"))
    clock.now += 3600
    token = good(key("ES256", "first"), iat=NOW + 3600, exp=NOW + 3720)

    def refused() -> bool:
        try:
            service.verify(token)
        except TokenRejected as refusal:
            return refusal.reason is Reason.UNKNOWN_KID
        return False

    wait_until(refused)


# -- housekeeping -------------------------------------------------------------------------------------------


def publish(folder: Path, name: str, *keys: SigningKey) -> None:
    (folder / f"{name}.jwks.json").write_bytes(JWKSet(signing.public for signing in keys).to_bytes())


def write_trust(folder: Path, text: str | None = None) -> Path:
    """Replace the trust file as a deployment does: by a rename."""
    usual = TRUST.format(edge=EDGE, wallets=WALLETS, ledger=LEDGER, algorithms='["ES256"]', may_act_for=[])
    fresh = folder / "new.toml"
    fresh.write_text(usual if text is None else text)
    return fresh.replace(folder / "trust.toml")


def test_a_changed_trust_file_is_in_force_without_a_restart(
    make: Callable[..., Service], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A withdrawn grant refuses within a second or two; a bad file changes nothing and is logged."""
    publish(tmp_path, "edge", key("ES256", "first"))
    publish(tmp_path, "ledger")
    clock = Clock()
    service = make(None, clock=clock, issuer=WALLETS, trust=write_trust(tmp_path))
    token = good(key("ES256", "first"))
    assert service.verify(token).scopes == {"cards:read", "cards:write"}

    write_trust(tmp_path, "this is no trust file")
    wait_until(lambda: "last good content stays in force" in caplog.text)
    assert service.verify(token).scopes == {"cards:read", "cards:write"}

    def reason() -> Reason | None:
        try:
            service.verify(token)
        except TokenRejected as refusal:
            return refusal.reason
        return None

    write_trust(tmp_path, "version = 1")
    wait_until(lambda: reason() is Reason.UNKNOWN_ISSUER)


def test_a_store_that_comes_back_makes_the_service_ready_by_itself(make: Callable[..., Service]) -> None:
    """It starts without its store, says why it is not ready, and retries without being asked."""
    store = Store()
    store.fault = DOWN
    with make(store) as service:
        assert (service.ready, service.not_ready_reason) == (False, "nobody answers")
        with pytest.raises(KeyStoreError, match="nobody answers"):
            service.token(WALLETS)
        store.fault = None
        wait_until(lambda: service.ready)
        assert (service.not_ready_reason, bool(service.token(WALLETS))) == (None, True)


def test_retries_come_further_and_further_apart(make: Callable[..., Service]) -> None:
    """From half a second up to the poll interval, so that a store that is down is not hammered."""
    clock, store = Clock(), Store()
    store.fault = DOWN
    service = make(store, clock=clock)
    runtime = service.running()
    runtime.stop()  # from here on the housekeeper's work is done by hand
    tried: list[float] = []
    store.during_load = lambda: tried.append(clock.now)
    started = clock.now = clock.now + 100
    while clock.now < started + 60:
        runtime.keep_house_once()
        clock.now += 0.25
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert all(0.5 <= pause <= 10.25 for pause in pauses)
    assert pauses[-1] > 5
    assert len(tried) < 15
    store.fault = None
    store.put(made_ring(clock))
    clock.now += 10
    runtime.keep_house_once()
    assert service.running().ring is not None


def test_an_error_that_nobody_foresaw_ends_no_thread(
    make: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, and housekeeping goes on."""
    clock, store = Clock(), Store()
    store.fault = RuntimeError("a bug in a store")
    service = make(store, clock=clock)
    service.running()
    wait_until(lambda: "housekeeping failed: this is a bug" in caplog.text)
    assert "RuntimeError: a bug in a store" in caplog.text
    store.fault = None
    clock.now += 60
    wait_until(lambda: service.running().ring is not None)


def test_a_store_that_fails_to_listen_is_polled(
    make: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    """Messages are a help and no need."""

    class Deaf(Talking):
        def listen(self, on_message: Callable[[str], None]) -> Callable[[], None]:
            raise RuntimeError("can't start new thread")

    store = Deaf()
    store.put(made_ring(time.time))
    service = make(store)
    wait_until(lambda: service.running().ring is not None)
    assert "polling goes on" in caplog.text


def test_a_message_that_comes_during_a_step_is_not_lost(make: Callable[..., Service]) -> None:
    """What another replica writes while this one is still reading is read at once, not at the next poll."""
    clock, store = Clock(), Talking()
    store.put(made_ring(clock))
    service = make(store, clock=clock)
    wait_until(lambda: service.running().ring, what="the housekeeper's first look")
    ring = service.running().load_ring()
    signing = ring.signing_key(NOW)
    assert signing is not None

    def change_meanwhile() -> None:
        store.during_load = lambda: None
        store.put(ring.compromise(signing.kid, NOW))
        store.tell("changed")

    store.during_load = change_meanwhile
    store.tell("changed")

    def revoked() -> bool:
        held = service.running().ring
        return held is not None and signing.kid not in held.jwks(NOW).keys

    wait_until(revoked)  # by this clock no poll is due ever again


def test_a_revocation_elsewhere_is_served_at_once(make: Callable[..., Service]) -> None:
    """With a store that tells, every replica drops a revoked key long before its next poll."""
    with RedisServer() as server:
        issuer = f"https://{uuid.uuid4().hex}.example.com"
        clock = Clock()
        service = make(server.url, clock=clock, issuer=issuer, key_encryption_key=KEK)
        signing = service.running().load_ring().signing_key(NOW)
        assert signing is not None
        token = service.token(WALLETS)
        store = open_store(server.url, issuer=issuer)
        with closing(SealedStore(store, Sealer(parse_key_encryption_keys(KEK), issuer=issuer))) as elsewhere:
            document = elsewhere.load()
            assert document is not None
            ring = KeyRing.parse(document.plain, issuer=issuer, schedule=DEFAULT)
            elsewhere.swap(document, ring.compromise(signing.kid, NOW).to_bytes())
            store.publish("changed")  # type: ignore[attr-defined]
            wait_until(lambda: service.token(WALLETS) != token)
        assert decode(service.token(WALLETS).encode()).header.kid != signing.kid


# -- signing ------------------------------------------------------------------------------------------------


def test_a_process_without_routes_signs_once_the_key_is_served_everywhere(
    make: Callable[..., Service],
) -> None:
    """It says how long that takes; from the replica lag on it signs; one that serves signs at once."""
    clock, store = Clock(), Shared()
    store.put(made_ring(clock))
    batch, web = (
        make(store, clock=clock, serves=False, allow_unsealed_key_store=True),
        make(store, clock=clock, allow_unsealed_key_store=True),
    )
    with pytest.raises(KeyStoreError, match="signs in 30 s") as refusal:
        batch.token(WALLETS)
    assert refusal.value.reason is StoreReason.NO_SIGNING_KEY
    assert web.token(WALLETS)
    clock.now += DEFAULT.replica_lag
    assert batch.token(WALLETS)


def test_a_batch_process_that_cannot_sign_hears_of_a_failing_store_too(make: Callable[..., Service]) -> None:
    """Both causes stand in one text, because the second may be why the first lasts."""
    clock, store = Clock(), Shared()
    store.put(made_ring(clock))
    batch = make(store, clock=clock, serves=False, allow_unsealed_key_store=True)
    batch.load()
    store.fault = DOWN
    with pytest.raises(KeyStoreError):
        batch.running().manager.refresh()  # type: ignore[union-attr]
    with pytest.raises(KeyStoreError, match=r"signs in 30 s.*and the store: nobody answers") as refusal:
        batch.token(WALLETS)
    assert refusal.value.reason is StoreReason.NO_SIGNING_KEY


def test_memory_serves_tests_and_notebooks_at_once(make: Callable[..., Service]) -> None:
    """A ring that nobody else can see needs no other process, whether routes are served or not."""
    for url in ("memory://", "MEMORY://"):
        assert make(url, serves=False).token(WALLETS)


def test_signing_goes_on_while_the_store_is_gone(make: Callable[..., Service]) -> None:
    """Tokens come from the ring in memory for as long as its keys may sign."""
    clock, store = Clock(), Store()
    service = make(store, clock=clock)
    service.load()
    store.fault = DOWN
    for _ in range(20):
        clock.now += DEFAULT.period / 20
        assert service.token(WALLETS)


def test_a_service_that_only_verifies_has_nothing_to_sign_with(make: Callable[..., Service]) -> None:
    """It is ready without a ring; asking it for a token is a ConfigError that names the argument."""
    service = make(None)
    assert service.ready
    assert service.running().ring is None
    for ask in (service.load, lambda: service.token(WALLETS)):
        with pytest.raises(ConfigError, match="key_store=None"):
            ask()


# -- the end ------------------------------------------------------------------------------------------------


def test_stopping_ends_every_thread_and_socket(make: Callable[..., Service], tmp_path: Path) -> None:
    """Housekeeper, listener and fetchers are gone, no resource is left to the garbage collector."""
    before = our_threads()
    publish(tmp_path, "edge", key("ES256", "first"))
    publish(tmp_path, "ledger")
    with RedisServer() as server:
        service = make(
            server.url, issuer=WALLETS, trust=write_trust(tmp_path), key_encryption_key=KEK, schedule=FAST
        )
        with service:
            now = int(time.time())
            service.verify(good(key("ES256", "first"), iat=now, exp=now + 60))
            assert service.token(LEDGER)
            names = {"s2s-mesh-housekeeper", "s2s-mesh-listener"}
            wait_until(lambda: names < {thread.name for thread in our_threads() - before})
        wait_until(lambda: our_threads() <= before)
        gc.collect()  # what was not closed would warn, and warnings are errors


def test_stopping_does_not_wait_for_holders_that_do_not_exist(
    make: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped during its first start leaves at once."""
    monkeypatch.setattr("s2s_mesh.manager.between", lambda _least, _most: 60.0)  # not one to two seconds
    before = our_threads()
    store = Talking()
    service = make(store)
    service.running()
    wait_until(lambda: store.loads, what="a first start")  # now it waits for holders
    service.__exit__()
    assert our_threads() <= before


def test_a_stopped_service_starts_anew_with_its_ring(make: Callable[..., Service]) -> None:
    """Stopping is no end: the next use makes everything again."""
    before = our_threads()
    service = make(Store())
    with service:
        token = service.token(WALLETS)
    assert our_threads() <= before
    again = service.token(WALLETS)
    assert decode(again.encode()).header == decode(token.encode()).header


def test_the_housekeeper_is_quiet_when_all_is_well(
    make: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    """A start says once what was written; nothing else is worth a line."""
    caplog.set_level(logging.DEBUG, logger="s2s_mesh")
    store = Store()
    with make(store) as service:
        wait_until(lambda: store.loads >= 3, what="the housekeeper's first look")
        service.token(WALLETS)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"key ring of {EDGE} written: version 1")
