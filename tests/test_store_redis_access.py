"""`rediss://` with certificates, and users with no more rights than a service needs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import trustme

from s2s_mesh.errors import KeyStoreError, StoreReason
from s2s_mesh.store import KeyStore, Notifier, open_store
from s2s_mesh.store.redis_errors import acl
from s2s_mesh.testing import KeyStoreConformance
from tests.servers import SERVER_PROGRAMS, RedisServer, tls_server_program, wait_until

ISSUER = "https://wallets.example.com"
OTHER_ISSUER = "https://ledger.example.com"
PASSWORD = "p@ss/w:rd"


class Certificates:
    """An authority, a server and a client certificate, as files."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.authority = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.server = self._issue(authority, directory / "server", "127.0.0.1")
        self.wrong_name = self._issue(authority, directory / "wrong", "elsewhere.example.com")
        self.client = self._issue(authority, directory / "client", "wallets.example.com")

    @staticmethod
    def _issue(authority: trustme.CA, stem: Path, name: str) -> tuple[str, str]:
        issued = authority.issue_cert(name)
        certificate, key = f"{stem}.pem", f"{stem}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def options(self, server: tuple[str, str]) -> tuple[str, ...]:
        """Return the command line options of a server with this certificate that wants one of clients."""
        certificate, key = server
        files = ("--tls-cert-file", certificate, "--tls-key-file", key)
        return (*files, "--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "yes")

    def query(self, **changes: str | None) -> str:
        """Return the query of a URL that trusts the authority and shows the client certificate."""
        parameters = {
            "ssl_ca_certs": str(self.authority),
            "ssl_certfile": self.client[0],
            "ssl_keyfile": self.client[1],
            **changes,
        }
        return urlencode({name: value for name, value in parameters.items() if value is not None})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for all tests of this module."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(certificates: Certificates) -> Iterator[RedisServer]:
    """A server with TLS, client certificates, and one user who has the documented rights only."""
    config = f"user default off\nuser wallets on >{PASSWORD} {acl(ISSUER)}\n"
    options = certificates.options(certificates.server)
    with RedisServer(*options, program=tls_server_program(), config=config, tls=True) as server:
        yield server


def login(server: RedisServer, query: str = "") -> str:
    """Return the server's URL with the user's login."""
    user = f"wallets:{quote(PASSWORD, safe='')}"
    return f"{server.url.replace('//', f'//{user}@')}?{query}"


class TestGuardedStore(KeyStoreConformance):
    """The conformance suite over TLS with a client certificate and the documented rights."""

    @pytest.fixture(autouse=True)
    def place(self, guarded: RedisServer, certificates: Certificates) -> None:
        self.url = login(guarded, certificates.query())
        # this user cannot delete, so each test has a document of its own
        self.name = f"ring-{uuid.uuid4().hex[:8]}"

    def make_store(self) -> KeyStore:
        return open_store(self.url, issuer=ISSUER, name=self.name)


def notifier(url: str, issuer: str) -> Notifier:
    """Return the store as a notifier."""
    store = open_store(url, issuer=issuer)
    assert isinstance(store, Notifier)
    return store


def test_messages_pass_with_the_documented_rights(guarded: RedisServer, certificates: Certificates) -> None:
    """The rights that errors and documentation name are enough to publish and to listen."""
    heard: list[str] = []
    store = notifier(login(guarded, certificates.query()), ISSUER)
    stop = store.listen(heard.append)
    wait_until(lambda: heard)
    store.publish("changed")
    wait_until(lambda: heard == ["resubscribed", "changed"])
    stop()


@pytest.mark.parametrize("program", SERVER_PROGRAMS.values(), ids=SERVER_PROGRAMS)
def test_every_server_knows_the_documented_rights(program: Callable[[], str]) -> None:
    """They are enough to read, write, publish and listen on the oldest server as on the newest."""
    heard: list[str] = []
    config = f"user default off\nuser wallets on >{PASSWORD} {acl(ISSUER)}\n"
    with RedisServer(program=program(), config=config) as server:
        with closing(open_store(login(server), issuer=ISSUER)) as store:
            store.swap(None, b"first")
            store.swap(b"first", b"second")
            assert store.load() == b"second"
        channel = notifier(login(server), ISSUER)
        stop = channel.listen(heard.append)
        wait_until(lambda: heard)
        channel.publish("changed")
        wait_until(lambda: heard == ["resubscribed", "changed"])
        stop()


def test_the_document_of_another_issuer_is_out_of_reach(
    guarded: RedisServer, certificates: Certificates
) -> None:
    """With the rights of one issuer another one's document is neither read nor written."""
    with closing(open_store(login(guarded, certificates.query()), issuer=OTHER_ISSUER)) as store:
        for attempt in (store.load, lambda: store.swap(None, b"mine now")):
            with pytest.raises(KeyStoreError) as refusal:
                attempt()
            assert refusal.value.reason is StoreReason.PERMISSIONS
            assert acl(OTHER_ISSUER) in str(refusal.value)
            assert PASSWORD not in str(refusal.value)


def test_the_channel_of_another_issuer_is_out_of_reach(
    guarded: RedisServer, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither publishing nor listening there works, and neither raises."""
    caplog.set_level(logging.DEBUG, "s2s_mesh.store")
    heard: list[str] = []
    store = notifier(login(guarded, certificates.query()), OTHER_ISSUER)
    stop = store.listen(heard.append)
    store.publish("changed")
    wait_until(lambda: "publishing on" in caplog.text and caplog.text.count("listening on") > 1)
    stop()
    assert not heard


@pytest.mark.parametrize("right", ["publish", "wait", "client", "ping"])
def test_rights_that_can_be_missed(certificates: Certificates, right: str) -> None:
    """Without the right to publish or to wait for replicas, a store still stores."""
    config = f"user default on nopass resetchannels allcommands ~* -{right}\n"
    with RedisServer(config=config) as server, closing(open_store(server.url, issuer=ISSUER)) as store:
        store.swap(None, b"first")
        store.swap(b"first", b"second")
        assert store.load() == b"second"
        assert isinstance(store, Notifier)
        store.publish("changed")
        assert b"client|" not in server.command("ACL", "LOG")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"ssl_cert_reqs": "none", "ssl_ca_certs": None}, None),
        ({"ssl_ca_certs": None}, "?ssl_ca_certs=FILE"),
        ({"ssl_certfile": None, "ssl_keyfile": None}, "rediss:// for TLS"),
        ({"ssl_ca_certs": "/nonexistent.pem"}, "No such file"),
    ],
)
def test_certificates_are_checked_on_both_sides(
    guarded: RedisServer, certificates: Certificates, changes: dict[str, str | None], says: str | None
) -> None:
    """An unknown authority, or no client certificate, ends the connection; the error says which option."""
    with closing(open_store(login(guarded, certificates.query(**changes)), issuer=ISSUER)) as store:
        if says is None:
            store.load()
            return
        with pytest.raises(KeyStoreError) as refusal:
            store.load()
    assert refusal.value.reason is StoreReason.UNREACHABLE
    assert says in str(refusal.value)


def test_the_host_name_is_checked_unless_the_url_says_otherwise(certificates: Certificates) -> None:
    """A trusted certificate of another host is refused; `ssl_check_hostname=false` accepts it."""
    options = certificates.options(certificates.wrong_name)
    with RedisServer(*options, program=tls_server_program(), tls=True) as server:
        url = f"{server.url}?{certificates.query()}"
        with closing(open_store(url, issuer=ISSUER)) as store, pytest.raises(KeyStoreError) as refusal:
            store.load()
        assert refusal.value.reason is StoreReason.UNREACHABLE
        with closing(open_store(f"{url}&ssl_check_hostname=false", issuer=ISSUER)) as store:
            store.swap(None, b"first")
