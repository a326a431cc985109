"""The shared JWKS cache: one process asks and all know; writing to the store makes nobody known."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh.deny_list import EMPTY
from s2s_mesh.drivers import drive
from s2s_mesh.errors import ConfigError, JWKSUnavailable, TokenRejected
from s2s_mesh.jwks_client import JWKSClient
from s2s_mesh.jwks_shared import shared_jwks
from s2s_mesh.keys import SigningKey
from s2s_mesh.runtime import Runtime
from s2s_mesh.settings import Settings, build
from s2s_mesh.settings_env import from_env
from s2s_mesh.store import KeyStore, Sealer, open_store
from s2s_mesh.store.conflicts import despite_conflicts
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.store.redis_errors import acl

from .jwks_servers import Clock, Endpoint, JWKSServer, Wallets, answer, jwks, trust_in
from .patience import LONG, own_times
from .servers import RedisServer, run_child, wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, key

KEK = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"
KEK_2 = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI"
OLD = [b"A" * 32]
NEW = [b"B" * 32]
OTHER, THIRD, INTRUDER = key(name="second"), key(name="third"), key(name="intruder")
LIMIT = 256 * 1024  # bytes


class Worker(Wallets):
    """One process of `wallets`: state of its own, and a store that it shares with the others."""

    def __init__(self, store: str, clock: Clock, places: Mapping[str, str], *, kek: str = KEK) -> None:
        super().__init__(clock, places)
        self.client.close()
        trust = trust_in(places)
        settings = build(
            issuer=WALLETS, trust=trust, key_store=store, key_encryption_key=kek, jwks_cache="shared"
        )
        self.client = JWKSClient(self.resolver, trust, clock, shared=shared_jwks(settings, clock))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server that is never stopped."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def store(redis: RedisServer) -> str:
    """The URL of that server, which knows nothing."""
    redis.flushall()
    return redis.url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[JWKSServer]:
    with JWKSServer(clock) as made:
        yield made


@pytest.fixture
def edge(server: JWKSServer) -> Endpoint:
    """Edge's endpoint, with one key."""
    return server.endpoint("edge", key())


Hire = Callable[..., Worker]


@pytest.fixture
def hire(store: str, clock: Clock, edge: Endpoint) -> Iterator[Hire]:
    """Makes workers that know nothing yet; `places` is edge's endpoint where not said."""
    with ExitStack() as stack:

        def make(places: Mapping[str, str] | None = None, **options: Any) -> Worker:
            options = {"store": store, **options}
            return stack.enter_context(Worker(clock=clock, places=places or {EDGE: edge.url}, **options))

        yield make


def document(store: str) -> KeyStore:
    """The cache's place in the store."""
    return open_store(store, issuer=WALLETS, name="jwks-cache")


def is_refused(worker: Worker, signer: SigningKey = INTRUDER) -> bool:
    """Whether a token of edge that this key signed is refused as one of an unknown key."""
    try:
        worker.verify(worker.token(signer=signer))
    except TokenRejected as rejected:
        return rejected.reason.value == "unknown_kid"
    return False


def share(hire: Hire, edge: Endpoint) -> Worker:
    """One worker fetches and another finds it, which shows that it is stored; returns the first."""
    first = hire()
    before = len(edge.asked)
    assert first.verify().issuer == hire().verify().issuer == EDGE
    assert len(edge.asked) == before + 1
    return first


def refresh(worker: Worker, until: float) -> None:
    """Do the housekeeping until the set at hand is from this time."""

    def refreshed() -> bool:
        worker.client.refresh_due()
        return worker.resolver.fetched_at(EDGE) == until

    wait_until(refreshed)


# -- one fetch for all --------------------------------------------------------------------------------------


def test_workers_that_start_at_once_fetch_once(hire: Hire, edge: Endpoint) -> None:
    """Eight workers that know nothing and need the same key at once make one request, and all get in."""
    edge.hold()
    workers = [hire() for _ in range(8)]
    barrier = threading.Barrier(8)

    def start(worker: Worker) -> str:
        barrier.wait()
        return worker.verify().issuer

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(start, worker) for worker in workers]
        wait_until(lambda: edge.asked)
        time.sleep(0.3)  # whoever asks too does so by now
        edge.release()
        assert {one.result(30) for one in waiting} == {EDGE}
    assert len(edge.asked) == 1


def show_keys(store: str, place: str) -> None:
    """Print which keys of edge a new process finds."""
    with Worker(store, Clock(), {EDGE: place}) as worker:
        future = worker.client.request(EDGE, "any")
        assert future is not None
        future.result(30)
        print([known.kid for known in worker.resolver.keys(EDGE)])


def test_processes_share_a_fetch(store: str, edge: Endpoint, hire: Hire) -> None:
    """Processes that start later take over what a worker fetched."""
    share(hire, edge)
    with ThreadPoolExecutor(2) as pool:
        printed = [pool.submit(run_child, show_keys, store, edge.url) for _ in range(2)]
        assert {one.result(60) for one in printed} == {str([key().kid])}
    assert len(edge.asked) == 1


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b'ETag: "\x01\t"',
        b"ETag: " + b"x" * 256,
        b"Cache-Control: max-age=99999999999999999999",
        b"Cache-Control: no-store",
        b"Age: 99999999999999999999",
    ],
)
def test_odd_answers_are_shared(hire: Hire, edge: Endpoint, odd: bytes) -> None:
    """Whatever else an issuer says beside its keys, the document with the keys of all can be read again."""
    edge.instead = answer(jwks(key()), *([odd.decode("ascii")] if odd else []))
    for _ in range(3):
        assert hire().verify().issuer == EDGE
    assert len(edge.asked) == 1


def test_issuers_do_not_wait_for_each_other(hire: Hire, edge: Endpoint, server: JWKSServer) -> None:
    """While one issuer does not answer, the keys of another are fetched and shared."""
    ledger = server.endpoint("ledger", OTHER)
    places = {EDGE: edge.url, LEDGER: ledger.url}
    edge.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hire(places=places).verify)
        wait_until(lambda: edge.asked)
        for _ in range(2):
            worker = hire(places=places)
            assert worker.verify(worker.token(LEDGER, OTHER)).issuer == LEDGER
        assert not waiting.done()
        edge.release()
        assert waiting.result(30).issuer == EDGE
    assert len(ledger.asked) == 1


def test_a_rotated_key_is_taken_over(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """A key that one worker fetched at its first use is good with the others without another request."""
    workers = [share(hire, edge), hire(), hire()]
    for worker in workers:
        worker.verify()
    edge.publish(key(), OTHER)
    clock.now += 1
    for worker in workers:
        assert worker.verify(worker.token(signer=OTHER)).kid == OTHER.kid
        assert worker.verify().kid == key().kid
    assert len(edge.asked) == 2
    assert edge.asked[1][1]["cache-control"] == "no-cache"


def test_a_key_that_the_store_lacks_is_fetched(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """A worker that starts with a shared set still has a key that was published since at its first use."""
    share(hire, edge)
    edge.publish(key(), OTHER)
    clock.now += 1
    late = hire()
    assert late.verify(late.token(signer=OTHER)).kid == OTHER.kid
    assert len(edge.asked) == 2


def test_a_newer_set_without_the_key_is_no_answer(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """Who looks for a new key is not content with a set that is newer than its own and lacks the key."""
    first, second = share(hire, edge), hire()
    second.verify()
    clock.now += 225
    refresh(first, clock())
    hire().verify()
    edge.publish(key(), OTHER)
    clock.now += 1
    attempt = second.client.request(EDGE, OTHER.kid)
    assert attempt is not None
    attempt.result(30)
    assert second.resolver.key(EDGE, OTHER.kid, clock()) is not None
    assert len(edge.asked) == 3


def test_what_is_taken_over_spends_no_attempt(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """A key that is published just after another was found in the store is fetched at once."""
    first, second = share(hire, edge), hire()
    second.verify()
    clock.now += 1
    edge.publish(key(), OTHER)
    first.verify(first.token(signer=OTHER))
    assert second.verify(second.token(signer=OTHER)).kid == OTHER.kid
    assert len(edge.asked) == 2
    edge.publish(key(), OTHER, THIRD)
    assert second.verify(second.token(signer=THIRD)).kid == THIRD.kid
    assert len(edge.asked) == 3


def test_refreshes_are_shared(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """Of several workers whose sets are due one asks; a key that was removed is refused by all of them."""
    workers = [share(hire, edge), hire(), hire()]
    for worker in workers:
        worker.verify()
    edge.publish(OTHER)
    clock.now += 225
    fetched_at = clock()
    for worker in workers:
        refresh(worker, fetched_at)
        assert worker.verify(worker.token(signer=OTHER)).kid == OTHER.kid
        clock.now += 1
    assert len(edge.asked) == 2
    assert all(is_refused(worker, key()) for worker in workers)


def test_not_modified_is_shared(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """An answer "not modified" makes the shared set fresh again, also for who never saw the set itself."""
    first = share(hire, edge)
    clock.now += 225
    refresh(first, clock())
    assert edge.asked[1][1]["if-none-match"]
    for later in 0, 299:
        clock.now += later
        assert hire().verify().issuer == EDGE
    assert len(edge.asked) == 2


def test_a_set_that_was_taken_over_is_as_old_as_it_is(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """Its freshness and its stale bound count from when the issuer answered, not from when it was found."""
    share(hire, edge)
    edge.instead = b""
    clock.now += 250
    late = hire()
    assert late.verify().issuer == EDGE
    assert late.resolver.refresh_due(EDGE, clock()) < clock()
    clock.now = NOW + 300 + 3600 - 1
    assert late.verify().issuer == EDGE
    clock.now += 1
    with pytest.raises(JWKSUnavailable):
        late.verify()


def test_pinned_keys_are_never_shared(hire: Hire, tmp_path: Path, store: str) -> None:
    """Keys in a file are read by each process itself; nothing about them is stored."""
    pinned = tmp_path / "edge.jwks.json"
    pinned.write_bytes(jwks(key()))
    assert hire(places={EDGE: str(pinned)}).verify().issuer == EDGE
    pinned.write_bytes(jwks(OTHER))
    late = hire(places={EDGE: str(pinned)})
    assert late.verify(late.token(signer=OTHER)).kid == OTHER.kid
    with closing(document(store)) as place:
        assert place.load() is None


def test_processes_of_one_machine_share_a_directory(hire: Hire, edge: Endpoint, tmp_path: Path) -> None:
    """A store in a directory serves as well as a Redis."""
    for _ in range(3):
        assert hire(store=f"file://{tmp_path}/keys").verify().issuer == EDGE
    assert len(edge.asked) == 1


def test_the_documented_rights_are_enough(hire: Hire, edge: Endpoint) -> None:
    """A Redis user who may use this service's own names only can share."""
    config = f"user default off\nuser wallets on >secret {acl(WALLETS)}\n"
    with RedisServer(config=config) as guarded:
        for _ in range(3):
            assert hire(store=guarded.url.replace("//", "//wallets:secret@")).verify().issuer == EDGE
    assert len(edge.asked) == 1


def test_a_service_takes_part_by_its_settings(store: str, edge: Endpoint, clock: Clock) -> None:
    """Two runtimes with `jwks_cache="shared"` fetch once, two without fetch twice."""
    trust = trust_in({EDGE: edge.url})
    for cache, fetches in ("shared", 1), ("process", 3):
        settings = build(
            issuer=WALLETS, trust=trust, key_store=store, key_encryption_key=KEK, jwks_cache=cache
        )
        for _ in range(2):
            runtime = Runtime(settings, settings.open_key_store(), serves=lambda: False, clock=clock)
            runtime.verifier.deny = EMPTY  # nobody keeps house here
            with Wallets(clock, {EDGE: edge.url}) as anybody:
                flow = runtime.verifier.verify(anybody.token(), clock())
            assert drive(flow, runtime.client, clock).issuer == EDGE
            runtime.stop()
            clock.now += 1
        assert len(edge.asked) == fetches


# -- what is in the store proves nothing by itself ----------------------------------------------------------


class Forger:
    """Somebody who can read and write the store, and even has every key but the right one.

    Attributes:
        raw: the document as it was shared.
        forged: its content, with the intruder's key in the place of edge's.
    """

    def __init__(self, store: str, clock: Clock) -> None:
        self.clock = clock
        self._place = document(store)
        raw = self._place.load()
        assert raw is not None
        self.raw = raw
        self.right = Sealer(OLD, issuer=WALLETS, purpose="jwks-cache")
        self.plain = self.right.open(raw).plain
        self.forged = self.plain.replace(jwks(key()), jwks(INTRUDER))
        assert self.forged != self.plain

    def put(self, document: bytes) -> None:
        """Write whatever into the store."""
        with closing(self._place):
            despite_conflicts(lambda: self._place.swap(self._place.load(), document), time.sleep)

    def settle(self) -> None:
        """Wait until nobody is about to write."""

        def settled() -> bool:
            raw = self._place.load()
            return raw is not None and b'"claims":{}' in self.right.open(raw).plain

        with closing(self._place):
            wait_until(settled)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds


def sealed(forger: Forger, *, keks: list[bytes] = OLD, issuer: str = WALLETS, purpose: str) -> bytes:
    """The forged content, sealed by the wrong hands or for another place."""
    return Sealer(keks, issuer=issuer, purpose=purpose).seal(forger.forged)


def changed(forger: Forger, before: bytes, after: bytes) -> bytes:
    """Content of another kind, sealed as it should be: what another version of this program might write."""
    assert before in forger.plain
    return forger.right.seal(forger.plain.replace(before, after))


FORGERIES: dict[str, tuple[bool, Callable[[Forger], None]]] = {
    "untouched": (True, lambda _: None),
    "sealed again": (True, lambda f: f.put(f.right.seal(f.plain))),
    "about to be stale": (True, lambda f: f.later(299)),
    "a clock that is behind": (True, lambda f: f.later(-60)),
    "stale": (False, lambda f: f.later(300)),
    "from the future": (False, lambda f: f.later(-61)),
    "plain JSON": (False, lambda f: f.put(f.forged)),
    "for another service": (False, lambda f: f.put(sealed(f, issuer=LEDGER, purpose="jwks-cache"))),
    "another document's": (False, lambda f: f.put(sealed(f, purpose="ring"))),
    "by another key": (False, lambda f: f.put(sealed(f, keks=NEW, purpose="jwks-cache"))),
    "the first byte changed": (False, lambda f: f.put(b"f" + f.raw[1:])),
    "the last byte changed": (False, lambda f: f.put(f.raw[:-1] + (b"A" if f.raw[-1:] != b"A" else b"Q"))),
    "a byte in the middle changed": (
        False,
        lambda f: f.put(f.raw[: len(f.raw) // 2] + b"_-" + f.raw[len(f.raw) // 2 + 2 :]),
    ),
    "cut off": (False, lambda f: f.put(f.raw[:-20])),
    "empty": (False, lambda f: f.put(b"")),
    "rubbish": (False, lambda f: f.put(bytes(range(256)))),
    "too long": (False, lambda f: f.put(b"x" * (LIMIT + 1))),
    "another format": (False, lambda f: f.put(changed(f, b'"v":1', b'"v":2'))),
    "not an object": (False, lambda f: f.put(f.right.seal(b"[]"))),
    "not JSON": (False, lambda f: f.put(f.right.seal(b"\xff"))),
    "a private key": (False, lambda f: f.put(changed(f, b'"kty"', b'"d":"AAAA","kty"'))),
    "no set": (False, lambda f: f.put(changed(f, jwks(key()), b"null"))),
    "an entity tag of two lines": (False, lambda f: f.put(changed(f, b'"etag":"', b'"etag":"\\r\\n'))),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_not_taken_over(
    hire: Hire, edge: Endpoint, store: str, clock: Clock, forgery: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a fresh set, sealed for this cache, is taken over; else edge is asked, and sharing goes on."""
    good, forge = FORGERIES[forgery]
    share(hire, edge)
    forge(Forger(store, clock))
    for _ in range(2):
        worker = hire()
        assert worker.verify().issuer == EDGE
        assert worker.resolver.key(EDGE, INTRUDER.kid, clock()) is None
        assert len(edge.asked) == (1 if good else 2)
    assert is_refused(worker)
    assert len(caplog.records) <= 2  # one for each worker


def test_a_ring_in_the_place_of_the_cache(hire: Hire, edge: Endpoint, store: str) -> None:
    """The service's own key ring, put in the place of the cache, is not read."""
    share(hire, edge)
    settings = build(issuer=WALLETS, trust=trust_in({}), key_store=store, key_encryption_key=KEK)
    ring = Runtime(settings, settings.open_key_store(), serves=lambda: True, clock=Clock())
    ring.load_ring()
    ring.stop()
    with closing(open_store(store, issuer=WALLETS)) as place, closing(document(store)) as cache:
        stored = place.load()
        assert stored is not None
        cache.swap(cache.load(), stored)
    assert hire().verify().issuer == EDGE
    assert len(edge.asked) == 2


def test_keys_of_another_place_do_not_count(hire: Hire, edge: Endpoint, server: JWKSServer) -> None:
    """When the trust file names another place, what is shared from the old one is not taken over."""
    share(hire, edge)
    moved = server.endpoint("moved", OTHER)
    late = hire(places={EDGE: moved.url})
    assert is_refused(late, key())
    assert late.verify(late.token(signer=OTHER)).kid == OTHER.kid
    assert len(edge.asked) == 1


def test_an_older_document_put_back(hire: Hire, edge: Endpoint, store: str, clock: Clock) -> None:
    """It undoes no revocation where the newer set is known, and elsewhere ends as it would have by itself."""
    first = share(hire, edge)
    old = Forger(store, clock)
    edge.publish(OTHER)
    clock.now += 225
    refresh(first, clock())
    old.settle()
    knows = hire()
    assert is_refused(knows, key())
    for later in 1, 10, 30:
        old.settle()
        clock.now = NOW + 225 + later
        old.put(old.raw)
        assert is_refused(first, key())
        assert is_refused(knows, key())
    old.settle()
    clock.now = NOW + 299
    old.put(old.raw)
    fooled = hire()
    assert fooled.verify().kid == key().kid  # as in a process that fetched before the revocation
    refresh(fooled, clock())
    assert is_refused(fooled, key())
    old.settle()
    clock.now = NOW + 300
    old.put(old.raw)
    assert is_refused(hire(), key())


def test_another_key_encryption_key_takes_over(hire: Hire, edge: Endpoint, clock: Clock) -> None:
    """While keys are changed in the usual order sharing goes on; in the end the document is written anew."""
    new_first = hire(kek=f"{KEK_2},{KEK}")
    for worker in hire(), new_first, hire():
        assert worker.verify().issuer == EDGE
    assert len(edge.asked) == 1
    edge.publish(key(), OTHER)
    clock.now += 1
    for worker in new_first, hire(), hire(kek=f"{KEK_2},{KEK}"):
        assert worker.verify(worker.token(signer=OTHER)).kid == OTHER.kid
    assert len(edge.asked) == 2
    for _ in range(2):
        assert hire(kek=KEK_2).verify().issuer == EDGE
        assert hire(kek=f"{KEK_2},{KEK}").verify().issuer == EDGE
    assert len(edge.asked) == 3


# -- nothing fails because of it ----------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that this test may break."""
    with RedisServer() as started:
        yield started


TROUBLES: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "down": (RedisServer.kill, RedisServer.start),
    "hung": (RedisServer.pause, RedisServer.resume),
    "something else under the name": (
        lambda server: server.command("RPUSH", f"s2s-mesh:{{{WALLETS}}}:jwks-cache", "x"),
        RedisServer.flushall,
    ),
}


@pytest.mark.own_times("store")
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not yet connected"])
def test_a_store_that_fails(
    hire: Hire,
    own: RedisServer,
    server: JWKSServer,
    clock: Clock,
    trouble: str,
    connected: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Keys are fetched without it, it is waited for and logged once, and sharing resumes by itself."""
    names = [f"https://s{number:02}.example.com" for number in range(30)]
    endpoints = {name: server.endpoint(name[8:11], key()) for name in names}
    places = {name: endpoint.url for name, endpoint in endpoints.items()}
    worker = hire(store=own.url, places=places)
    begin, end = TROUBLES[trouble]
    if connected:
        worker.verify(worker.token(names[0]))
        wait_until(lambda: hire(store=own.url, places=places).verify(worker.token(names[0])))
        own.flushall()
    begin(own)
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        for issuer in pool.map(lambda name: worker.verify(worker.token(name)).issuer, names):
            assert issuer in names
    assert time.monotonic() - started < 20  # thirty time-outs would be thirty seconds at least
    clock.now += 11
    again = worker.client.request(names[0], "made-up")
    assert again is not None
    again.result(30)
    warnings = [record.message for record in caplog.records]
    assert len([text for text in warnings if "shared JWKS cache" in text]) == 1
    end(own)
    clock.now += 225
    before = [len(endpoint.asked) for endpoint in endpoints.values()]
    late = hire(store=own.url, places=places)

    def refreshed() -> bool:
        worker.client.refresh_due()
        return all(worker.resolver.fetched_at(name) == clock() for name in names)

    wait_until(refreshed)
    for name in names:
        assert late.verify(late.token(name)).issuer == name
    assert [len(endpoint.asked) for endpoint in endpoints.values()] == [count + 1 for count in before]
    assert caplog.text.count("shared JWKS cache") == 1


def test_nobody_waits_until_it_is_shared(hire: Hire, edge: Endpoint, own: RedisServer) -> None:
    """A store that hangs while the issuer answers delays nobody: keys are used before they are shared."""
    edge.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hire(store=own.url).verify)
        wait_until(lambda: edge.asked)
        own.pause()
        edge.release()
        assert waiting.result(LONG / 2).issuer == EDGE  # less than the store's time-out
        own.resume()


def test_a_logging_filter_that_raises(hire: Hire, edge: Endpoint, store: str, clock: Clock) -> None:
    """What an application hangs into our logger fails no verification."""

    def explode(record: logging.LogRecord) -> bool:
        raise RuntimeError("in a filter")

    share(hire, edge)
    Forger(store, clock).put(b"rubbish")
    logger = logging.getLogger("s2s_mesh.jwks")
    logger.addFilter(explode)
    try:
        assert hire().verify().issuer == EDGE
    finally:
        logger.removeFilter(explode)


def test_a_failed_fetch_holds_up_nobody(hire: Hire, edge: Endpoint) -> None:
    """Where a worker's fetch failed, the next worker tries at once."""
    edge.instead = b""
    with pytest.raises(JWKSUnavailable):
        hire().verify()
    edge.instead = None
    started = time.monotonic()
    assert hire().verify().issuer == EDGE
    assert time.monotonic() - started < LONG / 2  # nobody believed the first one's claim
    assert len(edge.asked) == 2


def begin_and_hang(store: str, place: str) -> None:
    """Begin to fetch edge's keys, and wait for the end."""
    with Worker(store, Clock(), {EDGE: place}) as worker:
        worker.client.request(EDGE, "any")
        time.sleep(60)


@pytest.mark.parametrize(("later", "believed"), [(5.9, True), (6, False)])
def test_a_worker_that_dies_while_fetching(
    hire: Hire, store: str, edge: Endpoint, clock: Clock, later: float, believed: bool
) -> None:
    """Its claim is believed for six seconds, and costs others two seconds of waiting; then it is void."""
    edge.hold()
    code = "import sys; from tests.test_jwks_shared import begin_and_hang as f; f(*sys.argv[1:])"
    root = Path(__file__).parents[1]
    child = subprocess.Popen([sys.executable, "-c", code, store, edge.url], cwd=root)
    try:
        wait_until(lambda: edge.asked)
    finally:
        child.kill()
        child.wait()
    edge.release()
    clock.now += later
    started = time.monotonic()
    with own_times("sharing") if believed else nullcontext():
        assert hire().verify().issuer == EDGE
    waited = time.monotonic() - started
    assert waited >= 1.9 if believed else waited < LONG / 2
    assert len(edge.asked) == 2


def test_the_document_stays_small(server: JWKSServer, hire: Hire, store: str, clock: Clock) -> None:
    """With more issuers than fit the oldest sets are dropped; the newest are shared, and all verify."""
    keys = [key(name=f"of many {number}") for number in range(20)]
    names = [f"https://s{number:02}.example.com" for number in range(60)]
    endpoints = {name: server.endpoint(name[8:11], *keys) for name in names}
    places = {name: endpoint.url for name, endpoint in endpoints.items()}
    longest = 0
    with closing(document(store)) as place:
        first, late = hire(places=places), hire(places=places)
        for worker, order in (first, names), (late, names[::-1]):
            for name in order:
                clock.now += 0.1
                assert worker.verify(worker.token(name, keys[0])).issuer == name
                longest = max(longest, len(place.load() or b""))
    asked = [len(endpoints[name].asked) for name in names]
    assert LIMIT * 0.9 < longest <= LIMIT
    assert asked == sorted(asked, reverse=True)
    assert set(asked) == {1, 2}


# -- configuration ------------------------------------------------------------------------------------------


def configured(**arguments: Any) -> Settings:
    """Settings of wallets with a shared cache, unless told otherwise."""
    usual = {"issuer": WALLETS, "trust": trust_in({}), "key_store": "redis://h", "key_encryption_key": KEK}
    return build(**{**usual, "jwks_cache": "shared", **arguments})


@pytest.mark.parametrize("key_store", ["redis://h", "rediss://h/1", "file:///keys", "redis+cluster://h:1"])
def test_a_shared_key_store_is_enough(key_store: str) -> None:
    """Any store that other processes can use will do; unless asked for, nothing is shared."""
    assert configured(key_store=key_store).jwks_cache == "shared"
    assert configured(key_store=key_store, jwks_cache="process").jwks_cache == "process"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"jwks_cache": "redis"}, ["S2S_MESH_JWKS_CACHE", "'redis'", "'process' or 'shared'"]),
        ({"jwks_cache": ""}, ["S2S_MESH_JWKS_CACHE", "''"]),
        ({"jwks_cache": "Shared"}, ["S2S_MESH_JWKS_CACHE", "'Shared'"]),
        ({"key_store": None}, ["S2S_MESH_JWKS_CACHE", "S2S_MESH_KEY_STORE", "redis://"]),
        ({"key_store": "memory://"}, ["S2S_MESH_JWKS_CACHE", "S2S_MESH_KEY_STORE", "redis://"]),
        ({"key_store": MemoryStore()}, ["S2S_MESH_JWKS_CACHE", "by its URL"]),
        (
            {"key_encryption_key": None, "allow_unsealed_key_store": True},
            ["S2S_MESH_JWKS_CACHE", "S2S_MESH_KEY_ENCRYPTION_KEY"],
        ),
        (
            {"key_encryption_key": None, "issuer": "http://127.0.0.1:1", "allow_loopback_http": True},
            ["S2S_MESH_JWKS_CACHE", "S2S_MESH_KEY_ENCRYPTION_KEY"],
        ),
    ],
    ids=["a place", "empty", "capitals", "no store", "memory", "an object", "no key", "no key on loopback"],
)
def test_a_shared_cache_needs_a_shared_store_and_a_seal(arguments: dict[str, Any], named: list[str]) -> None:
    """Else the text says what is missing, also where the ring itself would need no seal."""
    with pytest.raises(ConfigError) as refusal:
        configured(**arguments)
    assert [part for part in named if part not in str(refusal.value)] == []


def test_the_environment_chooses() -> None:
    """`S2S_MESH_JWKS_CACHE` is the argument `jwks_cache`."""
    usual = {"S2S_MESH_ISSUER": WALLETS, "REDIS_URL": "redis://h", "S2S_MESH_KEY_ENCRYPTION_KEY": KEK}
    for value, cache in (" shared\n", "shared"), ("process", "process"), ("", "process"):
        arguments = from_env({**usual, "S2S_MESH_JWKS_CACHE": value}, {"trust": trust_in({})})
        assert build(**arguments).jwks_cache == cache
