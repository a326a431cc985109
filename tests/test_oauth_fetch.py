"""Asking a real server that answers badly: refused with its reason, soon, and nothing secret told."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from s2s_mesh import OAuthError, Service, oauth_fetch
from s2s_mesh.jws import decode
from s2s_mesh.oauth_fetch import metadata
from s2s_mesh.oauth_metadata import AuthorizationServer
from s2s_mesh.oauth_request import ServerSource, TokenRequest

from .hostile import rows
from .jwks_servers import Peer, Talk, answer, drips, goes_on, is_silent, resets
from .test_httpx_auth import TRUST
from .token_endpoint import JSON, METADATA, NOT_FOUND, OPENID, TokenEndpoint, document
from .tokens import EDGE

SECRET = "b1946ac92492d2347c6235b4d2611184"
SOON = 20.0  # seconds: five for everything, and a machine that stands still
CHUNKED = "Transfer-Encoding: chunked"
BYTES, PIECES = b"1\r\n \r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"
Bad = Callable[[TokenEndpoint], None]


@pytest.fixture
def server() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(issuer=EDGE, trust=TRUST, key_store="memory://") as running:
        yield running


def token(service: Service, server: TokenEndpoint) -> str:
    return service.oauth_client(server.issuer, origins=[]).token()


def says(data: bytes) -> Bad:
    """The token endpoint says this."""

    def change(server: TokenEndpoint) -> None:
        server.instead = data

    return change


def changed(**members: object) -> Bad:
    """The token endpoint's good answer, changed."""
    return lambda server: says(document(server.granted(**members)))(server)


def described(**members: object) -> Bad:
    """The good metadata, changed."""
    return lambda server: server.describe(**members)


def at(path: str, data: bytes) -> Bad:
    """Another answer at another place."""

    def change(server: TokenEndpoint) -> None:
        server.said[path] = data

    return change


def talks(talk: Talk) -> Bad:
    """The whole server behaves like this."""

    def change(server: TokenEndpoint) -> None:
        server._talk = talk

    return change


def good(_: TokenEndpoint) -> None:
    """As it is."""


def elsewhere(server: TokenEndpoint) -> None:
    server.said[METADATA] = NOT_FOUND
    server.said[OPENID] = document(server.metadata())


def echo(server: TokenEndpoint) -> None:
    """Every part of an error is what was sent."""

    def say(form: dict[str, list[str]]) -> bytes:
        sent = form["client_assertion"][0]
        members = {"error": sent, "error_description": sent, "error_uri": sent, sent: sent}
        return document(members, f"X-Sent: {sent}", status=f"401 {sent}")

    server.instead = say


def error(code: object, status: str = "400 Bad Request", **members: object) -> Bad:
    return says(document({"error": code, "error_description": SECRET, **members}, status=status))


TABLE: list[tuple[str, Bad, str | None]] = [
    ("good", good, None),
    ("metadata at the other place", elsewhere, None),
    (
        "a charset",
        at(METADATA, NOT_FOUND),
        "has no metadata: .*server answered 404 .*configuration answered 404",
    ),
    ("another issuer", described(issuer="https://evil.example.com"), "byte by byte"),
    ("another origin", described(token_endpoint="https://evil.example.com/t"), "endpoint_origins"),
    ("http elsewhere", described(token_endpoint="http://evil.example.com/t"), "without TLS"),
    ("metadata redirects", at(METADATA, answer(b"", "Location: /x", status="302 Found")), "answered 302"),
    ("metadata is created", at(METADATA, document({}, status="201 Created")), "answered 201"),
    ("metadata is HTML", at(METADATA, document(b"<html>", kind="text/html")), "not with content-type"),
    ("metadata is no JSON", at(METADATA, document(b"<html>")), "metadata: not JSON"),
    ("metadata is huge", at(METADATA, document(b" " * 70_000)), "metadata has more than 65536"),
    ("metadata twice", at(METADATA, document(b'{"issuer": 1, "issuer": 2}')), "a member stands twice"),
    ("no server", talks(resets), "oauth-authorization-server: "),
    ("not HTTP", talks(drips(SECRET.encode() + b"\r\n\r\n", b"", every=0.1)), "does not speak HTTP"),
    ("hangs up", says(b""), "/token does not speak HTTP"),
    ("the token redirects", says(answer(b"", "Location: https://x/", status="307 x")), "answered 307"),
    ("created", says(document({}, status="201 Created")), "token endpoint answered 201"),
    ("an error of the server", says(document({}, status="500 x")), "token endpoint answered 500"),
    ("too many", says(document({}, status="429 x")), "token endpoint answered 429"),
    ("HTML", says(document(SECRET.encode(), kind="text/html")), "not with content-type"),
    ("a type that is a secret", says(document({}, kind=f"application/{SECRET}")), "not with content-type"),
    ("no type", says(answer(b"{}", kind=None)), "not with content-type"),
    ("gzip", says(document(gzip.compress(b"{}"), "Content-Encoding: gzip")), "a content-encoding"),
    ("another status line", says(f"{SECRET}\r\n\r\n".encode()), "does not speak HTTP"),
    ("huge", says(document(b" " * 70_000)), "answer has more than 65536"),
    ("a member twice", says(document(b'{"token_type": "a", "token_type": "b"}')), "a member stands twice"),
    ("mac", changed(token_type="mac", access_token=SECRET), "token_type is not Bearer"),
    ("negative", changed(expires_in=-5, access_token=SECRET), "expires_in"),
    ("text", changed(expires_in=SECRET), "expires_in"),
    ("for ever", changed(expires_in=10**15), "expires_in"),
    ("a secret in the token's place", changed(access_token=f"{SECRET} {SECRET}"), "access_token"),
    ("invalid_client", error("invalid_client", "401 Unauthorized"), "answered invalid_client: .*jwks_uri"),
    ("invalid_scope", error("invalid_scope"), "answered invalid_scope"),
    ("access_denied", error("access_denied", "403 Forbidden"), "answered access_denied"),
    ("a code that is a secret", error(SECRET), "without a code"),
    ("an echo of the assertion", echo, "without a code"),
    ("a refusal in HTML", says(document(b"<b>", status="400 x", kind="text/html")), "answered 400, and not"),
]


@pytest.mark.parametrize(("bad", "why"), rows(TABLE))
def test_each_bad_answer_is_refused_with_its_reason(
    bad: Bad, why: str | None, service: Service, server: TokenEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a piece of what was sent or came."""
    bad(server)
    caplog.set_level(logging.DEBUG, "s2s_mesh")
    if why is None:
        assert token(service, server) == "token-1"
        return
    with pytest.raises(OAuthError, match=re.compile(why, re.DOTALL)) as refused:
        token(service, server)
    told = caplog.text + repr(refused.value) + "".join(traceback.format_exception(refused.value))
    assert SECRET not in told
    for form in server.forms:
        for part in form["client_assertion"][0].split("."):
            assert part not in told


@pytest.mark.hostile
@pytest.mark.own_times("step", "total")
@pytest.mark.parametrize(
    ("talk", "why"),
    [(is_silent, "timed out"), (drips(b"", b"x" * 1000, every=0.1), "timed out|took too long in all")],
    ids=["silence", "dripping"],
)
def test_a_server_that_says_nothing_is_given_up(
    talk: Talk, why: str, service: Service, server: TokenEndpoint
) -> None:
    """Or nothing whole."""
    server._talk = talk
    began = time.monotonic()
    with pytest.raises(OAuthError, match=f"oauth-authorization-server: .*({why})"):
        token(service, server)
    assert time.monotonic() - began < SOON


@pytest.mark.hostile
@pytest.mark.own_times("step", "total")
@pytest.mark.parametrize(
    ("first", "body", "why"),
    [
        ("metadata", BYTES, "metadata has more than 65536 bytes|took too long in all"),
        ("metadata", PIECES, "metadata has more than 65536 bytes"),
        ("token", PIECES, "answer has more than 65536 bytes"),
    ],
    ids=["metadata by the byte", "metadata", "token"],
)
def test_an_endless_answer_ends(
    first: str, body: bytes, why: str, service: Service, server: TokenEndpoint
) -> None:
    """Byte by byte or at full speed, and nothing of it is kept that is too much."""
    if first == "token":
        token(service, server)  # from here on the metadata is known
    server._talk = goes_on(answer(b"", CHUNKED, kind=JSON), body)
    began = time.monotonic()
    with pytest.raises(OAuthError, match=why):
        service.oauth_client(server.issuer, origins=[], scopes=["a"]).token()
    assert time.monotonic() - began < SOON


def test_the_assertion_is_for_this_server_alone(service: Service, server: TokenEndpoint) -> None:
    """Header and claims as the standards page has them; a new id for each request."""
    token(service, server)
    service.oauth_client(server.issuer, origins=[], scopes=["a"]).token()
    ids = set()
    for form in server.forms:
        jws = decode(form["client_assertion"][0].encode())
        assert (jws.header.typ, jws.header.alg) == ("client-authentication+jwt", "ES256")
        claims = jws.claims
        assert (claims["iss"], claims["sub"], claims["aud"]) == (EDGE, EDGE, server.issuer)
        assert claims["exp"] - claims["iat"] == 60
        assert form["client_id"] == [EDGE]
        ids.add(claims["jti"])
    assert len(ids) == 2


def test_tls_is_verified(service: Service, tmp_path: Path) -> None:
    """By the system's authorities, or by those of `ca_file`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))

    def talk(peer: Peer, connection: socket.socket) -> None:
        peer.read_head(connection)
        body = json.dumps({"issuer": peer.url(""), "token_endpoint": peer.url("/token")}).encode()
        connection.sendall(answer(body, kind=JSON))

    with Peer(talk, tls=context) as peer:
        good = ServerSource(issuer=peer.url(""), ca_file=str(file), allow_loopback_http=True)
        assert metadata(good).token_endpoint == peer.url("/token")
        with pytest.raises(OAuthError, match="certificate verify failed"):
            metadata(ServerSource(issuer=peer.url(""), allow_loopback_http=True))
        absent = ServerSource(issuer=peer.url(""), ca_file="none.pem", allow_loopback_http=True)
        with pytest.raises(OAuthError, match=r"ca_file none\.pem cannot be used"):
            metadata(absent)


@pytest.mark.hostile
def test_a_name_that_leads_to_this_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are judged as everywhere else, the token endpoint's too."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
        return list(real("127.0.0.1" if host == "login.example.com" else host, *args, **options))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    issuer = "https://login.example.com"
    source = ServerSource(issuer=issuer)
    here = AuthorizationServer(issuer=issuer, token_endpoint=f"{issuer}/token", algorithms=None)
    request = TokenRequest(source=source, client_id=EDGE)
    with pytest.raises(OAuthError, match=r"resolves to 127\.0\.0\.1, a loopback address"):
        metadata(source)
    with pytest.raises(OAuthError, match=r"resolves to 127\.0\.0\.1, a loopback address"):
        oauth_fetch.token(here, request, "x.y.z", algorithm="ES256", jwks_uri="")
