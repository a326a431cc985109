"""Access tokens are kept, asked for once whoever wants them, and renewed while the old one is good."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import ConfigError, KeyStoreError, OAuthClient, OAuthError, Service, oauth_fetch, oauth_tokens
from s2s_mesh.observer import Minted

from .jwks_servers import until
from .servers import run_child, wait_until
from .test_httpx_auth import TRUST
from .token_endpoint import METADATA, NOT_FOUND, TokenEndpoint, document
from .tokens import EDGE, Clock


class Calling:
    """A service, its clock, and a server that gives it tokens for 300 s."""

    def __init__(self, server: TokenEndpoint, service: Service, clock: Clock) -> None:
        self.server = server
        self.service = service
        self.clock = clock

    def client(self, **options: Any) -> OAuthClient:
        return self.service.oauth_client(self.server.issuer, origins=[], **options)

    def settled(self, requests: int) -> None:
        """Wait until this many requests were answered, and what came of them is known."""
        tokens = self.service.running().oauth
        wait_until(lambda: tokens.requests == requests and not tokens._in_flight)

    @property
    def asked(self) -> int:
        return self.service.running().oauth.requests


@pytest.fixture
def calling() -> Iterator[Calling]:
    clock = Clock()
    service = Service(issuer=EDGE, trust=TRUST, key_store="memory://")
    service.clock = clock
    with TokenEndpoint() as server, service:
        yield Calling(server, service, clock)


def test_threads_and_tasks_share_one_request(calling: Calling) -> None:
    """However many want a token that is not there yet."""
    calling.server.hold()
    first, second = calling.client(), calling.client()

    async def tasks() -> list[str]:
        return await asyncio.gather(*(second.token_async() for _ in range(20)))

    with ThreadPoolExecutor(9) as pool:
        threads = [pool.submit(first.token) for _ in range(8)]
        loop = pool.submit(asyncio.run, tasks())
        wait_until(lambda: calling.server.forms)
        calling.server.release()
        got = {future.result() for future in threads} | set(loop.result())
    assert got == {"token-1"}
    assert len(calling.server.forms) == 1


def test_what_is_asked_for_makes_the_token(calling: Calling) -> None:
    """Other scopes, resources, client ids: another token each."""
    tokens = [
        calling.client(**options).token()
        for options in (
            {},
            {"scopes": ["a"]},
            {"resource": "urn:a"},
            {"audience": "a"},
            {"client_id": "a"},
            {"scopes": ["a"]},
            {},
        )
    ]
    assert tokens == ["token-1", "token-2", "token-3", "token-4", "token-5", "token-2", "token-1"]


def test_nobody_waits_for_a_renewal(calling: Calling) -> None:
    """One asks, in the background; everybody else goes on with the old token until the new one is there."""
    client = calling.client()
    assert client.token() == "token-1"
    calling.server.hold()
    calling.clock.now += 179
    assert client.token() == "token-1"
    assert calling.asked == 1
    calling.clock.now += 66
    assert {client.token() for _ in range(50)} == {"token-1"}
    assert asyncio.run(client.token_async()) == "token-1"
    assert calling.service.running().oauth._in_flight  # still, and before the answer
    calling.server.release()
    calling.settled(2)
    assert client.token() == "token-2"
    assert len(calling.server.forms) == 2


def test_a_failed_renewal_keeps_the_old_token_until_its_end(calling: Calling) -> None:
    """The server is asked again after a pause each time, and in the end the error comes out."""
    client = calling.client()
    client.token()
    calling.server.instead = document({}, status="503 Unavailable")
    calling.clock.now += 245
    for requests in (2, 3):
        for _ in range(10):
            assert client.token() == "token-1"
        calling.settled(requests)
        calling.clock.now += 2
    calling.clock.now += 50
    with pytest.raises(OAuthError, match="answered 503") as error:
        client.token()
    assert error.value.issuer == calling.server.issuer
    calling.server.instead = None
    calling.clock.now += 31
    assert client.token() == f"token-{len(calling.server.forms)}"


def test_without_a_token_it_fails_at_once_until_it_is_time_to_ask_again(calling: Calling) -> None:
    """Whoever calls in a loop does not ask the server in one."""
    client = calling.client()
    calling.server.instead = document({"error": "invalid_client"}, status="401 Unauthorized")
    for _ in range(20):
        with pytest.raises(OAuthError) as error:
            client.token()
        assert error.value.code == "invalid_client"
    assert calling.asked == 1
    calling.server.instead = None
    calling.clock.now += 1
    assert client.token() == "token-2"


def test_metadata_is_read_once_and_again_after_a_failure(calling: Calling) -> None:
    """For an hour at most, by a clock that goes on: an endpoint may move."""
    server, client = calling.server, calling.client()

    def read() -> int:
        return sum(head.path == METADATA for head in server.heads)

    client.token()
    calling.client(scopes=["a"]).token()
    assert read() == 1
    server.instead = NOT_FOUND
    with pytest.raises(OAuthError):
        calling.client(scopes=["b"]).token()
    server.instead = None
    server.describe(token_endpoint=server.url("/other"))
    calling.client(scopes=["c"]).token()
    assert read() == 2
    assert server.heads[-1].path == "/other"
    calling.clock.now += 3600
    calling.client(scopes=["d"]).token()
    assert read() == 3
    calling.clock.now -= 1
    calling.client(scopes=["e"]).token()
    assert read() == 4


def test_a_cancelled_task_cancels_nobody_elses_request(calling: Calling) -> None:
    """The others get what it waited for."""
    client = calling.client()

    async def tasks() -> str:
        calling.server.hold()
        first, second = (asyncio.ensure_future(client.token_async()) for _ in range(2))
        await until(lambda: calling.server.forms)
        first.cancel()
        await asyncio.sleep(0)
        calling.server.release()
        return await second

    assert asyncio.run(tasks()) == "token-1"


def test_a_server_that_is_too_slow_is_not_waited_for_longer(
    calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits goes; the token is there for those who come later."""
    monkeypatch.setattr(oauth_tokens.OAuthTokens, "wait_seconds", 0.1)
    client = calling.client()
    calling.server.hold()
    with pytest.raises(OAuthError, match="does not answer in time"):
        client.token()
    calling.server.release()
    calling.settled(1)
    assert client.token() == "token-1"


def test_a_life_begins_when_the_token_is_asked_for(calling: Calling) -> None:
    """Whenever the answer comes: the server counts from earlier than that."""
    calling.server.life = 10
    calling.server.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calling.client().token)
        wait_until(lambda: calling.server.forms)
        calling.clock.now += 10
        calling.server.release()
        assert isinstance(waiting.exception(), OAuthError)
    assert calling.client().token() == "token-2"


def test_other_errors_come_out_as_they_are(calling: Calling, tmp_path: Path) -> None:
    """No keys at all, no key yet, a server that cannot be used."""
    mine = {"issuer": EDGE, "trust": TRUST, "allow_unsealed_key_store": True}
    issuer = calling.server.issuer
    for store, kind, says in (
        (None, ConfigError, "key_store=None"),
        (tmp_path.as_uri(), KeyStoreError, "no ring for|keys init"),
    ):
        service = Service(key_store=store, **mine)  # type: ignore[arg-type]
        with pytest.raises(kind, match=says):
            service.oauth_client(issuer, origins=[]).token()
        service.__exit__()
    calling.server.describe(token_endpoint_auth_methods_supported=["client_secret_basic"])
    with pytest.raises(ConfigError, match="does not take private_key_jwt"):
        calling.client().token()
    calling.server.describe(token_endpoint_auth_signing_alg_values_supported=["RS256"])
    with pytest.raises(ConfigError, match="signed with RS256, and the key that signs here is for ES256"):
        calling.client(scopes=["a"]).token()
    assert calling.server.forms == []


def test_a_bug_keeps_nobody_waiting(
    calling: Calling, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with all there is, and told without."""

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("inside")

    monkeypatch.setattr(oauth_fetch, "token", broken)
    with pytest.raises(OAuthError, match="internal error, see the log"):
        calling.client().token()
    assert "this is a bug" in caplog.text
    assert [vars(record)["s2s_mesh"]["error"] for record in caplog.records] == ["internal error"]


def test_a_machine_without_threads_to_give(calling: Calling, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error like any other; the next attempt may be luckier."""

    def none_left(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", none_left)
        with pytest.raises(OAuthError, match="can't start new thread"):
            calling.client().token()
    calling.clock.now += 1
    assert calling.client().token() == "token-1"


def test_nothing_is_asked_for_once_the_service_stops(calling: Calling) -> None:
    """Who waits in the queue is let go."""
    tokens = calling.service.running().oauth
    calling.server.hold()
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(calling.client(scopes=[f"s{n}"]).token) for n in range(6)]
        wait_until(lambda: tokens.requests == 6)
        tokens.close()
        calling.server.release()
        outcomes = [future.exception() for future in waiting]
    assert sum(outcome is None for outcome in outcomes) == 4
    assert {str(outcome).partition(": ")[2] for outcome in outcomes if outcome} == {
        "it does not answer in time"
    }
    with pytest.raises(OAuthError):
        calling.client(scopes=["late"]).token()
    assert tokens.requests == 6


def test_requests_that_differ_each_time_do_not_fill_the_memory(
    calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are known are asked for again; one that is under way comes all the same."""
    monkeypatch.setattr(oauth_tokens, "_MAX_STATES", 4)
    tokens = calling.service.running().oauth
    for n in range(7):
        calling.client(scopes=[f"s{n}"]).token()
    assert len(tokens._states) == 3
    calling.server.hold()
    with ThreadPoolExecutor(2) as pool:
        waiting = []
        for n in (7, 8):
            waiting.append(pool.submit(calling.client(scopes=[f"s{n}"]).token))
            wait_until(lambda n=n: tokens.requests == n + 1)  # type: ignore[misc]
        assert len(tokens._states) == 2
        calling.server.release()
        assert {future.result() for future in waiting} == {"token-8", "token-9"}


def test_a_legacy_audience_is_told_once_for_each_server(
    calling: Calling, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is asked for, and however often."""
    for n in range(3):
        calling.client(scopes=[f"s{n}"], legacy_audience="token_endpoint").token()
    told = [vars(record)["s2s_mesh"] for record in caplog.records if record.levelname == "WARNING"]
    assert told == [{"event": "oauth_legacy_audience", "issuer": calling.server.issuer}]
    assert [form["client_id"] for form in calling.server.forms] == [[EDGE]] * 3


def test_observers_are_told_of_each_assertion() -> None:
    """As of every token that is signed; it is for nobody whom a metric should name."""
    seen: list[Any] = []

    class Observer:
        def watch(self, _look: Any) -> None:
            pass

        def observe(self, event: Any) -> None:
            seen.append(event)

    service = Service(issuer=EDGE, trust=TRUST, key_store="memory://", observers=[Observer()])
    with TokenEndpoint() as server, service:
        service.oauth_client(server.issuer, origins=[]).token()
    (minted,) = [event for event in seen if isinstance(event, Minted)]
    assert (minted.kind, minted.audience) == ("client-authentication+jwt", "")


def fork_and_ask(issuer: str) -> None:
    """Get a token, fork, and get one in the child."""
    service = Service(issuer=EDGE, trust=TRUST, key_store="memory://")
    client = service.oauth_client(issuer, origins=[])
    before = threading.active_count()
    assert before == 1, "making a client started something"
    client.token()
    child = os.fork()
    if child == 0:
        try:
            print(client.token(), flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    print(client.token())
    service.__exit__()


def test_a_child_process_asks_for_itself() -> None:
    """Nothing is begun before the first use, and what a fork leaves behind is begun anew."""
    with TokenEndpoint() as server:
        assert run_child(fork_and_ask, server.issuer).split() == ["token-2", "token-1"]
