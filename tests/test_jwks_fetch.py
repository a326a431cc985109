"""One retrieval of a JWKS: what is asked, what is believed, and that every hostile answer ends soon."""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from s2s_mesh.errors import JWKSInvalid
from s2s_mesh.jwks import MAX_BODY
from s2s_mesh.jwks_fetch import Fetched, FetchFailed, fetch
from s2s_mesh.trust import TrustConfig

from .hostile import rows
from .jwks_servers import (
    JWKS_TYPE,
    Clock,
    JWKSServer,
    Peer,
    Talk,
    answer,
    drips,
    goes_on,
    is_silent,
    jwks,
    resets,
    says,
    source,
)
from .patience import LONG
from .servers import run_child
from .tokens import EDGE, WALLETS, key

NAME = "keys.example.com"
GETADDRINFO = socket.getaddrinfo
GOOD = jwks(key())
JSON = "application/json"
CHUNKED = "Transfer-Encoding: chunked"
ANY = "."  # whatever the HTTP library says
SOON = 20.0  # seconds: five for everything, and a machine that stands still


def get(
    place: str, *, ca_file: str | None = None, etag: str | None = None, no_cache: bool = False
) -> Fetched:
    """Fetch from a URL or a file as the trust file of one machine names it."""
    return fetch(source(place, ca_file=ca_file), etag=etag, no_cache=no_cache)


def refused(place: str, says: str, *, ca_file: str | None = None) -> None:
    """Fetch, and expect an error that matches."""
    with pytest.raises((FetchFailed, JWKSInvalid), match=says):
        get(place, ca_file=ca_file)


def kids(fetched: Fetched) -> set[str]:
    """The key ids that came."""
    assert fetched.jwks is not None
    return set(fetched.jwks.keys)


def chunks(*parts: bytes, end: bool = True) -> bytes:
    """A body in HTTP/1.1 chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return body + (b"0\r\n\r\n" if end else b"")


def entry(**changes: Any) -> dict[str, Any]:
    """The good key as a member of a set, changed."""
    return {**key().public.public_jwk, **changes}


def document(*entries: Any) -> bytes:
    """A set with these members."""
    return json.dumps({"keys": entries}).encode()


@pytest.fixture
def at_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `NAME` lead to this machine, and no other name anywhere."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
        if host == NAME:
            host = "127.0.0.1"
        elif host.endswith(".example.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return list(real(host, *args, **options))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# -- the question -----------------------------------------------------------------------------------------


def test_the_request() -> None:
    """One GET that asks for a JWKS without compression, and tells nothing about who asks."""
    with Peer(says(answer(GOOD))) as server:
        assert kids(get(server.url("/keys?tenant=1"))) == {key().kid}
        assert [head.line for head in server.heads] == ["GET /keys?tenant=1 HTTP/1.1"]
        assert server.heads[0].fields == {
            "host": f"127.0.0.1:{server.port}",
            "accept": f"{JWKS_TYPE}, {JSON}",
            "accept-encoding": "identity",
        }
        assert server.connections() == 1


def test_a_missing_key_is_asked_for_past_caches() -> None:
    """For an unknown kid, caches on the way are asked to revalidate."""
    with Peer(says(answer(GOOD))) as server:
        get(server.url(), no_cache=True)
    assert server.heads[0].fields["cache-control"] == "no-cache"


def test_the_host_field_of_an_ipv6_address_has_brackets() -> None:
    """RFC 9110 section 7.2: servers refuse a Host field without them."""
    try:
        server = Peer(says(answer(GOOD)), host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        get(server.url())
    assert server.heads[0].fields["host"] == f"[::1]:{server.port}"


def test_the_host_field_is_the_name(at_name: None) -> None:
    """The connection goes to an address, but the server is asked by the name in the trust file."""
    with Peer(says(answer(GOOD))) as server:
        get(server.url(host=NAME))
    assert server.heads[0].fields["host"] == f"{NAME}:{server.port}"


def test_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the place in the trust file, whatever HTTP_PROXY says."""
    with Peer(says(answer(GOOD))) as server, Peer(says(answer(jwks()))) as proxy:
        for name in "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY":
            monkeypatch.setenv(name, proxy.url(""))
            monkeypatch.setenv(name.lower(), proxy.url(""))
        monkeypatch.setenv("NO_PROXY", "")
        assert kids(get(server.url())) == {key().kid}
        assert proxy.connections() == 0


def test_loopback_needs_permission(at_name: None) -> None:
    """A public name that leads to this machine is not fetched from, unless the trust file allows loopback."""
    text = 'version = 1\n{}[issuers."{}"]\njwks_uri = "{}"\nallow_plain_http = true\n[[allow]]\n'
    text += f'issuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    with Peer(says(answer(GOOD))) as server:
        url = server.url(host=NAME)
        allowed = text.format("[defaults]\nallow_loopback_http = true\n", EDGE, url)
        assert kids(fetch(TrustConfig.parse(allowed).issuers[EDGE], etag=None, no_cache=False))
        usual = TrustConfig.parse(text.format("", EDGE, url)).issuers[EDGE]
        with pytest.raises(FetchFailed, match="a loopback address"):
            fetch(usual, etag=None, no_cache=False)
        assert server.connections() == 1


def test_a_name_without_address(at_name: None) -> None:
    """A name that does not resolve is a failed fetch."""
    refused("https://nowhere.example.com/jwks.json", "does not resolve")


def test_nobody_listens() -> None:
    """A refused connection is a failed fetch."""
    with Peer(is_silent, listening=False) as closed:
        refused(closed.url(), "refused")


ASTRAY: list[tuple[str, list[str], str | None]] = [
    ("this machine, which is allowed here", ["127.0.0.1"], None),
    *[
        (", ".join(addresses), addresses, "link-local, metadata, multicast or reserved|hides an IPv4")
        for addresses in (
            ["169.254.169.254"],
            ["169.254.0.1"],
            ["100.100.100.200"],
            ["168.63.129.16"],
            ["fd00:ec2::254"],
            ["fe80::1"],
            ["0.0.0.0"],
            ["0.1.2.3"],
            ["224.0.0.1"],
            ["240.0.0.1"],
            ["255.255.255.255"],
            ["::"],
            ["ff02::1"],
            ["::ffff:169.254.169.254"],
            ["::ffff:0.0.0.0"],
            ["::169.254.169.254"],
            ["64:ff9b::a9fe:a9fe"],
            ["64:ff9b:1::a9fe:a9fe"],
            ["2002:a9fe:a9fe::"],
            ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
            ["127.0.0.1", "169.254.169.254"],
            ["169.254.169.254", "127.0.0.1"],
            ["127.0.0.1", "::ffff:169.254.169.254"],
            ["127.0.0.1", "127.0.0.1", "0.0.0.0"],
        )
    ],
]


@pytest.mark.parametrize(("addresses", "error"), rows(ASTRAY))
def test_a_name_that_leads_astray_is_not_connected_to(
    addresses: list[str], error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 59: a name with one forbidden address, in whatever disguise, gets no connection at all."""
    opened: list[Any] = []
    connect = socket.create_connection

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        family = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(kind, 1, 6, "", (address, port)) for kind, address in zip(family, addresses, strict=True)]

    def create_connection(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        opened.append(address[0])
        with monkeypatch.context() as real:
            real.setattr(socket, "getaddrinfo", GETADDRINFO)
            return connect(address, *args, **options)

    with Peer(says(answer(GOOD))) as server:
        url = server.url(host=NAME)
        with monkeypatch.context() as astray:
            astray.setattr(socket, "getaddrinfo", getaddrinfo)
            astray.setattr(socket, "create_connection", create_connection)
            if error is None:
                assert kids(get(url)) == {key().kid}
            else:
                refused(url, error)
    assert opened == ([] if error else addresses)


def test_a_name_that_changes_its_mind_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 59, rebinding: one look-up, and the connection goes to what it said."""
    answers = ["127.0.0.1", "169.254.169.254"]
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host != NAME:
            return list(GETADDRINFO(host, port, *args, **options))
        asked.append(host)
        return [(socket.AF_INET, 1, 6, "", (answers[len(asked) - 1], port))]

    with Peer(says(answer(GOOD))) as server:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert kids(get(server.url(host=NAME))) == {key().kid}
    assert asked == [NAME]


# -- the answer -------------------------------------------------------------------------------------------

PADDED = GOOD + b" " * (MAX_BODY - len(GOOD))
TWIN = {**key(name="other").public.public_jwk, "kid": key().kid}
ROWS: list[tuple[str, Talk, str | None]] = [
    ("good", says(answer(GOOD)), None),
    ("application/json", says(answer(GOOD, kind=JSON)), None),
    ("type with parameters", says(answer(GOOD, kind=f"{JSON}; charset=utf-8")), None),
    ("type in upper case", says(answer(GOOD, kind="Application/JWK-Set+JSON ;v=1")), None),
    ("identity by name", says(answer(GOOD, "Content-Encoding: Identity")), None),
    ("chunked", says(answer(chunks(GOOD[:9], GOOD[9:]), CHUNKED)), None),
    ("HTTP/1.0", says(f"HTTP/1.0 200 OK\r\nContent-Type: {JSON}\r\n\r\n".encode() + GOOD), None),
    ("early hints before", says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(GOOD)), None),
    ("64 KiB", says(answer(PADDED)), None),
    ("an unusable key beside", says(answer(document(entry(), entry(kid="x", alg="none")))), None),
    ("the same key twice", says(answer(document(entry(), entry()))), None),
    # status
    ("101", says(answer(GOOD, "Upgrade: x", status="101 Switching Protocols")), ANY),
    ("201", says(answer(GOOD, status="201 Created")), "answered 201"),
    ("204", says(answer(status="204 No Content")), "answered 204"),
    ("206", says(answer(GOOD, status="206 Partial Content")), "answered 206"),
    ("304 unasked", says(answer(status="304 Not Modified")), "answered 304"),
    ("401", says(answer(GOOD, status="401 Unauthorized")), "answered 401"),
    ("404", says(answer(GOOD, status="404 Not Found")), "answered 404"),
    ("500", says(answer(GOOD, status="500 Oops")), "answered 500"),
    ("503", says(answer(GOOD, "Retry-After: 1", status="503 Busy")), "answered 503"),
    # what it says about the body
    ("HTML", says(answer(GOOD, kind="text/html")), "content-type 'text/html'"),
    ("text/json", says(answer(GOOD, kind="text/json")), "content-type"),
    ("no type", says(answer(GOOD, kind=None)), "content-type ''"),
    ("two types", says(answer(GOOD, f"Content-Type: {JSON}")), "content-type"),
    ("gzip", says(answer(gzip.compress(GOOD), "Content-Encoding: gzip")), "content-encoding 'gzip'"),
    ("gzip bomb", says(answer(gzip.compress(b" " * 10**8), "Content-Encoding: gzip")), "content-encoding"),
    ("gzip, it says", says(answer(GOOD, "Content-Encoding: gzip")), "content-encoding"),
    ("two encodings", says(answer(GOOD, "Content-Encoding: identity, gzip")), "content-encoding"),
    ("gzip in transfer", says(answer(GOOD, "Transfer-Encoding: gzip, chunked")), ANY),
    # how much
    ("64 KiB + 1", says(answer(PADDED + b" ")), "more than 65536 bytes"),
    ("64 KiB + 1 in chunks", says(answer(chunks(PADDED, b" "), CHUNKED)), "more than 65536"),
    ("endless", goes_on(answer(GOOD, "Content-Length: 99999999999"), b" " * 4096), "more than 65536"),
    (
        "endless chunks",
        goes_on(answer(chunks(GOOD, end=False), CHUNKED), chunks(*[b" " * 64] * 64, end=False)),
        "more than 65536",
    ),
    (
        "endless, HTTP/1.0",
        goes_on(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", GOOD),
        "more",
    ),
    ("1 MB of fields", says(answer(GOOD, *(f"X-{n}: {'x' * 1000}" for n in range(1000)))), ANY),
    ("a field of 1 MB", says(answer(GOOD, f"X: {'x' * 10**6}")), ANY),
    ("endless fields", goes_on(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), ANY),
    ("endless status line", goes_on(b"HTTP/1.1 200 ", b"OK" * 100), ANY),
    ("endless trailer", goes_on(answer(chunks(GOOD), CHUNKED)[:-2], b"X: y\r\n" * 100), ANY),
    # an answer that is none
    ("nothing", says(b""), "disconnected"),
    ("a reset", resets, ANY),
    ("half a head", says(answer(GOOD)[:40]), ANY),
    ("a body cut short", says(answer(GOOD)[:-1]), "closed connection"),
    ("chunks cut short", says(answer(chunks(GOOD, end=False), CHUNKED)), "closed connection"),
    ("garbage", says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), ANY),
    ("HTTP/0.9", says(GOOD), ANY),
    ("SMTP", says(b"220 mail.example.com ESMTP\r\n"), ANY),
    ("two lengths", says(answer(GOOD, "Content-Length: 5", f"Content-Length: {len(GOOD)}")), ANY),
    ("a negative length", says(answer(GOOD, "Content-Length: -1")), ANY),
    ("a folded field", says(answer(GOOD, "X: y", " z: w", "\tv").replace(b"X: y", b" X: y")), ANY),
    ("NUL in a field", says(answer(GOOD, "X: a\0b")), ANY),
    # a document that is none
    ("no JSON", says(answer(b"<html>")), "not JSON"),
    ("no body", says(answer()), "not JSON"),
    ("an array", says(answer(b"[]")), "not a JSON object"),
    ("no keys", says(answer(b"{}")), "expected"),
    ("keys is an object", says(answer(b'{"keys":{}}')), "expected"),
    ("a key is a text", says(answer(b'{"keys":["x"]}')), "expected"),
    ("keys twice", says(answer(GOOD[:-1] + b',"keys":[]}')), "a member stands twice"),
    ("UTF-16", says(answer(GOOD.decode().encode("utf-16"))), ANY),
    ("too deep", says(answer(document(entry(x=[[[[[[[[]]]]]]]])))), "nested"),
    ("two keys with one kid", says(answer(document(entry(), TWIN))), "two different keys"),
    ("a private key", says(answer(document(entry(d="AAAA")))), "leaked"),
    ("a shared secret", says(answer(document({"kty": "oct", "kid": "k", "alg": "HS256"}))), "symmetric"),
    ("101 keys", says(answer(document(*[{}] * 101))), "101 keys"),
    ("10,000 keys", says(answer(document(*[{}] * 10_000))), "10000 keys"),
    ("21 usable keys", says(answer(document(*(entry(kid=f"k{n}") for n in range(21))))), "21 usable"),
    ("keys is null", says(answer(b'{"keys":null}')), "expected"),
    ("keys is a text", says(answer(b'{"keys":"[]"}')), "expected"),
    ("keys in another case", says(answer(b'{"Keys":[]}')), "expected"),
    ("a key is null", says(answer(document(None))), "expected"),
    ("a byte order mark", says(answer(b"\xef\xbb\xbf" + GOOD)), "not JSON"),
    ("an HTML page as JSON", says(answer(b"<!doctype html><title>Log in</title>", kind=JSON)), "not JSON"),
    ("JSON lines", says(answer(GOOD + b"\n" + GOOD)), "not JSON"),
    ("a PEM file", says(answer(b"-----BEGIN PUBLIC KEY-----\n")), "not JSON"),
    ("60,000 brackets", says(answer(b'{"keys":' + b"[" * 60_000)), "not JSON"),
    ("deflate", says(answer(GOOD, "Content-Encoding: deflate")), "content-encoding"),
    ("br", says(answer(GOOD, "Content-Encoding: br")), "content-encoding"),
    ("an empty encoding", says(answer(GOOD, "Content-Encoding:")), "content-encoding"),
    ("202", says(answer(GOOD, status="202 Accepted")), "answered 202"),
    ("203", says(answer(GOOD, status="203 Transformed")), "answered 203"),
    ("205", says(answer(status="205 Reset Content")), "answered 205"),
    ("304 with a body", says(answer(GOOD, status="304 Not Modified")), "answered 304"),
    ("407", says(answer(GOOD, status="407 Proxy Authentication Required")), "answered 407"),
    ("429", says(answer(GOOD, "Retry-After: 99999999", status="429 Slow Down")), "answered 429"),
    ("a refresh in the fields", says(answer(b"", "Refresh: 0; url=/keys")), "not JSON"),
    ("a type in quotes", says(answer(GOOD, kind='"application/json"')), "content-type"),
    ("a type that begins well", says(answer(GOOD, kind="application/jsonp")), "content-type"),
    ("JavaScript", says(answer(GOOD, kind="text/javascript")), "content-type"),
    ("a length that is no number", says(answer(GOOD, "Content-Length: 0x10")), ANY),
    ("a huge length", says(answer(GOOD, "Content-Length: " + "9" * 30)), ANY),
    ("a chunk of negative size", says(answer(b"-1\r\n" + GOOD, CHUNKED)), ANY),
    ("a chunk of huge size", says(answer(b"f" * 40 + b"\r\n" + GOOD, CHUNKED)), ANY),
    ("length and chunks", says(answer(GOOD, CHUNKED, f"Content-Length: {len(GOOD)}")), ANY),
]


@pytest.mark.parametrize(("talk", "error"), rows(ROWS))
def test_answers(talk: Talk, error: str | None) -> None:
    """A complete, uncompressed, bounded JWKS with status 200 is believed; anything else ends soon."""
    with Peer(talk) as server:
        started = time.monotonic()
        if error is None:
            assert kids(get(server.url())) == {key().kid}
        else:
            refused(server.url(), error)
        assert time.monotonic() - started < SOON
        assert server.connections() == 1


def test_an_empty_set_is_a_set() -> None:
    """`{"keys":[]}` is a good answer: everything is revoked."""
    with Peer(says(answer(jwks()))) as server:
        assert kids(get(server.url())) == set()


def test_keys_that_are_not_used_are_named() -> None:
    """A set tells which of its keys are ignored, and why."""
    with Peer(says(answer(document(entry(), entry(kid="x", use="enc"))))) as server:
        fetched = get(server.url())
    assert fetched.jwks is not None
    assert fetched.jwks.ignored == ("keys[1]: use is not sig",)


@pytest.mark.hostile
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["other", "same", "metadata", "file"])
def test_redirects_are_not_followed(status: int, target: str) -> None:
    """The second request is never sent: not to another host, not to the same one, not to metadata."""
    with Peer(says(answer(GOOD))) as other:
        places = {
            "other": other.url(),
            "same": "/keys",
            "metadata": "http://169.254.169.254/latest/meta-data/",
            "file": "file:///etc/passwd",
        }
        redirect = answer(GOOD, f"Location: {places[target]}", status=f"{status} Elsewhere")
        with Peer(says(redirect)) as server:
            refused(server.url(), f"answered {status}.*not followed")
            assert server.connections() == 1
        assert other.connections() == 0


HALF = len(GOOD) // 2
OVER = "timed out|too long in all"
TALKS_SLOWLY: dict[str, tuple[Talk, str]] = {
    "no answer": (is_silent, "timed out"),
    "no handshake": (is_silent, "timed out"),
    "a silent body": (drips(answer(GOOD)[:-1], b"}", every=60), "timed out"),
    "a byte of the body a second": (drips(answer(PADDED)[:-90], PADDED[-90:], every=1), OVER),
    "a byte of the body a second, over TLS": (drips(answer(PADDED)[:-90], PADDED[-90:], every=1), OVER),
    "a chunk a second": (
        drips(answer(b"", CHUNKED), chunks(*[b" "] * 90), every=1, size=len(chunks(b" ", end=False))),
        OVER,
    ),
    "a byte of the fields a second": (
        drips(b"HTTP/1.1 200 OK\r\n", answer(GOOD), every=1),
        OVER,
    ),
    "a byte of the status line a second": (drips(b"", answer(GOOD), every=1), OVER),
    "early hints for ever": (
        drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 90, every=1, size=28),
        OVER,
    ),
}


def test_a_slow_answer_within_the_time_is_good() -> None:
    """A second in all, piece by piece."""
    with Peer(drips(answer(GOOD)[:-HALF], GOOD[-HALF:], every=0.2, size=HALF // 5)) as server:
        assert kids(get(server.url())) == {key().kid}


@pytest.mark.own_times("step", "total")
def test_slow_peers_are_given_up(certificates: Certificates) -> None:
    """A whole answer has five seconds, however steadily it drips."""

    def ask(name: str) -> str:
        talk, error = TALKS_SLOWLY[name]
        with Peer(talk, tls=certificates.server("127.0.0.1") if "TLS" in name else None) as server:
            url = server.url().replace("http:", "https:") if name == "no handshake" else server.url()
            started = time.monotonic()
            try:
                got = str(get(url, ca_file=certificates.authority))
            except FetchFailed as failed:
                got = str(failed)
            taken = time.monotonic() - started
        right = re.search(error, got) is not None
        return "as expected" if right and taken < SOON else f"{got} after {taken:.1f} s"

    with ThreadPoolExecutor(len(TALKS_SLOWLY)) as pool:
        got = dict(zip(TALKS_SLOWLY, pool.map(ask, TALKS_SLOWLY), strict=True))
    assert got == dict.fromkeys(TALKS_SLOWLY, "as expected")


@pytest.mark.own_times("step")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_silent_peer_is_given_up_before_a_slow_one(scheme: str) -> None:
    """Whatever time a whole answer has."""
    with Peer(is_silent) as server:
        started = time.monotonic()
        with pytest.raises(FetchFailed, match="timed out"):
            get(server.url().replace("http", scheme))
        assert time.monotonic() - started < LONG / 2


# -- freshness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "max_age"),
    [
        (["Cache-Control: max-age=600"], 600),
        ([], None),
        (["Cache-Control: public"], None),
        (["Cache-Control: public, MAX-AGE=600, must-revalidate"], 600),
        (['Cache-Control: max-age="600"'], 600),
        (["Cache-Control: max-age=600", "Age: 100"], 500),
        (["Cache-Control: max-age=600", "Age: 601"], 0),
        (["Cache-Control: max-age=600", "Age: -5"], 600),
        (["Cache-Control: max-age=600", "Age: x"], 600),
        (["Age: 100"], None),
        (["Cache-Control: max-age=0"], 0),
        # contradictions: the shorter time holds
        (["Cache-Control: max-age=600, max-age=30"], 30),
        (["Cache-Control: max-age=600", "Cache-Control: max-age=30"], 30),
        (["Cache-Control: max-age=600, no-store"], 0),
        (["Cache-Control: no-cache"], 0),
        (["Cache-Control: No-Store"], 0),
        # what cannot be read is stale
        (["Cache-Control: max-age=-1"], 0),
        (["Cache-Control: max-age="], 0),
        (["Cache-Control: max-age=1e9"], 0),
        (["Cache-Control: max-age=600.5"], 0),
        (["Cache-Control: max-age=\u0661"], 0),
        (["Cache-Control: max-age=" + "9" * 400], 0),
        # the resolver clamps it
        (["Cache-Control: max-age=99999999999999"], 99999999999999),
        (["Cache-Control: s-maxage=5"], None),
    ],
)
def test_max_age(fields: list[str], max_age: float | None) -> None:
    """Freshness is `max-age` minus `Age`, the least of several, and nothing if it cannot be read."""
    said = answer(GOOD).replace(
        b"\r\n\r\n", "".join(f"\r\n{field}" for field in fields).encode() + b"\r\n\r\n", 1
    )
    with Peer(says(said)) as server:
        assert get(server.url()).max_age == max_age


def test_a_set_that_did_not_change_is_not_sent_again() -> None:
    """The entity tag of the set at hand is sent, and "not modified" refreshes it."""
    with JWKSServer(Clock()) as server:
        edge = server.endpoint("edge", key())
        first = get(edge.url)
        assert first.etag is not None
        edge.cache_control = "max-age=60"
        assert get(edge.url, etag=first.etag) == Fetched(None, 60, first.etag)
        edge.publish()
        second = get(edge.url, etag=first.etag)
        assert kids(second) == set()
        assert second.etag not in (None, first.etag)
    sent = [fields.get("if-none-match") for _, fields in edge.asked]
    assert sent == [None, first.etag, first.etag]


def test_not_modified_may_name_another_tag() -> None:
    """RFC 9111 section 4.3.4: the fields of a 304 replace the stored ones; what is absent stays."""
    with Peer(says(answer(status="304 Not Modified", kind=None))) as server:
        assert get(server.url(), etag='"a"') == Fetched(None, None, '"a"')
    with Peer(says(answer(b"", 'ETag: W/"b"', status="304 Not Modified", kind=None))) as server:
        assert get(server.url(), etag='"a"') == Fetched(None, None, 'W/"b"')


@pytest.mark.parametrize(
    ("field", "etag"),
    [
        ('ETag: "a"', '"a"'),
        ('ETag: W/"a"', 'W/"a"'),
        ("ETag: a", "a"),
        (f"ETag: {'a' * 256}", "a" * 256),
        (f"ETag: {'a' * 257}", None),
        ('ETag: "caf\xe9"', None),
        ("X: y", None),
    ],
)
def test_entity_tags_that_could_not_be_sent_back_are_ignored(field: str, etag: str | None) -> None:
    """A tag that would make the next request fail, or too large for the server, is not kept."""
    with Peer(says(answer(GOOD, field))) as server:
        assert get(server.url()).etag == etag
        assert kids(get(server.url(), etag=etag)) == {key().kid}
    assert server.heads[1].fields.get("if-none-match") == etag


@pytest.mark.parametrize(
    ("fields", "clock"),
    [
        (["Date: Fri, 15 Jan 2027 08:00:00 GMT"], 1_800_000_000),
        (["Date: Fri, 15 Jan 2027 08:00:00 GMT", "Age: 30"], 1_800_000_030),
        (["Date: Fri, 15 Jan 2027 08:00:00 GMT", "Age: x"], 1_800_000_000),
        (["Date: yesterday"], None),
        (["Date: Fri, 99 Jan 2027 08:00:00 GMT"], None),
        (["X: y"], None),
    ],
)
def test_the_clock_of_the_server(fields: list[str], clock: float | None) -> None:
    """What `Date` says, and the time that the answer lay in a cache since; nothing if it cannot be read."""
    with Peer(says(answer(GOOD, *fields))) as server:
        assert get(server.url()).clock == clock


# -- TLS --------------------------------------------------------------------------------------------------


class Certificates:
    """An authority, another one, and servers with certificates of all sorts."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._other = trustme.CA()
        self.authority = str(directory / "authority.pem")
        self.other = str(directory / "other.pem")
        self._authority.cert_pem.write_to_path(self.authority)
        self._other.cert_pem.write_to_path(self.other)

    def server(self, *names: str, **options: Any) -> ssl.SSLContext:
        """A server's side with a certificate of the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, **options).configure_cert(context)
        return context

    def self_signed(self) -> ssl.SSLContext:
        """A server's side whose certificate nobody else signed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with (
            self._other.cert_pem.tempfile() as certificate,
            self._other.private_key_pem.tempfile() as private,
        ):
            context.load_cert_chain(certificate, private)
        return context

    def old(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A server's side that speaks only one version of TLS."""
        context = self.server("127.0.0.1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for all tests of this module."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


NOW_ = datetime.now(timezone.utc)
DAY = timedelta(days=1)
Make = Callable[[Certificates], ssl.SSLContext]
CERTIFICATES: list[tuple[str, Make, str | None]] = [
    ("good", lambda made: made.server("127.0.0.1"), None),
    ("TLS 1.2", lambda made: made.old(ssl.TLSVersion.TLSv1_2), None),
    ("good for a while", lambda made: made.server("127.0.0.1", not_after=NOW_ + DAY), None),
    ("another address", lambda made: made.server("127.0.0.2"), "certificate verify failed"),
    ("a name", lambda made: made.server(NAME), "certificate verify failed"),
    ("only a common name", lambda made: made.server(NAME, common_name="127.0.0.1"), "verify failed"),
    (
        "expired",
        lambda made: made.server("127.0.0.1", not_before=NOW_ - 2 * DAY, not_after=NOW_ - DAY),
        "expired",
    ),
    (
        "not yet valid",
        lambda made: made.server("127.0.0.1", not_before=NOW_ + DAY, not_after=NOW_ + 2 * DAY),
        "not yet valid",
    ),
    ("self-signed", Certificates.self_signed, "certificate verify failed"),
    ("TLS 1.1", lambda made: made.old(ssl.TLSVersion.TLSv1_1), ANY),
    ("TLS 1.0", lambda made: made.old(ssl.TLSVersion.TLSv1), ANY),
    ("a wildcard", lambda made: made.server("*.0.0.1"), "certificate verify failed"),
]


@pytest.mark.parametrize(("make", "error"), rows(CERTIFICATES))
def test_certificates(certificates: Certificates, make: Make, error: str | None) -> None:
    """The server must show a valid certificate for its name, from the authority that the trust file names."""
    with Peer(says(answer(GOOD)), tls=make(certificates)) as server:
        if error is None:
            assert kids(get(server.url(), ca_file=certificates.authority)) == {key().kid}
        else:
            refused(server.url(), error, ca_file=certificates.authority)
            assert not server.heads


def test_tls_1_1_would_work_for_others(certificates: Certificates) -> None:
    """The server of the row "TLS 1.1" is refused for its age and for nothing else."""
    client = ssl.create_default_context(cafile=certificates.authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = ssl.TLSVersion.TLSv1_1
    with (
        Peer(is_silent, tls=certificates.old(ssl.TLSVersion.TLSv1_1)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
    ):
        try:
            connection = client.wrap_socket(plain, server_hostname="127.0.0.1")
        except ssl.SSLError:
            pytest.skip("this OpenSSL has no TLS 1.1")
        with connection:
            assert connection.version() == "TLSv1.1"


def test_the_certificate_is_checked_for_the_name(certificates: Certificates, at_name: None) -> None:
    """The certificate must be for the name in the trust file, not for the address that it leads to."""
    with Peer(says(answer(GOOD)), tls=certificates.server(NAME)) as server:
        assert kids(get(server.url(host=NAME), ca_file=certificates.authority)) == {key().kid}
    with Peer(says(answer(GOOD)), tls=certificates.server("127.0.0.1")) as server:
        refused(server.url(host=NAME), "certificate verify failed", ca_file=certificates.authority)


def try_to_get(url: str) -> None:
    """In a child: print what becomes of a fetch."""
    try:
        print(kids(get(url)))
    except FetchFailed as failed:
        print(failed)


def test_other_authorities_are_not_asked(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `ca_file` only its authorities count, without it only the public ones, never the environment's."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority)
    with Peer(says(answer(GOOD)), tls=certificates.server("127.0.0.1")) as server:
        refused(server.url(), "certificate verify failed", ca_file=certificates.other)
        # in a process of its own, because public authorities are loaded once
        assert "certificate verify failed" in run_child(try_to_get, server.url())
        assert kids(get(server.url(), ca_file=certificates.authority)) == {key().kid}


def test_authorities_may_be_replaced(certificates: Certificates, tmp_path: Path) -> None:
    """A new `ca_file` counts from the next fetch on, also against an authority that it no longer holds."""
    path = tmp_path / "ca.pem"
    with Peer(says(answer(GOOD)), tls=certificates.server("127.0.0.1")) as server:
        for authority, error in [
            (certificates.other, "certificate verify failed"),
            (certificates.authority, None),
            (certificates.other, "certificate verify failed"),
        ]:
            path.write_bytes(Path(authority).read_bytes())
            if error is None:
                get(server.url(), ca_file=str(path))
            else:
                refused(server.url(), error, ca_file=str(path))


def test_unusable_authorities(certificates: Certificates, tmp_path: Path) -> None:
    """Without a readable `ca_file` nothing is fetched."""
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    with Peer(says(answer(GOOD)), tls=certificates.server("127.0.0.1")) as server:
        for path in empty, tmp_path / "missing.pem", tmp_path:
            refused(server.url(), f"ca_file {path} cannot be used", ca_file=str(path))
        assert server.connections() == 0


def test_plain_http_where_tls_is_expected() -> None:
    """A server that answers a TLS handshake with plain HTTP is refused."""

    def talk(peer: Peer, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer(GOOD))

    with Peer(talk) as server:
        refused(server.url().replace("http:", "https:"), "SSL")


# -- files ------------------------------------------------------------------------------------------------


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A file with a good set."""
    path = tmp_path / "edge.jwks.json"
    path.write_bytes(GOOD)
    return path


def test_a_pinned_file(pinned: Path) -> None:
    """A set may come from a file, which is read anew each time and as often as the resolver allows."""
    assert kids(get(str(pinned))) == {key().kid}
    pinned.write_bytes(PADDED)
    fetched = get(str(pinned), etag='"a"', no_cache=True)
    assert kids(fetched) == {key().kid}
    assert (fetched.max_age, fetched.etag) == (0, None)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.write_bytes(PADDED + b" "), "more than 65536 bytes"),
        (lambda path: path.write_bytes(b"{"), "not JSON"),
        (lambda path: path.write_bytes(document(entry(d="AAAA"))), "leaked"),
        (lambda path: path.unlink(), "edge.jwks.json cannot be read: No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_used(pinned: Path, spoil: Callable[[Path], object], error: str) -> None:
    """A file is judged like an answer; one that cannot be read is named."""
    spoil(pinned)
    refused(str(pinned), error)


@pytest.mark.parametrize("device", ["/dev/zero"])
def test_an_endless_file(device: str) -> None:
    """Reading stops at the limit."""
    if not Path(device).exists():
        pytest.skip(f"no {device} here")
    refused(device, "more than 65536 bytes")
