"""The two drivers of a flow: they do the same, and neither waits longer than it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from s2s_mesh.drivers import drive, drive_async
from s2s_mesh.effects import Answer, Effect, FetchJWKS
from s2s_mesh.errors import JWKSUnavailable, MeshError
from s2s_mesh.identity import Principal

from .jwks_servers import Clock, Endpoint, JWKSServer, Wallets, until
from .servers import wait_until
from .tokens import EDGE, LEDGER, NOW, WALLETS, key, sign

Flow = Generator[Effect, Answer, Any]
Drive = Callable[[Flow, Wallets], Any]
INTRUDER = key(name="intruder")


def by_hand(flow: Flow, wallets: Wallets) -> Any:
    """What a driver does, step by step."""
    try:
        effect = next(flow)
        while True:
            future = wallets.client.begin(effect)
            if future is not None:
                future.result(30)
            effect = flow.send(Answer(wallets.clock()))
    except StopIteration as done:
        return done.value


def in_a_thread(flow: Flow, wallets: Wallets) -> Any:
    """The synchronous driver."""
    return drive(flow, wallets.client, wallets.clock)


def on_a_loop(flow: Flow, wallets: Wallets) -> Any:
    """The asynchronous driver."""
    return asyncio.run(drive_async(flow, wallets.client, wallets.clock))


DRIVERS = [in_a_thread, on_a_loop]


@pytest.fixture
def server() -> Iterator[JWKSServer]:
    with JWKSServer(Clock()) as made:
        yield made


@pytest.fixture
def edge(server: JWKSServer) -> Endpoint:
    """Edge's endpoint, with one key."""
    return server.endpoint("edge", key())


@pytest.fixture
def wallets(edge: Endpoint) -> Iterator[Wallets]:
    """`wallets`, which trusts edge."""
    with Wallets(Clock(), {EDGE: edge.url}) as made:
        yield made


def ask(kid: str = "made-up") -> FetchJWKS:
    """An effect of edge's."""
    return FetchJWKS(issuer=EDGE, kid=kid)


# -- all do the same ----------------------------------------------------------------------------------------

TOKENS: dict[str, Callable[[Wallets], bytes]] = {
    "good": lambda wallets: wallets.token(),
    "an unknown kid": lambda wallets: wallets.token(signer=INTRUDER),
    "an unknown issuer": lambda wallets: wallets.token("https://intruder.example.com"),
    "an issuer that is down": lambda wallets: wallets.token(LEDGER),
    "a signature of another key": lambda wallets: wallets.token(signer=INTRUDER, kid=key().kid),
    "expired": lambda wallets: wallets.token(at=NOW - 1000),
    "a header only": lambda _: sign({}, {}, key()),
}


@pytest.mark.parametrize("token", TOKENS)
def test_by_hand_or_driven(server: JWKSServer, token: str) -> None:
    """A token has one verdict, whoever drives its flow, with keys at hand and without."""
    verdicts = set()
    for drive_it in [by_hand, *DRIVERS]:
        endpoint, down = server.endpoint("edge", key()), server.endpoint("ledger")
        down.instead = b""
        with Wallets(Clock(), {EDGE: endpoint.url, LEDGER: down.url}) as wallets:
            raw = TOKENS[token](wallets)
            for _ in range(2):
                try:
                    principal = drive_it(wallets.flow(raw), wallets)
                    assert isinstance(principal, Principal)
                    verdict = (
                        f"{principal.issuer} {principal.audience} {principal.kid} {principal.claims['jti']}"
                    )
                except MeshError as error:
                    verdict = f"{type(error).__name__} {error}"
                verdicts.add((verdict, len(endpoint.asked), wallets.client.fetches))
    said = {verdict for verdict, _, _ in verdicts}
    assert len(said) == 1
    assert (f"{EDGE} {WALLETS}" in said.pop()) is (token == "good")
    assert len(verdicts) == 1


@pytest.mark.parametrize("drive_it", [by_hand, *DRIVERS])
def test_a_flow_that_asks_for_nothing(wallets: Wallets, drive_it: Drive) -> None:
    """Its result comes out, and nothing is fetched."""

    def flow() -> Flow:
        yield from ()
        return "result"

    assert drive_it(flow(), wallets) == "result"
    assert wallets.client.fetches == 0


@pytest.mark.parametrize("drive_it", [by_hand, *DRIVERS])
def test_a_flow_is_sent_the_time_after_the_wait(wallets: Wallets, edge: Endpoint, drive_it: Drive) -> None:
    """A flow is sent the clock's time when its wait is over, also where there was nothing to wait for."""

    def flow() -> Flow:
        times = []
        for _ in range(3):
            wallets.clock.now += 1
            times.append((yield ask(key().kid)).now)
        return times

    assert drive_it(flow(), wallets) == [NOW + 1, NOW + 2, NOW + 3]
    assert len(edge.asked) == 1
    assert wallets.resolver.key(EDGE, key().kid, wallets.clock()) is not None


@pytest.mark.parametrize("drive_it", [by_hand, *DRIVERS])
@pytest.mark.parametrize("questions", [0, 1, 3])
@pytest.mark.parametrize("error", [JWKSUnavailable(EDGE, "x"), ValueError("x"), KeyboardInterrupt()])
def test_what_a_flow_raises_comes_out(
    wallets: Wallets, drive_it: Drive, questions: int, error: BaseException
) -> None:
    """The very error, whether before, between or after its questions."""

    def flow() -> Flow:
        for _ in range(questions):
            yield ask()
        raise error

    with pytest.raises(type(error)) as raised:
        drive_it(flow(), wallets)
    assert raised.value is error


# -- waiting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drive_it", DRIVERS)
def test_a_wait_ends(wallets: Wallets, edge: Endpoint, drive_it: Drive) -> None:
    """A fetch that does not end keeps nobody longer than the wait; the flow goes on and decides."""
    wallets.client.wait_seconds = 0.2
    edge.hold()
    with pytest.raises(JWKSUnavailable, match="not been fetched yet"):  # else it would succeed, much later
        drive_it(wallets.flow(), wallets)
    wait_until(lambda: edge.asked)
    edge.release()
    wait_until(lambda: wallets.resolver.has_keys(EDGE, NOW))
    assert drive_it(wallets.flow(), wallets).issuer == EDGE
    assert len(edge.asked) == 1


@pytest.mark.parametrize("drive_it", DRIVERS)
def test_all_waits_of_a_flow_have_one_end(wallets: Wallets, edge: Endpoint, drive_it: Drive) -> None:
    """A flow that waits again and again waits no longer in all than one that waits once."""
    wallets.client.wait_seconds = 0.5
    edge.hold()

    def flow() -> Flow:
        for _ in range(200):
            yield ask()
        return "went on"

    started = time.monotonic()
    assert drive_it(flow(), wallets) == "went on"
    assert 0.4 < time.monotonic() - started < 20  # 200 waits would be 100 s, and nobody answers before 40 s
    edge.release()


@pytest.mark.parametrize("drive_it", DRIVERS)
def test_a_flow_that_may_not_fetch_does_not_wait(wallets: Wallets, edge: Endpoint, drive_it: Drive) -> None:
    """While the budget allows no fetch, a flow goes on at once."""

    def flow() -> Flow:
        yield ask()
        return "went on"

    assert drive_it(flow(), wallets) == "went on"
    assert drive_it(flow(), wallets) == "went on"
    edge.hold()
    asked = len(edge.asked)
    for _ in range(50):
        assert drive_it(flow(), wallets) == "went on"
    assert len(edge.asked) == asked  # and what is not asked for cannot be waited for


def test_the_event_loop_goes_on(wallets: Wallets, edge: Endpoint) -> None:
    """While a flow waits for a fetch, the loop serves others."""
    edge.hold()
    ticks = 0

    async def serve() -> Principal:
        nonlocal ticks
        waiting = asyncio.create_task(wallets.verify_async())
        while ticks < 20:
            await asyncio.sleep(0)
            ticks += 1
        await until(lambda: edge.asked)
        assert not waiting.done()
        edge.release()
        return await waiting

    assert asyncio.run(serve()).issuer == EDGE
    assert ticks == 20


def test_a_flow_is_cancelled_where_it_waits(wallets: Wallets, edge: Endpoint) -> None:
    """A cancelled task ends at once, and its flow is closed, so that it can tidy up."""
    edge.hold()
    closed = []

    def flow() -> Flow:
        try:
            yield ask()
        finally:
            closed.append(True)

    async def cancel() -> None:
        waiting = asyncio.create_task(drive_async(flow(), wallets.client, wallets.clock))
        await until(lambda: edge.asked)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel())
    assert closed == [True]


def test_threads_and_loops_together(wallets: Wallets, edge: Endpoint) -> None:
    """Whoever waits for one issuer, in threads and on event loops, waits for one fetch."""
    edge.hold()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(drive_it, wallets.flow(), wallets) for drive_it in DRIVERS * 4]
        wait_until(lambda: edge.asked)
        edge.release()
        assert {one.result(30).issuer for one in waiting} == {EDGE}
    assert len(edge.asked) == 1
