"""`rediss://` with certificates, and users with no more rights than a service needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import trustme

from s2s_mesh.errors import KeyStoreError, StoreReason
from s2s_mesh.store import KeyStore, Notifier, open_store
from s2s_mesh.store.conformance import KeyStoreConformance
from s2s_mesh.store.redis_errors import acl
from tests.servers import RedisServer, server_program, tls_server_program, wait_until

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
    return f"{server.url.replace('//', f'//wallets:{quote(PASSWORD, safe="")}@')}?{query}"


class TestGuardedStore(KeyStoreConformance):
    """The conformance suite over TLS with a client certificate and the documented rights."""

    @pytest.fixture(autouse=True)
    def place(self, guarded: RedisServer, certificates: Certificates) -> Iterator[None]:
        self.url = login(guarded, certificates.query())
        yield
        # the user cannot delete, so each test of the suite has a document of its own
        TestGuardedStore.number += 1

    number = 0

    def make_store(self) -> KeyStore:
        return open_store(self.url, issuer=ISSUER, name=f"ring-{self.number}")
