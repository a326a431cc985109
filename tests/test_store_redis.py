"""`redis://`: one server, and everything that can go wrong between here and there."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from s2s_mesh.errors import KeyStoreError, StoreConflict, StoreReason
from s2s_mesh.store import KeyStore, Notifier, open_store
from s2s_mesh.store.redis_address import RedisAddress
from s2s_mesh.store.redis_client import connect
from s2s_mesh.store.redis_errors import acl
from s2s_mesh.store.redis_listener import RedisListener
from s2s_mesh.testing import KeyStoreConformance
from tests.patience import own_times
from tests.servers import SERVER_PROGRAMS, CuttingProxy, RedisServer, run_child, wait_until

BOUND = 9.0  # seconds; a hung server costs one or two time-outs of a second, and ten hidden retries eleven


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that all tests of this module may write to."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that this test may break."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def issuer() -> str:
    """An issuer that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example.com"


def key(issuer: str, name: str = "ring") -> str:
    """Return the key as documented."""
    return f"s2s-mesh:{{{issuer}}}:{name}"


def refused(store: KeyStore) -> KeyStoreError:
    """Return the error that loading ends with, in bounded time."""
    started = time.monotonic()
    with pytest.raises(KeyStoreError) as failure:
        store.load()
    assert time.monotonic() - started < BOUND
    return failure.value


@pytest.fixture(scope="module", params=list(SERVER_PROGRAMS))
def any_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each of the servers that are supported, in turn."""
    with RedisServer(program=SERVER_PROGRAMS[request.param]()) as started:
        yield started


class TestRedisStore(KeyStoreConformance):
    """The conformance suite on one server of each kind."""

    @pytest.fixture(autouse=True)
    def place(self, any_server: RedisServer, issuer: str) -> None:
        self.url, self.issuer = any_server.url, issuer

    def make_store(self) -> KeyStore:
        return open_store(self.url, issuer=self.issuer)


def test_the_document_is_one_key_with_the_issuer_as_hash_tag(server: RedisServer, issuer: str) -> None:
    """Key names are as documented, so that one line of ACL covers an issuer and one slot holds it."""
    with closing(open_store(server.url, issuer=issuer)) as ring:
        ring.swap(None, b"first")
        assert ring.shared
    with closing(open_store(server.url, issuer=issuer, name="deny")) as deny:
        assert deny.load() is None
        deny.swap(None, b"other")
    assert server.command("GET", key(issuer)) == b"$5\r\nfirst\r\n"
    assert server.command("GET", key(issuer, "deny")) == b"$5\r\nother\r\n"
    assert server.command("TTL", key(issuer)) == b":-1\r\n"


def test_the_database_number_is_used(server: RedisServer, issuer: str) -> None:
    """`/3` in the URL keeps the document apart from database 0."""
    with closing(open_store(f"{server.url}/3", issuer=issuer)) as store:
        store.swap(None, b"first")
    assert server.command("EXISTS", key(issuer)) == b":0\r\n"


def test_a_flushed_server_holds_no_document(own: RedisServer, issuer: str) -> None:
    """After FLUSHALL the document is absent, and can be written back only as such."""
    with closing(open_store(own.url, issuer=issuer)) as store:
        store.swap(None, b"first")
        own.flushall()
        assert store.load() is None
        with pytest.raises(StoreConflict):
            store.swap(b"first", b"second")
        store.swap(None, b"first")


# --- servers that hang, restart and lose answers


@pytest.mark.own_times("store")
def test_a_frozen_server_fails_in_bounded_time(own: RedisServer, issuer: str) -> None:
    """A server that accepts connections and never answers costs a time-out or two, not ten."""
    with (
        closing(open_store(own.url, issuer=issuer)) as used,
        closing(open_store(own.url, issuer=issuer)) as new,
    ):
        used.swap(None, b"first")
        own.pause()
        for store in (used, new):
            error = refused(store)
            assert error.reason is StoreReason.UNREACHABLE
            assert "did not answer within 1 s" in str(error)
        own.resume()
        assert used.load() == new.load() == b"first"


@pytest.mark.own_times("store")
def test_a_silent_port_fails_in_bounded_time(issuer: str) -> None:
    """What listens and is no Redis is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with closing(open_store(url, issuer=issuer)) as store:
            assert refused(store).reason is StoreReason.UNREACHABLE


def test_a_server_that_is_not_there_fails_at_once_and_is_found_later(own: RedisServer, issuer: str) -> None:
    """A refused connection is UNREACHABLE; the same store works as soon as the server does."""
    with closing(open_store(own.url, issuer=issuer)) as store:
        own.stop()
        assert refused(store).reason is StoreReason.UNREACHABLE
        own.start()
        store.swap(None, b"first")


def test_a_restarted_server_is_used_by_the_next_call(own: RedisServer, issuer: str) -> None:
    """A pooled connection that died with the server is replaced without an error."""
    with closing(open_store(own.url, issuer=issuer)) as store:
        store.swap(None, b"first")
        own.stop()
        own.start()
        assert store.load() is None
        store.swap(None, b"first")


@pytest.mark.parametrize("cut", ["request", "answer"])
def test_a_connection_that_dies_in_use_is_replaced_once(own: RedisServer, issuer: str, cut: str) -> None:
    """Whether the request or its answer is lost, a call on a used connection succeeds on a new one."""
    with CuttingProxy(own) as proxy, closing(open_store(proxy.url, issuer=issuer)) as store:
        store.swap(None, b"first")
        proxy.cut_next(cut, containing=b"GET")
        assert store.load() == b"first"
        proxy.cut_next(cut, containing=b"EVAL")
        store.swap(b"first", b"second")
        assert store.load() == b"second"


def test_a_new_connection_that_dies_is_an_error(own: RedisServer, issuer: str) -> None:
    """There is no second try where the connection was fresh, so a broken server costs bounded time."""
    with CuttingProxy(own) as proxy, closing(open_store(proxy.url, issuer=issuer)) as store:
        proxy.cut_next("request", containing=b"GET")
        assert refused(store).reason is StoreReason.UNREACHABLE
        assert store.load() is None


def test_a_connection_that_keeps_dying_is_an_error(own: RedisServer, issuer: str) -> None:
    """The replacement of a dead connection is not replaced again."""
    with CuttingProxy(own) as proxy, closing(open_store(proxy.url, issuer=issuer)) as store:
        assert store.load() is None
        proxy.cut_next("request", containing=b"GET")
        own.stop()
        assert refused(store).reason is StoreReason.UNREACHABLE


def fork_in_use(url: str, issuer: str) -> None:
    """In a child: fork from a process that goes on using its store, and use it in all of them."""
    store = open_store(url, issuer=issuer)
    assert store.load() == b"first"
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(store.load() == b"first" for _ in range(50)) else 1)
        children.append(child)
    assert all(store.load() == b"first" for _ in range(50))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    store.close()


def test_a_forked_process_uses_connections_of_its_own(server: RedisServer, issuer: str) -> None:
    """A store that was used before a fork works in parent and children at the same time."""
    with closing(open_store(server.url, issuer=issuer)) as store:
        store.swap(None, b"first")
    run_child(fork_in_use, server.url, issuer)


# --- what the server refuses


def test_a_full_server_asks_for_noeviction(own: RedisServer, issuer: str) -> None:
    """Reading still works; writing is UNREACHABLE, with what to change on the server."""
    own.command("CONFIG", "SET", "maxmemory", "1")
    with closing(open_store(own.url, issuer=issuer)) as store:
        assert store.load() is None
        with pytest.raises(KeyStoreError, match="noeviction") as refusal:
            store.swap(None, b"first")
        assert refusal.value.reason is StoreReason.UNREACHABLE


def test_another_kind_of_value_is_unreadable(server: RedisServer, issuer: str) -> None:
    """A key that holds a list is neither a document nor absent."""
    server.command("LPUSH", key(issuer), "x")
    with closing(open_store(server.url, issuer=issuer)) as store:
        assert refused(store).reason is StoreReason.UNREADABLE
        with pytest.raises(KeyStoreError, match="something else was stored") as refusal:
            store.swap(None, b"first")
        assert refusal.value.reason is StoreReason.UNREADABLE


@pytest.mark.parametrize(
    ("login", "accepted"),
    [
        ("default:Tr0ub4dor%2F3@", True),
        (":Tr0ub4dor%2F3@", True),
        ("", False),
        (":wr0ng-horse@", False),
        ("nobody:Tr0ub4dor%2F3@", False),
    ],
)
def test_a_wrong_login_is_a_matter_of_permissions(issuer: str, login: str, accepted: bool) -> None:
    """A missing or wrong password is told apart from a server that is away, and is not repeated."""
    with RedisServer("--requirepass", "Tr0ub4dor/3") as own:
        url = own.url.replace("//", f"//{login}")
        with closing(open_store(url, issuer=issuer)) as store:
            if accepted:
                assert store.load() is None
                return
            error = refused(store)
    assert error.reason is StoreReason.PERMISSIONS
    assert acl(issuer) in str(error)
    assert not {"Tr0ub4dor", "wr0ng-horse"} & set(re.findall(r"[\w-]+", str(error)))


def test_a_user_that_goes_is_a_matter_of_permissions(own: RedisServer, issuer: str) -> None:
    """A store in use whose user was deleted says so, and works again when the user is back."""
    user = ("ACL", "SETUSER", "wallets", "on", ">Tr0ub4dor", "allkeys", "allcommands")
    url = own.url.replace("//", "//wallets:Tr0ub4dor@")
    own.command(*user)
    with closing(open_store(url, issuer=issuer)) as store:
        assert store.load() is None
        own.command("ACL", "DELUSER", "wallets")
        assert refused(store).reason is StoreReason.PERMISSIONS
        own.command(*user)
        assert store.load() is None


def test_a_server_that_repeats_the_login_does_not_put_it_into_the_error(issuer: str) -> None:
    """A server without AUTH answers with its arguments; they are struck out."""
    with RedisServer("--rename-command", "AUTH", "") as own:
        url = own.url.replace("//", "//user:hunter2-hunter2@")
        with closing(open_store(url, issuer=issuer)) as store:
            error = refused(store)
    assert "***" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.own_times("store")
def test_a_plain_server_asked_for_tls_is_unreachable(server: RedisServer, issuer: str) -> None:
    """The scheme is among the things that the error asks to check."""
    url = server.url.replace("redis://", "rediss://")
    with closing(open_store(url, issuer=issuer)) as store:
        error = refused(store)
    assert error.reason is StoreReason.UNREACHABLE
    assert "rediss:// for TLS" in str(error)


def test_a_single_server_is_no_cluster(server: RedisServer, issuer: str) -> None:
    """A scheme that does not fit the server is named as the cause."""
    url = server.url.replace("redis://", "redis+cluster://")
    with closing(open_store(url, issuer=issuer)) as store:
        error = refused(store)
        assert error.reason is StoreReason.UNREACHABLE
        assert "scheme and server do not fit" in str(error)


# --- telling others


class Heard(list[str]):
    """Messages in the order they came."""

    def wait_for(self, *messages: str) -> None:
        """Wait until exactly these have come."""
        wait_until(lambda: len(self) >= len(messages), what=f"{messages}, heard {self}")
        assert self == list(messages)


def notifier(url: str, issuer: str) -> Notifier:
    """Return the store as a notifier."""
    store = open_store(url, issuer=issuer)
    assert isinstance(store, Notifier)
    return store


def test_a_message_reaches_every_listener_of_its_issuer(server: RedisServer, issuer: str) -> None:
    """What one process publishes, listeners of the same issuer hear, and nobody else."""
    one, other, foreign = Heard(), Heard(), Heard()
    speaker = open_store(server.url, issuer=issuer)
    stops = [
        notifier(server.url, issuer).listen(one.append),
        notifier(server.url, issuer).listen(other.append),
        notifier(server.url, f"{issuer}/v2").listen(foreign.append),
    ]
    with closing(speaker):
        for heard in (one, other, foreign):
            heard.wait_for("resubscribed")
        assert isinstance(speaker, Notifier)
        speaker.publish("who-has")
        speaker.publish("chängéd")
        for heard in (one, other):
            heard.wait_for("resubscribed", "who-has", "chängéd")
        assert foreign == ["resubscribed"]
    for stop in stops:
        stop()


def test_listening_survives_a_restart(own: RedisServer, issuer: str) -> None:
    """After the server was away the listener subscribes again and says so."""
    heard = Heard()
    stop = notifier(own.url, issuer).listen(heard.append)
    heard.wait_for("resubscribed")
    own.stop()
    own.start()
    heard.wait_for("resubscribed", "resubscribed")
    own.command("PUBLISH", f"s2s-mesh:{{{issuer}}}:changes", "changed")
    heard.wait_for("resubscribed", "resubscribed", "changed")
    stop()


def test_a_connection_that_fell_silent_is_noticed(
    own: RedisServer, issuer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A listener whose server stopped answering subscribes anew; one that is merely quiet does not."""
    caplog.set_level(logging.DEBUG, "s2s_mesh.store")
    heard = Heard()
    address = RedisAddress.parse(own.url)
    listener = RedisListener(
        lambda: connect(address), key=key(issuer), channel="changes", on_message=heard.append, silence=0.2
    )
    listener.start()
    heard.wait_for("resubscribed")
    wait_until(lambda: b"cmdstat_ping:calls=3" in own.command("INFO", "commandstats"), what="pings")
    assert heard == ["resubscribed"]
    with own_times("store"):
        own.pause()
        wait_until(lambda: "no answer to PING" in caplog.text)
    own.resume()
    heard.wait_for("resubscribed", "resubscribed")
    listener.stop()


def test_a_failing_listener_goes_on_listening(
    server: RedisServer, issuer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the function that is called is logged and does not end the thread."""
    heard = Heard()

    def fail_once(message: str) -> None:
        heard.append(message)
        if message == "bad":
            raise ValueError("cannot handle this")

    store = notifier(server.url, issuer)
    stop = store.listen(fail_once)
    heard.wait_for("resubscribed")
    channel = f"s2s-mesh:{{{issuer}}}:changes"
    server.command("PUBLISH", channel, "bad")
    server.command("PUBLISH", channel, "good")
    heard.wait_for("resubscribed", "bad", "good")
    stop()
    assert "cannot handle this" in caplog.text


def test_a_listener_can_stop_itself(server: RedisServer, issuer: str) -> None:
    """Stopping from within the callback does not wait for the thread that would have to end."""
    before = set(threading.enumerate())
    stopped = threading.Event()
    stops: list[Callable[[], None]] = []

    def stop_at_once(_message: str) -> None:
        wait_until(lambda: stops)
        stops[0]()
        stopped.set()

    stops.append(notifier(server.url, issuer).listen(stop_at_once))
    assert stopped.wait(20)
    stops[0]()
    assert set(threading.enumerate()) <= before


def test_publishing_never_fails(own: RedisServer, issuer: str, caplog: pytest.LogCaptureFixture) -> None:
    """A message that cannot be sent is a line in the debug log."""
    caplog.set_level(logging.DEBUG, "s2s_mesh.store")
    own.stop()
    notifier(own.url, issuer).publish("changed")
    assert "publishing on s2s-mesh:" in caplog.text


def test_every_thread_gets_its_answer(server: RedisServer, issuer: str) -> None:
    """One store serves many threads at once without mixing up their answers."""
    with closing(open_store(server.url, issuer=issuer)) as store:
        store.swap(None, b"first")
        answers: list[bytes | None] = []
        threads = [
            threading.Thread(target=lambda: answers.extend(store.load() for _ in range(50))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"first"] * 400
