"""Keeping issuers' keys: one fetch for all who wait, bounded asking, and no failure that takes keys away."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from s2s_mesh.errors import JWKSUnavailable, Reason, TokenRejected
from s2s_mesh.identity import Principal
from s2s_mesh.jwks import JWKSet
from s2s_mesh.trust import ForeignIssuer

from .jwks_servers import Clock, Endpoint, JWKSServer, Wallets, answer, jwks, until
from .patience import LONG
from .servers import wait_until
from .tokens import EDGE, LEDGER, NOW, key

OTHER = key(name="second")
INTRUDER = key(name="intruder")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[JWKSServer]:
    """A server for the endpoints of a test."""
    with JWKSServer(clock) as made:
        yield made


@pytest.fixture
def edge(server: JWKSServer) -> Endpoint:
    """Edge's endpoint, with one key."""
    return server.endpoint("edge", key())


@pytest.fixture
def wallets(clock: Clock, edge: Endpoint) -> Iterator[Wallets]:
    """`wallets`, which trusts edge and has not asked for its keys yet."""
    with Wallets(clock, {EDGE: edge.url}) as made:
        yield made


def refresh(wallets: Wallets, endpoint: Endpoint, issuer: str = EDGE, *, fails: bool = False) -> None:
    """Do the housekeeping until the endpoint was asked once and the outcome is in; something must be due."""
    before = len(endpoint.asked)

    def asked() -> bool:
        wallets.client.refresh_due()
        return len(endpoint.asked) > before

    def known() -> bool:
        now = wallets.clock()
        return (wallets.resolver.last_error(issuer) != "") is fails and (
            wallets.resolver.refresh_due(issuer, now) > now
        )

    wait_until(asked)
    wait_until(known)


def refused(wallets: Wallets, token: bytes | None = None, *, at: float | None = None) -> Reason:
    """The reason for which a token is refused."""
    try:
        principal = wallets.verify(token, at=at)
    except (TokenRejected, JWKSUnavailable) as refusal:
        return refusal.reason
    raise AssertionError(f"{principal} was let in")


# -- one fetch for all ------------------------------------------------------------------------------------


def test_a_key_is_fetched_once(wallets: Wallets, edge: Endpoint) -> None:
    """The first token of an issuer has its keys fetched, the next ones do not."""
    for _ in range(3):
        assert wallets.verify().issuer == EDGE
    assert len(edge.asked) == 1
    assert "cache-control" not in edge.asked[0][1]


def test_a_crowd_at_the_start_is_one_fetch(wallets: Wallets, edge: Endpoint) -> None:
    """200 tasks and 20 threads that need the same key at once wait for one request, and all get in."""
    edge.hold()

    async def crowd() -> list[Principal]:
        tasks = [asyncio.create_task(wallets.verify_async()) for _ in range(200)]
        await until(lambda: edge.asked)
        edge.release()
        return await asyncio.gather(*tasks)

    with ThreadPoolExecutor(20) as pool:
        threads = [pool.submit(wallets.verify) for _ in range(20)]
        principals = asyncio.run(crowd()) + [thread.result(30) for thread in threads]
    assert [principal.issuer for principal in principals] == [EDGE] * 220
    assert len(edge.asked) == 1


def test_event_loops_share_a_fetch(wallets: Wallets, edge: Endpoint) -> None:
    """Two event loops in two threads wait for one request."""
    edge.hold()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(lambda: asyncio.run(wallets.verify_async())) for _ in range(2)]
        wait_until(lambda: edge.asked)
        edge.release()
        assert [one.result(30).issuer for one in waiting] == [EDGE, EDGE]
    assert len(edge.asked) == 1


def test_a_cancelled_waiter_cancels_nobody_elses_fetch(wallets: Wallets, edge: Endpoint) -> None:
    """Of two who wait for a fetch one is cancelled; the other one gets its answer."""
    edge.hold()

    async def two() -> Principal:
        first, second = (asyncio.create_task(wallets.verify_async()) for _ in range(2))
        await until(lambda: edge.asked)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        edge.release()
        return await second

    assert asyncio.run(two()).issuer == EDGE
    assert len(edge.asked) == 1


def test_a_fetch_without_waiters_is_still_good(
    wallets: Wallets, edge: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """When everybody who waited has gone, their event loop too, the answer counts and nobody complains."""
    edge.hold()

    async def impatient() -> None:
        waiting = asyncio.create_task(wallets.verify_async())
        await until(lambda: edge.asked)
        waiting.cancel()

    asyncio.run(impatient())
    edge.release()
    wait_until(lambda: wallets.resolver.has_keys(EDGE, wallets.clock()))
    assert wallets.verify().issuer == EDGE
    assert len(edge.asked) == 1
    assert not caplog.records


class Crowd:
    """More issuers than the client has threads; `late` is the only one whose fetch had to queue up."""

    def __init__(self, server: JWKSServer, clock: Clock) -> None:
        names = [f"https://s{number:02}.example.com" for number in range(17)]
        self.endpoints = {name: server.endpoint(name[8:11], key()) for name in names}
        self.wallets = Wallets(clock, {name: endpoint.url for name, endpoint in self.endpoints.items()})
        *others, self.late = names
        for name in others:
            self.endpoints[name].hold()
            self.wallets.client.request(name, key().kid)
        wait_until(lambda: server.most_at_once == 16)

    def release(self) -> None:
        for endpoint in self.endpoints.values():
            endpoint.release()


def test_a_cancelled_waiter_does_not_cancel_a_fetch_in_the_queue(server: JWKSServer, clock: Clock) -> None:
    """That holds too for a fetch that has not begun because all threads are busy."""
    crowd = Crowd(server, clock)
    token = crowd.wallets.token(crowd.late)

    async def two() -> Principal:
        first, second = (asyncio.create_task(crowd.wallets.verify_async(token)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not crowd.endpoints[crowd.late].asked
        crowd.release()
        return await second

    with crowd.wallets:
        assert asyncio.run(two()).issuer == crowd.late
    assert len(crowd.endpoints[crowd.late].asked) == 1


@pytest.mark.parametrize("drive", [Wallets.verify, lambda *a: asyncio.run(Wallets.verify_async(*a))])
def test_closing_releases_who_waits_in_the_queue(server: JWKSServer, clock: Clock, drive: Any) -> None:
    """`close` drops fetches that have not begun, and whoever waits for one learns it at once."""
    crowd = Crowd(server, clock)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(drive, crowd.wallets, crowd.wallets.token(crowd.late))
        wait_until(lambda: crowd.wallets.client.fetches == 17)
        crowd.wallets.client.close()
        with pytest.raises(JWKSUnavailable):
            waiting.result(30)  # those that hold up the queue are answered later than that
    crowd.release()


# -- issuers do not disturb each other ----------------------------------------------------------------------


def test_a_slow_issuer_stalls_nobody(server: JWKSServer, clock: Clock, edge: Endpoint) -> None:
    """While one issuer does not answer, the tokens of another are verified, keys fetched and all."""
    ledger = server.endpoint("ledger", key())
    edge.hold()
    with Wallets(clock, {EDGE: edge.url, LEDGER: ledger.url}) as wallets, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wallets.verify)
        wait_until(lambda: edge.asked)
        assert wallets.verify(wallets.token(LEDGER)).issuer == LEDGER
        assert not waiting.done()
        edge.release()
        assert waiting.result(30).issuer == EDGE


def test_background_refreshes_leave_threads_for_callers(server: JWKSServer, clock: Clock) -> None:
    """At most half of the 16 threads refresh in the background, so that a caller's fetch begins at once."""
    names = [f"https://s{number:02}.example.com" for number in range(30)]
    endpoints = {name: server.endpoint(name[8:11], key()) for name in names}
    places = {name: endpoint.url for name, endpoint in endpoints.items()}
    with Wallets(clock, places) as wallets:
        for endpoint in endpoints.values():
            endpoint.hold()
        wallets.client.refresh_due()
        wait_until(lambda: server.most_at_once == 8)
        wallets.client.refresh_due()
        assert wallets.client.fetches == 8
        caller = next(name for name in names if not endpoints[name].asked)
        endpoints[caller].release()
        assert wallets.verify(wallets.token(caller)).issuer == caller

        for endpoint in endpoints.values():
            endpoint.release()

        def all_known() -> bool:
            wallets.client.refresh_due()
            return all(wallets.resolver.has_keys(name, clock()) for name in names)

        wait_until(all_known)
    assert server.most_at_once <= 9
    assert {len(endpoint.asked) for endpoint in endpoints.values()} == {1}


# -- keys that nobody knows ---------------------------------------------------------------------------------


def test_a_flood_of_unknown_kids(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """1,000 made-up key ids in 40 seconds cause a fetch at once, after 5 s, and then every 10 s."""
    wallets.verify()
    start = clock()
    for number in range(1000):
        clock.now = start + number * 0.04
        assert refused(wallets, wallets.token(signer=INTRUDER, kid=f"made-up-{number}")) is Reason.UNKNOWN_KID
    times = [round(at - start) for at, _ in edge.asked[1:]]
    assert times == [0, 5, 15, 25, 35]
    # without this, a cache on the way would answer with the old set
    assert {fields.get("cache-control") for _, fields in edge.asked[1:]} == {"no-cache"}
    assert wallets.verify().issuer == EDGE


def test_failed_fetches_count(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """The limit is on attempts: that the issuer does not answer is no reason to ask more often."""
    wallets.verify()
    edge.instead = b""
    start = clock()
    for number in range(200):
        clock.now = start + number * 0.1
        assert refused(wallets, wallets.token(signer=INTRUDER, kid=f"made-up-{number}")) is Reason.UNKNOWN_KID
    assert [round(at - start) for at, _ in edge.asked[1:]] == [0, 5, 15]


def test_known_keys_never_wait_for_unknown_ones(wallets: Wallets, edge: Endpoint) -> None:
    """While the fetch for an unknown kid hangs, good tokens are verified without waiting."""
    wallets.verify()
    edge.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(refused, wallets, wallets.token(signer=INTRUDER))
        wait_until(lambda: len(edge.asked) == 2)
        for _ in range(20):
            assert wallets.verify().issuer == EDGE
        assert not waiting.done()
        edge.release()
        assert waiting.result(30) is Reason.UNKNOWN_KID


def test_a_new_key_is_good_at_its_first_use(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """A key that was published a moment ago is fetched when a token names it; the old one stays good."""
    wallets.verify()
    clock.now += 1
    edge.publish(key(), OTHER)
    assert wallets.verify(wallets.token(signer=OTHER)).kid == OTHER.kid
    assert wallets.verify().kid == key().kid
    assert len(edge.asked) == 2


def test_a_key_that_appears_resets_the_pause(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """After refreshes that brought nothing the pause is 10 s; one that brings a key makes it 5 s again."""
    wallets.verify()
    start = clock()
    for at, signer in (0, INTRUDER), (5, INTRUDER), (15, OTHER), (19.9, INTRUDER), (20, INTRUDER):
        clock.now = start + at
        edge.publish(*[key()] if at < 15 else [key(), OTHER])
        token = wallets.token(signer=signer)
        if signer is OTHER:
            assert wallets.verify(token).kid == OTHER.kid
        else:
            assert refused(wallets, token) is Reason.UNKNOWN_KID
    assert [at - start for at, _ in edge.asked[1:]] == [0, 5, 15, 20]


# -- keys come and go ---------------------------------------------------------------------------------------


def test_refreshes_are_due_at_three_quarters(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """A set is refreshed in the background after 65 to 75 percent of its fresh time, and nobody waits."""
    edge.cache_control = "max-age=1000"
    wallets.verify()
    for later in 0, 649:
        clock.now += later
        wallets.client.refresh_due()
        assert wallets.client.fetches == 1
    clock.now += 101
    refresh(wallets, edge)
    assert wallets.client.fetches == 2
    assert "cache-control" not in edge.asked[1][1]


def test_new_issuers_are_fetched_in_the_background(wallets: Wallets, edge: Endpoint) -> None:
    """Keys are at hand before the first token comes, if there is time."""
    refresh(wallets, edge)
    edge.instead = b""
    assert wallets.verify().issuer == EDGE
    assert len(edge.asked) == 1


def test_a_set_that_did_not_change_keeps_its_keys(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """A refresh asks conditionally; "not modified" makes the set at hand fresh again."""
    wallets.verify()
    before = wallets.resolver.key(EDGE, key().kid, clock())
    for round_ in range(2, 20):
        clock.now += 250
        refresh(wallets, edge)
        assert len(edge.asked) == round_
        assert edge.asked[-1][1]["if-none-match"]
        assert wallets.resolver.key(EDGE, key().kid, clock()) is before
    assert wallets.verify().issuer == EDGE


def test_a_removed_key_is_refused_after_the_refresh(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """A new set replaces the old one whole: what is no longer published is no longer good."""
    wallets.verify()
    edge.publish(OTHER)
    clock.now += 225
    assert wallets.verify().kid == key().kid
    refresh(wallets, edge)
    assert refused(wallets) is Reason.UNKNOWN_KID
    assert wallets.verify(wallets.token(signer=OTHER)).kid == OTHER.kid


def test_an_empty_set_revokes_everything(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """`{"keys":[]}` is an answer like any other: no key is good, and that is the token's fault, not ours."""
    wallets.verify()
    edge.publish()
    clock.now += 225
    refresh(wallets, edge)
    assert refused(wallets) is Reason.UNKNOWN_KID


def test_keys_that_are_not_used_are_logged(
    wallets: Wallets, edge: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator can read why a key of a set is ignored."""
    caplog.set_level(logging.INFO, "s2s_mesh.jwks")
    edge.instead = answer(jwks(key()).replace(b'"keys":[', b'"keys":[{"kid":"x"},'))
    assert wallets.verify().issuer == EDGE
    wait_until(lambda: f"keys of {EDGE}: keys[0]: alg is missing" in caplog.text)


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instead", "kept"),
    [
        (answer(jwks(OTHER)), False),
        (b"", True),
        (answer(jwks(OTHER), status="500 Oops"), True),
        (answer(jwks(OTHER), kind="text/html"), True),
        (answer(jwks(OTHER), status="302 Found"), True),
        (answer(jwks(OTHER))[:-1], True),
        (answer(b'{"keys":{}}'), True),
        (answer(jwks(OTHER).replace(b'"kty"', b'"d":"AAAA","kty"')), True),
    ],
)
def test_failures_keep_the_last_good_set(
    wallets: Wallets,
    edge: Endpoint,
    clock: Clock,
    instead: bytes,
    kept: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only a good answer replaces keys; after a bad one the old keys hold, and the reason is logged."""
    wallets.verify()
    edge.instead = instead
    clock.now += 225
    refresh(wallets, edge, fails=kept)
    if kept:
        assert wallets.verify().kid == key().kid
        wait_until(lambda: f"keys of {EDGE} not refreshed (refresh): " in caplog.text)
    else:
        assert refused(wallets) is Reason.UNKNOWN_KID


def test_a_failed_refresh_is_repeated_after_ten_seconds(
    wallets: Wallets, edge: Endpoint, clock: Clock
) -> None:
    """An issuer that is down is asked every 10 s, and everything is well at the first success."""
    wallets.verify()
    edge.instead = b""
    clock.now += 225
    start = clock()
    refresh(wallets, edge, fails=True)
    for _ in range(40):
        clock.now += 1
        if round(clock() - start) % 10 == 0:
            refresh(wallets, edge, fails=True)
        else:
            wallets.client.refresh_due()
    assert [at - start for at, _ in edge.asked[1:]] == [0, 10, 20, 30, 40]
    edge.instead = None
    clock.now += 10
    refresh(wallets, edge)
    assert len(edge.asked) == 7
    assert wallets.resolver.last_error(EDGE) == ""


def test_fifty_minutes_without_the_issuer(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """The last good set serves for the fresh time and an hour; then 503, until the issuer answers again."""
    wallets.verify()
    edge.instead = b""
    start = clock()
    for minute in range(4, 65):
        clock.now = start + 60 * minute
        refresh(wallets, edge, fails=True)
        assert wallets.verify().issuer == EDGE
    clock.now = start + 300 + 3600 - 1
    assert wallets.verify().issuer == EDGE
    clock.now += 1
    with pytest.raises(JWKSUnavailable, match=EDGE) as unavailable:
        wallets.verify()
    assert unavailable.value.reason is Reason.JWKS_UNAVAILABLE
    edge.instead = None
    clock.now += 1
    assert wallets.verify().issuer == EDGE


def test_services_that_trust_each_other_may_start_in_any_order(clock: Clock) -> None:
    """An issuer that is not up yet is asked again after a second; until then the answer is 503, not 401."""
    with JWKSServer(clock, listening=False) as server:
        edge = server.endpoint("edge", key())
        with Wallets(clock, {EDGE: edge.url}) as wallets:
            for later in 0, 0, 0.9:
                clock.now += later
                assert refused(wallets) is Reason.JWKS_UNAVAILABLE
            assert wallets.client.fetches == 1
            clock.now += 0.1
            assert refused(wallets) is Reason.JWKS_UNAVAILABLE
            assert wallets.client.fetches == 2
            server.listen()
            assert refused(wallets) is Reason.JWKS_UNAVAILABLE
            clock.now += 1
            assert wallets.verify().issuer == EDGE
            assert wallets.client.fetches == 3


@pytest.mark.parametrize(
    "weird",
    [OSError("weird"), OSError(), RuntimeError("weird"), UnicodeError(), RecursionError(), KeyError(1)],
)
def test_whatever_goes_wrong_in_a_fetch_releases_who_waits(
    wallets: Wallets, clock: Clock, weird: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is a failed fetch like any other, and the next one may succeed."""

    def getaddrinfo(*_: Any, **__: Any) -> NoReturn:
        raise weird

    started = time.monotonic()
    with monkeypatch.context() as broken:
        broken.setattr(socket, "getaddrinfo", getaddrinfo)
        assert refused(wallets) is Reason.JWKS_UNAVAILABLE
        with pytest.raises(JWKSUnavailable):
            asyncio.run(wallets.verify_async())
    assert time.monotonic() - started < LONG / 2  # nobody waited as long as one may
    assert wallets.client.fetches == 1
    clock.now += 1
    assert wallets.verify().issuer == EDGE


def test_an_unforeseen_error_is_logged_with_its_traceback(
    wallets: Wallets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers are told nothing of it; the log says that it is a bug."""

    def getaddrinfo(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("weird")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(JWKSUnavailable, match="internal error, see the log") as unavailable:
        wallets.verify()
    assert "weird" not in str(unavailable.value)
    wait_until(lambda: caplog.records)
    assert "this is a bug" in caplog.text
    assert "RuntimeError: weird" in caplog.text


def test_a_logging_filter_that_raises_stops_nothing(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """What an application hangs into our logger cannot keep an issuer's keys from being fetched again."""

    def explode(record: logging.LogRecord) -> bool:
        raise RuntimeError("in a filter")

    logger = logging.getLogger("s2s_mesh.jwks")
    logger.addFilter(explode)
    try:
        edge.instead = b""
        assert refused(wallets) is Reason.JWKS_UNAVAILABLE
    finally:
        logger.removeFilter(explode)
    edge.instead = None
    clock.now += 1
    assert wallets.verify().issuer == EDGE


def test_a_machine_without_threads(
    wallets: Wallets, edge: Endpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, the keys are unavailable for now; that is no error of its own kind."""

    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", start)
        with pytest.raises(JWKSUnavailable, match="can't start new thread"):
            wallets.verify()
        clock.now += 1
        wallets.client.refresh_due()
    clock.now += 1
    assert wallets.verify().issuer == EDGE


# -- the trust file is reloaded -----------------------------------------------------------------------------


@pytest.fixture
def ledger(server: JWKSServer) -> Endpoint:
    """Ledger's endpoint, with another key."""
    return server.endpoint("ledger", OTHER)


def test_a_reload_keeps_what_stays(wallets: Wallets, edge: Endpoint, ledger: Endpoint) -> None:
    """Issuers whose keys are still at the same place are not asked again."""
    wallets.verify()
    wallets.use({EDGE: edge.url, LEDGER: ledger.url})
    assert wallets.verify().issuer == EDGE
    assert wallets.verify(wallets.token(LEDGER, OTHER)).issuer == LEDGER
    assert (len(edge.asked), len(ledger.asked)) == (1, 1)


def test_a_reload_forgets_keys_that_are_read_otherwise_now(
    wallets: Wallets, edge: Endpoint, clock: Clock
) -> None:
    """Keys that were read by the old words of the trust file go."""
    wallets.verify()
    trust = wallets.verifier.trust
    issuers = {EDGE: msgspec.structs.replace(trust.issuers[EDGE], eddsa=True)}
    wallets.client.use(msgspec.structs.replace(trust, issuers=issuers))
    assert not wallets.resolver.has_keys(EDGE, clock())
    assert wallets.verify().issuer == EDGE
    assert len(edge.asked) == 2


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"leeway": 5.0}, True),
        ({"jwks_uri": "https://keys.example.com/other"}, False),
        ({"jwks_origins": frozenset({"https://cdn.example.com"})}, False),
        ({"jwks_file": "keys.json"}, False),
        ({"ca_file": "authorities.pem"}, False),
        ({"asap_key_servers": ("https://keys.example.com/",)}, False),
        ({"profile": "spiffe"}, False),
        ({"keys_without_alg": True}, False),
        ({"eddsa": True}, False),
    ],
    ids=str,
)
def test_what_a_reload_has_to_change_so_that_keys_are_forgotten(
    wallets: Wallets, change: dict[str, Any], kept: bool
) -> None:
    """Where they are, who vouches for that, and how they are read; not what its tokens have to say."""
    hub = "https://hub.example.com"
    entry = ForeignIssuer(issuer=hub, jwks_uri="https://keys.example.com/")
    for now in (entry, msgspec.structs.replace(entry, **change)):
        wallets.client.use(msgspec.structs.replace(wallets.verifier.trust, foreign_issuers={hub: now}))
        if now is entry:
            wallets.resolver.succeeded(hub, JWKSet([key().public]), NOW)
    assert wallets.resolver.has_keys(hub, NOW) is kept


def test_a_reload_forgets_who_is_dropped(
    wallets: Wallets, edge: Endpoint, ledger: Endpoint, clock: Clock
) -> None:
    """The keys of an issuer that is no longer listed are gone, and it is not asked for them."""
    wallets.verify()
    wallets.use({LEDGER: ledger.url})
    assert refused(wallets) is Reason.UNKNOWN_ISSUER
    assert wallets.client.request(EDGE, key().kid) is None
    assert not wallets.resolver.has_keys(EDGE, clock())
    refresh(wallets, ledger, LEDGER)
    assert len(edge.asked) == 1
    wallets.use({EDGE: edge.url})
    assert wallets.verify().issuer == EDGE
    assert "if-none-match" not in edge.asked[1][1]


def test_a_reload_while_a_fetch_is_under_way(
    wallets: Wallets, edge: Endpoint, ledger: Endpoint, clock: Clock
) -> None:
    """An answer that comes after its issuer was dropped is not kept."""
    edge.hold()
    fetch = wallets.client.request(EDGE, key().kid)
    wait_until(lambda: edge.asked)
    wallets.use({LEDGER: ledger.url})
    edge.release()
    assert fetch is not None
    fetch.result(30)
    assert not wallets.resolver.has_keys(EDGE, clock())


def test_keys_that_move_are_fetched_from_the_new_place(
    wallets: Wallets, edge: Endpoint, server: JWKSServer
) -> None:
    """When jwks_uri changes, keys of the old place are not good any more; the new place is asked at once."""
    wallets.verify()
    moved = server.endpoint("moved", OTHER)
    wallets.use({EDGE: moved.url})
    assert wallets.verify(wallets.token(signer=OTHER)).kid == OTHER.kid
    assert refused(wallets) is Reason.UNKNOWN_KID
    assert "if-none-match" not in moved.asked[0][1]
    assert len(edge.asked) == 1


def test_keys_that_move_into_a_file(wallets: Wallets, edge: Endpoint, tmp_path: Path, clock: Clock) -> None:
    """The same holds for a pinned file; it is followed, and its last good content stays when it vanishes."""
    wallets.verify()
    pinned = tmp_path / "edge.jwks.json"
    pinned.write_bytes(jwks(OTHER))
    wallets.use({EDGE: str(pinned)})
    assert refused(wallets) is Reason.UNKNOWN_KID
    assert wallets.verify(wallets.token(signer=OTHER)).kid == OTHER.kid
    clock.now += 10
    pinned.write_bytes(jwks(key()))
    assert wallets.verify().kid == key().kid
    pinned.unlink()
    clock.now += 60
    assert refused(wallets, wallets.token(signer=OTHER)) is Reason.UNKNOWN_KID
    assert wallets.verify().kid == key().kid
    assert len(edge.asked) == 1


def test_keys_that_move_from_file_to_file(wallets: Wallets, tmp_path: Path) -> None:
    """Another file is another place."""
    for name, signer, stranger in ("a.json", key(), OTHER), ("b.json", OTHER, key()):
        (tmp_path / name).write_bytes(jwks(signer))
        wallets.use({EDGE: str(tmp_path / name)})
        assert refused(wallets, wallets.token(signer=stranger)) is Reason.UNKNOWN_KID
        assert wallets.verify(wallets.token(signer=signer)).kid == signer.kid


def test_an_answer_of_the_old_place_does_not_count(
    wallets: Wallets, edge: Endpoint, server: JWKSServer
) -> None:
    """A fetch from the old place that ends after the reload changes nothing."""
    edge.hold()
    old = wallets.client.request(EDGE, key().kid)
    wait_until(lambda: edge.asked)
    moved = server.endpoint("moved", OTHER)
    wallets.use({EDGE: moved.url})
    edge.release()
    assert old is not None
    old.result(30)
    assert refused(wallets) is Reason.UNKNOWN_KID
    assert wallets.verify(wallets.token(signer=OTHER)).kid == OTHER.kid


def test_not_modified_of_a_forgotten_set(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """An issuer dropped and listed again during a refresh: "not modified" does not pass for an empty set."""
    wallets.verify()
    clock.now += 225
    edge.hold()
    wallets.client.refresh_due()
    wait_until(lambda: len(edge.asked) == 2)
    assert edge.asked[1][1]["if-none-match"]
    wallets.use({})
    wallets.use({EDGE: edge.url})
    edge.release()
    assert wallets.verify().issuer == EDGE
    assert "if-none-match" not in edge.asked[2][1]


# -- the end ------------------------------------------------------------------------------------------------


def test_nothing_starts_after_close(wallets: Wallets, edge: Endpoint, clock: Clock) -> None:
    """A closed client asks nobody; keys at hand still serve, others are unavailable."""
    wallets.verify()
    wallets.client.close()
    wallets.client.close()
    clock.now += 250
    wallets.client.refresh_due()
    assert refused(wallets, wallets.token(signer=INTRUDER)) is Reason.UNKNOWN_KID
    assert wallets.verify().issuer == EDGE
    assert wallets.client.fetches == 1


def test_a_client_that_was_never_used_closes(clock: Clock, edge: Endpoint) -> None:
    """Closing before the first fetch is fine."""
    before = threading.active_count()
    with Wallets(clock, {EDGE: edge.url}) as wallets:
        assert threading.active_count() == before
    assert refused(wallets) is Reason.JWKS_UNAVAILABLE
    assert not edge.asked


def test_a_fetch_under_way_outlives_close(wallets: Wallets, edge: Endpoint) -> None:
    """Whoever waits for a fetch that has begun gets its answer, though the client closes meanwhile."""
    edge.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wallets.verify)
        wait_until(lambda: edge.asked)
        wallets.client.close()
        edge.release()
        assert waiting.result(30).issuer == EDGE


def test_a_stopped_service_is_quiet(
    wallets: Wallets, edge: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """What a fetch did not bring is logged, unless the client was closed meanwhile."""
    edge.instead = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for closed in (False, True):
        edge.hold()
        asked = len(edge.asked)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(refused, wallets)
            wait_until(lambda asked=asked: len(edge.asked) > asked)  # type: ignore[misc]
            if closed:
                wallets.client.close()
            edge.release()
            assert waiting.result(30) is Reason.JWKS_UNAVAILABLE
        wallets.clock.now += 10
    assert len(caplog.records) == 1


def test_everything_at_once(server: JWKSServer, clock: Clock) -> None:
    """Callers, floods, rotations, refreshes and reloads from many threads: nobody is refused wrongly."""
    names = [f"https://s{number:02}.example.com" for number in range(6)]
    endpoints = {name: server.endpoint(name[8:11], key()) for name in names}
    places = {name: endpoint.url for name, endpoint in endpoints.items()}
    busy = Wallets(clock, places)
    start = clock()
    stop = threading.Event()
    called: set[int] = set()

    def call(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            name, at = chance.choice(names), clock()
            if chance.random() < 0.2:
                assert refused(busy, busy.token(name, INTRUDER, at=at), at=at) is Reason.UNKNOWN_KID
            else:
                assert busy.verify(busy.token(name, at=at), at=at).issuer == name
            called.add(seed)

    def keep_house() -> None:
        rounds = 0
        while not stop.is_set():
            clock.now += 1
            busy.client.refresh_due()
            endpoints[names[rounds % 6]].publish(*[key(), OTHER][: 1 + rounds % 2])
            busy.use(places)
            rounds += 1
            stop.wait(0.001)

    with busy, ThreadPoolExecutor(5) as pool:
        for name in names:
            busy.verify(busy.token(name))
        work = [pool.submit(call, seed) for seed in range(4)] + [pool.submit(keep_house)]
        deadline = time.monotonic() + 3
        try:
            wait_until(lambda: clock() > start + 600 or time.monotonic() > deadline)
            wait_until(lambda: len(called) == 4 or any(one.done() for one in work))
        finally:
            stop.set()
        for one in work:
            one.result(30)
