"""Tokens that we make for our own client certificate, and connections that change with it."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import requests

from s2s_mesh import ConfigError, Service
from s2s_mesh.certificates import thumbprint
from s2s_mesh.client_certificate import ClientCertificate
from s2s_mesh.integrations.requests_auth import RequestsAuth
from s2s_mesh.jws import decode

from .certifying import Certified, authority, client, client_context, server_context
from .stands import in_thread
from .tokens import EDGE, WALLETS

FIRST, SECOND, THIRD = client("first"), client("second"), client("third")
TRUST = Path(__file__).parents[1] / "trust" / "trust.toml"


@pytest.fixture(scope="module")
def edge() -> Iterator[Service]:
    with Service(issuer=EDGE, trust=TRUST, key_store="memory://", allow_loopback_http=True) as service:
        yield service


def cnf(token: str) -> Any:
    return decode(token.encode()).claims.get("cnf")


def bound_to(who: Certified) -> dict[str, str]:
    return {"x5t#S256": who.thumbprint}


@pytest.mark.parametrize("form", [FIRST.der, FIRST.pem, FIRST.key + FIRST.pem, FIRST.leaf_pem.encode()])
def test_a_token_is_bound_to_the_certificate(edge: Service, form: bytes, tmp_path: Path) -> None:
    """Given as content or as a file, in PEM or DER; the first of a chain, wherever the key stands."""
    (tmp_path / "client").write_bytes(form)
    for given in (form, tmp_path / "client", str(tmp_path / "client"), ClientCertificate(form)):
        assert cnf(edge.token(WALLETS, certificate=given)) == bound_to(FIRST)


def test_tokens_are_kept_by_certificate(edge: Service) -> None:
    """None is handed out for another certificate, or as a plain one."""
    plain, first, second = (edge.token(WALLETS, certificate=given) for given in (None, FIRST.der, SECOND.der))
    assert [cnf(token) for token in (plain, first, second)] == [None, bound_to(FIRST), bound_to(SECOND)]
    assert edge.token(WALLETS, certificate=FIRST.pem) == first
    edge.forget_token(WALLETS, certificate=FIRST.der)
    assert edge.token(WALLETS, certificate=FIRST.der) != first
    assert (edge.token(WALLETS), edge.token(WALLETS, certificate=SECOND.der)) == (plain, second)
    once = edge.token(WALLETS, certificate=SECOND.der, once=True)
    assert once != second
    assert cnf(once) == bound_to(SECOND)


def test_a_renewed_file_is_noticed(edge: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the next token; while it is half written or away, tokens stay bound to what it was."""
    path, _ = FIRST.write(tmp_path)
    certificate = ClientCertificate(path)
    assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(FIRST)
    path.write_bytes(SECOND.pem[:100])
    for _ in range(3):
        assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(FIRST)
    path.unlink()
    for _ in range(3):
        assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(FIRST)
    assert caplog.text.count("as it last was") == 2  # once for each of what was wrong
    SECOND.write(tmp_path)
    assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(SECOND)
    path.unlink()
    assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(SECOND)
    assert caplog.text.count("as it last was") == 3


def test_a_renewed_file_is_noticed_by_more_than_its_time(edge: Service, tmp_path: Path) -> None:
    """One that takes another's place, with the same size and time, as programs that copy files make them."""
    path, renewed = tmp_path / "client.pem", tmp_path / "renewed.pem"
    size = max(len(FIRST.pem), len(SECOND.pem))
    path.write_bytes(FIRST.pem.ljust(size))
    certificate = ClientCertificate(path)
    renewed.write_bytes(SECOND.pem.ljust(size))
    os.utime(renewed, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    renewed.replace(path)
    assert cnf(edge.token(WALLETS, certificate=certificate)) == bound_to(SECOND)


@pytest.mark.parametrize("content", [b"", b"no certificate", FIRST.key, FIRST.der[:-1]])
def test_what_is_no_certificate_is_refused_at_once(edge: Service, content: bytes, tmp_path: Path) -> None:
    """And named; what was given as content, or as a key by mistake, is not shown."""
    path = tmp_path / "client.pem"
    path.write_bytes(content)
    for given, words in ((content, "certificate given holds no"), (path, r"client.pem holds no")):
        with pytest.raises(ConfigError, match=words) as refused:
            edge.auth(WALLETS, certificate=given)
        assert "PRIVATE" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        edge.auth(WALLETS, certificate=tmp_path / "nothing")
    assert repr(ClientCertificate(FIRST.key + FIRST.pem)) == "ClientCertificate(...)"


@pytest.mark.parametrize(
    "options",
    [
        {"proof": "mtls"},
        {"proof": "mtls", "certificate": FIRST.der},
        {"proof": "mtls", "inner": httpx.HTTPTransport},
        {"proof": "mtls", "certificate": FIRST.der, "inner": httpx.HTTPTransport()},
        {"proof": "mtls", "certificate": FIRST.der, "inner": httpx.AsyncHTTPTransport()},
        {"proof": "wpt", "certificate": FIRST.der},
        {"proof": "bearer", "certificate": FIRST.der},
        {"proof": "bearer", "inner": httpx.HTTPTransport},
    ],
)
def test_a_token_is_bound_to_one_thing_and_connections_are_made_by_us(edge: Service, options: Any) -> None:
    """A certificate and a way to make connections with it go together, and with nothing else."""
    with pytest.raises(ConfigError, match="proof='mtls'"):
        edge.transport(WALLETS, **options)


# -- connections --------------------------------------------------------------------------------------------


class Seen(http.server.BaseHTTPRequestHandler):
    """Answers with what the token is bound to, and what the connection presents."""

    protocol_version = "HTTP/1.1"
    refuse: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """One request."""
        self.rfile.read(int(self.headers["content-length"] or 0))
        token = (self.headers["authorization"] or "").removeprefix("Bearer ")
        der = self.connection.getpeercert(binary_form=True)
        body = json.dumps([cnf(token), None if der is None else thumbprint(der)]).encode()
        refused = bool(self.refuse) and self.refuse.pop() == "yes"
        self.send_response(401 if refused else 200)
        if refused:
            self.send_header("www-authenticate", 'Bearer error="invalid_token"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that asks for certificates and checks nothing else."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Seen)
    server.socket = server_context().wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    with server, in_thread(server.serve_forever, server.shutdown):
        yield f"https://127.0.0.1:{server.server_port}"


def both(who: Certified) -> list[Any]:
    return [bound_to(who), who.thumbprint]


def presenting(folder: Path, kind: type[Any] = httpx.HTTPTransport) -> Callable[[], Any]:
    """What the application gives as `inner`."""

    def make() -> Any:
        context = client_context(folder, None)
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
        return kind(verify=context)

    return make


def test_connections_change_with_the_certificate(
    edge: Service, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Token and connection are of one certificate before, while and after the files are replaced."""
    path, private = FIRST.write(tmp_path)
    transport = edge.transport(url, proof="mtls", certificate=path, inner=presenting(tmp_path))
    with httpx.Client(transport=transport) as http:
        assert http.get(url).json() == both(FIRST)
        assert http.get(url).json() == both(FIRST)
        for before, renewed in ((FIRST, SECOND), (SECOND, THIRD)):
            path.write_bytes(renewed.pem)  # the key is still that of the one before
            for _ in range(2):
                assert http.get(url).json() == both(before)
            with http.stream("GET", url) as in_use:
                private.write_bytes(renewed.key)
                assert http.get(url).json() == both(renewed)
                in_use.read()
                assert in_use.json() == both(before)
    assert caplog.text.count("cannot be used yet") == 2  # once for each renewal


def test_on_an_event_loop(edge: Service, url: str, tmp_path: Path) -> None:
    """The same with `httpx.AsyncClient`; transports are closed where they were made."""
    path, _ = FIRST.write(tmp_path)
    inner = presenting(tmp_path, httpx.AsyncHTTPTransport)

    async def calls() -> list[Any]:
        transport = edge.transport(url, proof="mtls", certificate=path, inner=inner)
        async with httpx.AsyncClient(transport=transport) as http:
            seen = [(await http.get(url)).json()]
            for renewed in (SECOND, THIRD):
                renewed.write(tmp_path)
                seen.append((await http.get(url)).json())
        return seen

    assert asyncio.run(calls()) == [both(FIRST), both(SECOND), both(THIRD)]


def test_a_transport_of_the_other_kind_is_refused(edge: Service, url: str, tmp_path: Path) -> None:
    """As with any inner transport."""
    path, _ = FIRST.write(tmp_path)
    transport = edge.transport(
        url, proof="mtls", certificate=path, inner=presenting(tmp_path, httpx.AsyncHTTPTransport)
    )
    with httpx.Client(transport=transport) as http, pytest.raises(ConfigError, match="AsyncClient only"):
        http.get(url)


def test_a_refused_token_is_minted_anew_for_the_same_connection(
    edge: Service, url: str, tmp_path: Path
) -> None:
    """As any token that a receiver refuses."""
    path, _ = FIRST.write(tmp_path)
    transport = edge.transport(url, proof="mtls", certificate=path, inner=presenting(tmp_path))
    auth = edge.auth(url, certificate=path)
    for made in (
        httpx.Client(transport=transport),
        httpx.Client(auth=auth, verify=client_context(tmp_path, FIRST)),
    ):
        with made as http:
            kept = edge.token(url, certificate=path)
            Seen.refuse.append("yes")
            assert http.get(url).json() == both(FIRST)
            assert edge.token(url, certificate=path) != kept


def test_without_a_key_that_fits_nothing_is_sent(edge: Service, url: str, tmp_path: Path) -> None:
    """Where there is no connection to go on with."""
    path, private = FIRST.write(tmp_path)
    private.write_bytes(SECOND.key)
    transport = edge.transport(url, proof="mtls", certificate=path, inner=presenting(tmp_path))
    with httpx.Client(transport=transport) as http, pytest.raises(ssl.SSLError):
        http.get(url)


def test_a_certificate_that_is_replaced_while_connections_are_made(
    edge: Service, url: str, tmp_path: Path
) -> None:
    """They are made again: nobody could tell which one they present."""
    path, _ = FIRST.write(tmp_path)
    made = []

    def make() -> httpx.HTTPTransport:
        inner: httpx.HTTPTransport = presenting(tmp_path)()
        made.append(inner)
        if len(made) == 1:
            SECOND.write(tmp_path)
        return inner

    with httpx.Client(transport=edge.transport(url, proof="mtls", certificate=path, inner=make)) as http:
        assert http.get(url).json() == both(SECOND)
    assert len(made) == 2


def test_other_clients_bind_their_tokens_too(edge: Service, url: str, tmp_path: Path) -> None:
    """`service.auth` of httpx, and requests; the file is looked at for each request."""
    path, private = FIRST.write(tmp_path)
    with httpx.Client(auth=edge.auth(url, certificate=path), verify=client_context(tmp_path, FIRST)) as http:
        assert http.get(url).json() == both(FIRST)
        SECOND.write(tmp_path)
        assert http.get(url).json() == [bound_to(SECOND), FIRST.thumbprint]  # as the page says
    authority_file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(authority_file))
    got = requests.get(
        url,
        auth=RequestsAuth(edge, url, certificate=path),
        cert=(str(path), str(private)),
        verify=str(authority_file),
        timeout=30,
    )
    assert got.json() == both(SECOND)


def test_nothing_of_the_key_is_logged(
    edge: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the file holds both."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "both.pem"
    path.write_bytes(FIRST.key + FIRST.pem)
    certificate = ClientCertificate(path)
    path.write_bytes(FIRST.key)
    edge.token(WALLETS, certificate=certificate)
    assert "PRIVATE" not in caplog.text + repr(vars(certificate))
    assert FIRST.key.splitlines()[1].decode() not in caplog.text + repr(vars(certificate))
