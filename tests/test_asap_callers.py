"""ASAP callers: what their tokens must say, where their keys come from, and what nobody can make us do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from s2s_mesh import JWKSUnavailable, Service, ServiceId, TokenRejected, TrustConfig
from s2s_mesh.asap import MAX_LIFE, PEM
from s2s_mesh.asap_key_file import read_key
from s2s_mesh.errors import JWKSInvalid, Reason
from s2s_mesh.jwks_fetch import FetchFailed, fetch
from s2s_mesh.newcomers import Newcomers
from s2s_mesh.observer import JWKSFetched, JWKSState
from s2s_mesh.resolver import MAX_PLACES
from s2s_mesh.trust_diff import changes as differences
from s2s_mesh.trust_relaxations import relaxations

from .asap_keys import (
    ISSUER,
    KID,
    SERVICE,
    KeyServer,
    Wallets,
    allowing,
    source,
    token,
    trust,
    vouching,
)
from .command_line import ISSUER as OWN
from .command_line import make_terminal
from .hostile import rows
from .jwks_servers import Peer, answer, is_silent, jwks, resets, says
from .observing import Listener
from .tokens import ABSENT, LEDGER, NOW, WALLETS, Clock, frozen, key

FIRST, SECOND = key("ES256", "first"), key("ES256", "second")
RSA = key("RS256", "first")


# -- tokens -----------------------------------------------------------------------------------------------

MULTI = "multi_aud = true"
HOUR = 'max_token_life = "1h"'
NAMED = f'audiences = {{ "team/wallets" = "{WALLETS}" }}'


HOSTILE: list[tuple[str, str, dict[str, Any], dict[str, Any], Reason | None]] = [
    ("as their signer makes it", "", {}, {}, None),
    ("without sub", "", {"sub": ABSENT}, {}, None),
    ("without nbf", "", {"nbf": ABSENT}, {}, None),
    ("without typ", "", {}, {"typ": ABSENT}, None),
    ("aud as a list of one", "", {"aud": [WALLETS]}, {}, None),
    ("aud of several, relaxed", MULTI, {"aud": [LEDGER, WALLETS]}, {}, None),
    ("aud as ASAP calls us, named", NAMED, {"aud": "team/wallets"}, {}, None),
    ("an hour, relaxed", HOUR, {"exp": NOW + MAX_LIFE}, {}, None),
    # theirs: HTTP 500
    ("no kid", "", {}, {"kid": ABSENT}, Reason.BAD_KID),
    ("kid that is no text", "", {}, {"kid": 1}, Reason.BAD_KID),
    ("kid of another issuer", "", {}, {"kid": "team/other/k1"}, Reason.BAD_KID),
    ("kid of a longer name", "", {}, {"kid": "team/edgee/k1"}, Reason.BAD_KID),
    ("kid in a folder below", "", {}, {"kid": "team/edge/deep/k1"}, Reason.BAD_KID),
    ("kid that is the issuer", "", {}, {"kid": ISSUER}, Reason.BAD_KID),
    ("kid with ..", "", {}, {"kid": "team/edge/../edge/k1"}, Reason.BAD_KID),
    ("kid that ends in ..", "", {}, {"kid": "team/edge/.."}, Reason.BAD_KID),
    ("kid with //", "", {}, {"kid": "team/edge//k1"}, Reason.BAD_KID),
    ("kid with a slash before", "", {}, {"kid": "/team/edge/k1"}, Reason.BAD_KID),
    ("kid with a slash behind", "", {}, {"kid": "team/edge/k1/"}, Reason.BAD_KID),
    ("kid with %", "", {}, {"kid": "team/edge/%6b1"}, Reason.BAD_KID),
    ("kid with a query", "", {}, {"kid": "team/edge/k1?x"}, Reason.BAD_KID),
    ("kid that is a URL", "", {}, {"kid": "https://evil.example.com/k1"}, Reason.BAD_KID),
    ("kid with @", "", {}, {"kid": "team/edge/@evil"}, Reason.BAD_KID),
    ("kid with :", "", {}, {"kid": "team/edge/k:1"}, Reason.BAD_KID),
    ("no jti", "", {"jti": ABSENT}, {}, Reason.BAD_JTI),
    ("empty jti", "", {"jti": ""}, {}, Reason.BAD_JTI),
    ("jti that is a number", "", {"jti": 7}, {}, Reason.BAD_JTI),
    ("two hours", HOUR, {"exp": NOW + 2 * MAX_LIFE}, {}, Reason.LIFE_TOO_LONG),
    ("a second over the hour", HOUR, {"exp": NOW + MAX_LIFE + 1}, {}, Reason.LIFE_TOO_LONG),
    ("an hour, not named", "", {"exp": NOW + MAX_LIFE}, {}, Reason.LIFE_TOO_LONG),
    # theirs: let through
    ("empty sub", "", {"sub": ""}, {}, Reason.BAD_SUBJECT),
    ("null sub", "", {"sub": None}, {}, Reason.BAD_SUBJECT),
    ("null jti", "", {"jti": None}, {}, Reason.BAD_JTI),
    ("for others as well", "", {"aud": [LEDGER, WALLETS]}, {}, Reason.WRONG_AUDIENCE),
    ("another type", "", {}, {"typ": "at+jwt"}, Reason.BAD_TYPE),
    ("iat with a fraction", "", {"iat": NOW - 0.5}, {}, Reason.BAD_TIME_CLAIM),
    ("a further header member", "", {}, {"jku": "https://evil.example.com/"}, Reason.HEADER_MEMBER),
    # theirs refuse these too
    ("another sub", "", {"sub": "team/other"}, {}, Reason.BAD_SUBJECT),
    ("another issuer", "", {"iss": "team/other", "sub": "team/other"}, {}, Reason.UNKNOWN_ISSUER),
    ("no iss", "", {"iss": ABSENT}, {}, Reason.UNKNOWN_ISSUER),
    ("another audience", "", {"aud": LEDGER}, {}, Reason.WRONG_AUDIENCE),
    ("no aud", "", {"aud": ABSENT}, {}, Reason.WRONG_AUDIENCE),
    ("aud as ASAP calls us, not named", "", {"aud": "team/wallets"}, {}, Reason.WRONG_AUDIENCE),
    ("expired", "", {"iat": NOW - 100, "nbf": NOW - 100, "exp": NOW - 31}, {}, Reason.EXPIRED),
    ("not yet", "", {"iat": NOW + 31, "nbf": NOW + 31, "exp": NOW + 90}, {}, Reason.NOT_YET_VALID),
    ("no exp", "", {"exp": ABSENT}, {}, Reason.BAD_TIME_CLAIM),
    ("no algorithm", "", {}, {"alg": "none"}, Reason.BAD_ALGORITHM),
    ("a shared secret", "", {}, {"alg": "HS256"}, Reason.BAD_ALGORITHM),
    ("an algorithm that is not accepted", "", {}, {"alg": "ES512"}, Reason.BAD_ALGORITHM),
    ("the algorithm of another key type", "", {}, {"alg": "RS256"}, Reason.KEY_MISMATCH),
    ("bound to a key", "", {"cnf": {"jkt": "x"}}, {}, Reason.PROOF_MISSING),
    ("on behalf of a user", "", {"act": {"sub": ISSUER}}, {}, Reason.BAD_USER),
]


@pytest.mark.parametrize(("relaxed", "payload", "head", "reason"), rows(HOSTILE))
def test_what_a_token_must_say(
    relaxed: str, payload: dict[str, Any], head: dict[str, Any], reason: Reason | None
) -> None:
    """Each row changes one thing of a good token; nothing is fetched but the key that may be its issuer's."""
    with KeyServer() as server, Wallets(trust(server.base, relaxed=relaxed)) as wallets:
        server.publish(KID, FIRST)
        sent = token(head=head, **payload)
        if reason is None:
            caller = wallets.verify(sent)
            assert (caller.issuer, caller.vouched_by, caller.kid) == (SERVICE, ISSUER, KID)
            assert caller.scopes == {"cards:read"}
            assert wallets.verifier.cached(sent, NOW) is caller
            return
        with pytest.raises(TokenRejected) as refused:
            wallets.verify(sent)
        assert refused.value.reason is reason
        assert set(server.asked) <= {KID}


@pytest.mark.hostile
def test_the_key_of_another_folder_signs_for_nobody_else() -> None:
    """Who owns team/edge/k1 is not team, though its path begins with that name as well."""
    with ExitStack() as stack:
        server = stack.enter_context(KeyServer())
        more = vouching(server.base, issuer="team")
        wallets = stack.enter_context(Wallets(trust(server.base, more=more)))
        server.publish(KID, FIRST)
        assert wallets.verify().vouched_by == ISSUER
        with pytest.raises(TokenRejected) as refused:
            wallets.verify(token(iss="team", sub="team"))
        assert refused.value.reason is Reason.BAD_KID


@pytest.mark.hostile
def test_a_token_by_another_key() -> None:
    """The file decides, and not the name."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        with pytest.raises(TokenRejected) as refused:
            wallets.verify(token(SECOND))
        assert refused.value.reason is Reason.BAD_SIGNATURE


# -- the trust file ---------------------------------------------------------------------------------------

SERVERS = 'asap_key_servers = ["https://asap-keys.example.com/"]'
GOOD = "version = 1\n" + vouching("https://asap-keys.example.com/") + allowing()
FILES: list[tuple[str, str, str, str | None]] = [
    ("good", "", "", None),
    ("two servers", SERVERS, SERVERS.replace("]", ', "https://two.example.com/"]'), None),
    ("an hour", SERVERS, SERVERS + '\nmax_token_life = "1h"\nca_file = "ca.pem"', None),
    ("no servers", SERVERS, "", 'found "asap" and no asap_key_servers; expected these'),
    ("no profile", 'profile = "asap"\n', "", 'another profile; expected profile = "asap"'),
    ("profile jwt", '"asap"', '"jwt"', 'another profile; expected profile = "asap"'),
    ("no server", SERVERS, "asap_key_servers = []", "at least one"),
    ("no slash", "example.com/", "example.com", "a slash stands at its end, and no query"),
    ("a query", "example.com/", "example.com/?x=/", "a slash stands at its end, and no query"),
    ("plain http", "https://asap", "http://asap", "the scheme must be https"),
    (
        "a jwks_uri too",
        SERVERS,
        SERVERS + '\njwks_uri = "https://a.example.com/k"',
        "jwks_uri: found this and",
    ),
    ("a jwks_file too", SERVERS, SERVERS + '\njwks_file = "k.json"', "jwks_file: found this and ASAP"),
    ("discovery too", SERVERS, SERVERS + "\ndiscovery = true", "discovery: found this and ASAP"),
    (
        "origins too",
        SERVERS,
        SERVERS + '\njwks_origins = ["https://a.example.com"]',
        "jwks_origins: found this and ASAP",
    ),
    ("typ", SERVERS, SERVERS + '\ntyp = ["JWT"]', 'typ: found beside profile = "asap", which settles that'),
    ("no typ", SERVERS, SERVERS + "\nallow_missing_typ = true", "allow_missing_typ: found beside profile"),
    ("no alg", SERVERS, SERVERS + "\nkeys_without_alg = true", "keys_without_alg: found beside profile"),
    ("EdDSA", SERVERS, SERVERS + "\neddsa = true", "eddsa: found beside profile"),
    (
        "Ed25519",
        SERVERS,
        SERVERS + '\nalgorithms = ["Ed25519"]',
        "algorithms: found Ed25519; ASAP has ES256, ES384, PS256, RS256 of ours",
    ),
    (
        "Ed25519 only, in general",
        "version = 1",
        'version = 1\n[defaults]\nalgorithms = ["Ed25519"]',
        "algorithms: found only those of .defaults., so none; ASAP has ES256",
    ),
    (
        "Ed25519 too, in general",
        "version = 1",
        'version = 1\n[defaults]\nalgorithms = ["ES256", "Ed25519"]',
        None,
    ),
    ("two hours", SERVERS, SERVERS + '\nmax_token_life = "2h"', "expected 1h at most, as ASAP has it"),
    ("another subject", f'subject = "{ISSUER}"', 'subject = "team/x"', "expected its issuer, as ASAP has it"),
    ("an issuer with ..", ISSUER, "team/../edge", "an issuer that ASAP does not know; expected a name"),
]


@pytest.mark.parametrize(
    ("old", "new", "problem"), [pytest.param(*row[1:], id=row[0].replace(" ", "-")) for row in FILES]
)
def test_what_a_trust_file_may_say(old: str, new: str, problem: str | None) -> None:
    """Each row changes one thing of a good file."""
    text = GOOD.replace(old, new) if old else GOOD
    if problem is None:
        config = TrustConfig.parse(text)
        assert config.warnings == ()
        assert config.foreign_issuers[ISSUER].keys_url is None
        return
    with pytest.raises(Exception, match=problem.replace("?", r"\?")):
        TrustConfig.parse(text)


def test_what_a_person_sees_of_it() -> None:
    """What ASAP lets pass is said; an hour as well; a key server that moved is a difference."""
    config = TrustConfig.parse(GOOD)
    entry = config.foreign_issuers[ISSUER]
    assert entry.place == "https://asap-keys.example.com/"
    assert entry.types == {"jwt"}
    assert entry.max_token_life == 900
    assert entry.assumed_algorithms == entry.algorithms
    assert [line.partition(f'"{ISSUER}".')[2] for line in relaxations(config)] == [
        "profile: its tokens need no sub: its issuer is whom they mean",
        "typ: tokens of type jwt are accepted",
        "allow_missing_typ: a token without typ counts as JWT",
        "keys_without_alg: its keys need not say for which algorithm they are",
    ]
    relaxed = TrustConfig.parse(GOOD.replace(SERVERS, SERVERS + '\nmax_token_life = "1h"'))
    (line,) = set(relaxations(relaxed)) - set(relaxations(config))
    assert "max_token_life: its tokens may live for 3600 s" in line
    moved = TrustConfig.parse(GOOD.replace("asap-keys", "other-keys"))
    (change,) = differences(config, moved)
    assert "https://other-keys.example.com/, before https://asap-keys.example.com/" in str(change)


# -- key files --------------------------------------------------------------------------------------------


def pem_of(public: Any, form: Any = serialization.PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return bytes(public.public_bytes(serialization.Encoding.PEM, form))


EC_PEM = FIRST.public.to_pem().encode()
RSA_PEM = RSA.public.to_pem().encode()
WEAK = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP521R1())
TINY = ec.generate_private_key(ec.SECP224R1())
DSA = pem_of(dsa.generate_private_key(1024).public_key())
# X25519, with the last octet of its object identifier changed
UNKNOWN = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2V/AyEA" + b"A" * 43 + b"=\n-----END PUBLIC KEY-----\n"
PRIVATE = CURVE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
BOTH = {"RS256", "PS256"}
KEY_FILES: list[tuple[str, bytes, set[str], str | None]] = [
    ("ES256", EC_PEM, {"ES256", "RS256"}, None),
    ("RS256", RSA_PEM, {"ES256", "RS256"}, None),
    ("with Windows line ends", EC_PEM.replace(b"\n", b"\r\n"), {"ES256"}, None),
    ("with space around", b"\n " + EC_PEM + b"\n\n", {"ES256"}, None),
    ("empty", b"", {"ES256"}, "not one PEM block"),
    ("a page", b"<html>not found</html>", {"ES256"}, "not one PEM block"),
    ("two keys", EC_PEM + RSA_PEM, {"ES256"}, "not one PEM block"),
    ("text before", b"my key\n" + EC_PEM, {"ES256"}, "not one PEM block"),
    ("a private key", PRIVATE, {"ES256"}, "holds a private key"),
    ("both halves", EC_PEM + PRIVATE, {"ES256"}, "holds a private key"),
    ("PKCS 1", pem_of(WEAK.public_key(), serialization.PublicFormat.PKCS1), {"RS256"}, "not one PEM block"),
    ("very long", EC_PEM.replace(b"\n", b"\n" * 4097, 1), {"ES256"}, "not one PEM block"),
    ("no base64", EC_PEM.replace(b"M", b"=", 3), {"ES256"}, "no public key that can be read"),
    ("cut off", EC_PEM.replace(EC_PEM[60:100], b""), {"ES256"}, "no public key that can be read"),
    ("RSA of 1024 bits", pem_of(WEAK.public_key()), {"RS256"}, "RSA of 1024 bits"),
    ("another curve", pem_of(CURVE.public_key()), {"ES256"}, "the key cannot be used"),
    ("a curve that is no JWK's", pem_of(TINY.public_key()), {"ES256"}, "no public key that can be read"),
    ("of DSA", DSA, {"ES256"}, "no public key that can be read"),
    ("of an unknown type", UNKNOWN, {"Ed25519"}, "no public key that can be read"),
    ("a certificate", EC_PEM.replace(b"PUBLIC KEY", b"CERTIFICATE"), {"ES256"}, "not one PEM block"),
    ("of no accepted algorithm", RSA_PEM, {"ES256"}, "the key cannot be used"),
    ("of two accepted algorithms", RSA_PEM, BOTH, "the key cannot be used"),
]


@pytest.mark.parametrize(("pem", "algorithms", "problem"), rows(KEY_FILES))
def test_what_a_key_file_may_hold(pem: bytes, algorithms: set[str], problem: str | None) -> None:
    """One public key that is good enough, for the one algorithm that goes with its type."""
    if problem is None:
        read = read_key(KID, pem, algorithms)
        assert read.kid == KID
        assert read.alg in algorithms
        return
    with pytest.raises(JWKSInvalid, match=problem):
        read_key(KID, pem, algorithms)


# -- the key server ---------------------------------------------------------------------------------------


def test_one_file_is_fetched_and_kept() -> None:
    """Asked for as theirs asks, once; the state of each key is its own."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        server.publish(f"{ISSUER}/k2", SECOND)
        wallets.verify()
        wallets.verify(token(jti="another"))
        assert server.asked == [KID]
        assert server.heads[0].fields["accept"] == PEM
        assert wallets.verify(token(SECOND, kid=f"{ISSUER}/k2")).kid == f"{ISSUER}/k2"
        assert server.asked == [KID, f"{ISSUER}/k2"]
        assert len(wallets.resolver.places(ISSUER)) == 2


def test_a_key_whose_file_is_gone_is_gone_with_the_next_refresh() -> None:
    """404, or 403 as file servers say it; the other key stays, and what is verified already does not hold."""
    for status in ("404 Not Found", "403 Forbidden"):
        with KeyServer() as server, Wallets(trust(server.base)) as wallets:
            server.missing = status
            server.publish(KID, FIRST)
            server.publish(f"{ISSUER}/k2", SECOND)
            old, new = token(exp=NOW + 800), token(SECOND, kid=f"{ISSUER}/k2", exp=NOW + 800)
            wallets.verify(old)
            wallets.verify(new)
            del server.files[KID]
            wallets.clock.now += 300
            wallets.refresh()
            wallets.verify(new)
            with pytest.raises(TokenRejected) as refused:
                wallets.verify(old)
            assert refused.value.reason is Reason.UNKNOWN_KID
            # and comes back when it does
            server.publish(KID, FIRST)
            wallets.clock.now += 10
            wallets.verify(old)


def test_refreshes_are_conditional_and_by_what_the_answer_allows() -> None:
    """304 keeps the very key; `max-age` decides when, clamped."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        server.cache_control = "max-age=100"
        sent = token(exp=NOW + 800)
        kept = wallets.verify(sent)
        wallets.clock.now += 60
        wallets.refresh()
        assert len(server.asked) == 1
        wallets.clock.now += 20
        wallets.refresh()
        assert server.heads[-1].fields["if-none-match"].startswith('"')
        assert wallets.verify(sent) is kept


def test_an_outage_is_bridged_to_the_stale_bound_and_no_further() -> None:
    """A failure removes no key; after freshness and grace nobody can tell any more."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        wallets.verify()
        server.instead = answer(b"", status="500 Internal Server Error")
        wallets.clock.now += 300 + 3599
        wallets.refresh()
        wallets.verify()
        wallets.clock.now += 1
        with pytest.raises(JWKSUnavailable, match="500"):
            wallets.verify()
        server.instead = b""
        wallets.clock.now += 1
        wallets.verify()


FAILURES: list[tuple[str, bytes, str]] = [
    ("a redirect", answer(b"", "Location: https://evil.example.com/", status="302 Found"), "answered 302"),
    ("a page", answer(b"hello", kind="text/html"), "sent content-type 'text/html'"),
    ("a JWKS", answer(b'{"keys":[]}'), "sent content-type 'application/jwk-set"),
    ("too large", answer(EC_PEM + b"\n" * 65536, kind=PEM), "more than 65536 bytes"),
    ("compressed", answer(EC_PEM, "Content-Encoding: gzip", kind=PEM), "content-encoding 'gzip'"),
    ("no HTTP", b"hello\r\n\r\n", "127.0.0.1"),
    ("a private key", answer(PRIVATE, kind=PEM), "holds a private key"),
]


@pytest.mark.parametrize(("said", "problem"), [pytest.param(*row[1:], id=row[0]) for row in FAILURES])
def test_answers_that_are_of_no_use(said: bytes, problem: str) -> None:
    """Without a key 503, because nobody can tell; with one it goes on."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.instead = said
        with pytest.raises(JWKSUnavailable, match=problem):
            wallets.verify()
        assert len(server.asked) == 1
        server.instead = b""
        server.publish(KID, FIRST)
        wallets.clock.now += 1
        wallets.verify()
        server.instead = said
        wallets.clock.now += 300
        wallets.refresh()
        wallets.verify()


def test_the_next_server_is_asked_where_one_does_not_answer() -> None:
    """A server that is down, hangs up, or fails; a 404 is an answer, and ends it."""
    with ExitStack() as stack:
        good, failing, down = (
            stack.enter_context(KeyServer(listening=listening)) for listening in (True, True, False)
        )
        gone = stack.enter_context(Peer(resets))
        good.publish(KID, FIRST)
        failing.instead = answer(b"", status="503 Service Unavailable")
        servers = [down.base, gone.url("/keys/"), failing.base, good.base]
        fetched = fetch(source(*servers), etag='"of another"', no_cache=True)
        assert fetched.jwks is not None
        assert fetched.jwks.keys.keys() == {KID}
        (head,) = good.heads
        assert "if-none-match" not in head.fields
        assert head.fields["cache-control"] == "no-cache"
        with pytest.raises(FetchFailed) as failed:
            fetch(source(*servers[:3]), etag=None, no_cache=False)
        assert all(server in str(failed.value) for server in servers[:3])
        failing.instead = b""
        nothing = fetch(source(failing.base, good.base), etag=None, no_cache=False)
        assert nothing.jwks is not None
        assert not nothing.jwks.keys
        assert len(good.heads) == 1


def test_servers_that_hang_have_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together: whoever waits for a key waits no longer for several."""
    monkeypatch.setattr("s2s_mesh.jwks_fetch.TOTAL_SECONDS", 1.0)
    with Peer(is_silent) as silent:
        began = time.monotonic()
        with pytest.raises(FetchFailed):
            fetch(source(*(silent.url(f"/{number}/") for number in range(30))), etag=None, no_cache=False)
        assert time.monotonic() - began < 15  # thirty times a second otherwise


@pytest.mark.own_times("step", "total")
def test_a_server_that_hangs_leaves_time_for_the_next() -> None:
    """Though it has the half of it."""
    with KeyServer() as good, Peer(is_silent) as silent:
        good.publish(KID, FIRST)
        fetched = fetch(source(silent.url("/keys/"), good.base), etag=None, no_cache=False)
        assert fetched.jwks is not None
        assert fetched.jwks.keys.keys() == {KID}


@pytest.mark.hostile
@pytest.mark.parametrize(
    "said",
    [
        b"x" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno field " + b"x" * 50_000 + b"\r\n\r\n",
        answer(b"", kind="text/" + "x" * 50_000),
        answer(b"", "Content-Encoding: " + "x" * 50_000, kind=PEM),
    ],
)
def test_what_a_server_sends_does_not_fill_the_log(said: bytes) -> None:
    """It stands there once, and again with each refusal until the server has mended."""
    with Peer(says(said)) as server:
        with pytest.raises(FetchFailed) as failed:
            fetch(source(server.url("/keys/")), etag=None, no_cache=False)
        assert len(str(failed.value)) < 300


@pytest.mark.hostile
def test_a_key_server_on_this_machine_is_asked_only_where_that_is_allowed() -> None:
    """Whatever its name resolves to."""
    with KeyServer() as server:
        server.publish(KID, FIRST)
        with pytest.raises(FetchFailed, match="loopback"):
            fetch(source(server.base, allow_loopback_http=False), etag=None, no_cache=False)
        assert server.connections() == 0


def test_nobody_is_asked_without_a_key() -> None:
    """There is no whole set to be had."""
    with pytest.raises(FetchFailed, match="each key is fetched by its kid"):
        fetch(source("https://asap-keys.example.com/", kid=""), etag=None, no_cache=False)


# -- limits -----------------------------------------------------------------------------------------------


@pytest.mark.hostile
def test_made_up_kids_make_few_fetches_and_do_not_lock_out_a_real_one() -> None:
    """Ten at once and one a second for this issuer; a known key is not concerned, and a new one gets by."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        wallets.verify()

        def make_up(number: int) -> Reason | None:
            try:
                wallets.verify(token(kid=f"{ISSUER}/made-up-{number}"))
            except (TokenRejected, JWKSUnavailable) as refused:
                return refused.reason
            return None

        reasons = {make_up(number) for number in range(200)}
        assert reasons == {Reason.UNKNOWN_KID, Reason.JWKS_UNAVAILABLE}
        assert len(server.asked) == 10
        wallets.verify(token(jti="known"))
        wallets.clock.now += 5
        server.publish(f"{ISSUER}/k2", SECOND)
        for number in range(4):
            make_up(1000 + number)
        wallets.verify(token(SECOND, kid=f"{ISSUER}/k2", now=int(wallets.clock())))
        assert len(server.asked) == 15


def test_a_key_that_was_found_is_asked_for_whatever_else_is() -> None:
    """Also when it has to be fetched anew, after an outage: made-up kids take nothing from it."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        wallets.verify()
        wallets.clock.now += 300 + 3600
        for number in range(11):
            with pytest.raises((TokenRejected, JWKSUnavailable)):
                wallets.verify(token(kid=f"{ISSUER}/made-up-{number}", now=int(wallets.clock())))
        assert len(server.asked) == 11
        assert wallets.verify().kid == KID


def test_a_clock_that_goes_back_forbids_no_look() -> None:
    """What was not there an hour from now is asked for."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        with pytest.raises(TokenRejected):
            wallets.verify()
        server.publish(KID, FIRST)
        wallets.clock.now -= 3600
        assert wallets.verify().kid == KID


def test_one_kid_that_is_not_there_is_asked_for_now_and_then() -> None:
    """Not with every request."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        for _ in range(20):
            with pytest.raises(TokenRejected):
                wallets.verify(token())
        first = len(server.asked)
        assert first <= 3
        for _ in range(20):
            wallets.clock.now += 1
            with pytest.raises(TokenRejected):
                wallets.verify(token(now=int(wallets.clock())))
        assert len(server.asked) <= first + 4


def test_what_is_remembered_is_bounded() -> None:
    """Kids that were not found go first; those that were are refreshed, the others are not."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        wallets.verify()
        for number in range(2 * MAX_PLACES):
            wallets.clock.now += 1
            with pytest.raises(TokenRejected):
                wallets.verify(token(kid=f"{ISSUER}/made-up-{number}", now=int(wallets.clock())))
        assert len(wallets.resolver._issuers) <= MAX_PLACES
        assert wallets.resolver.places(ISSUER) == [f"{ISSUER} {KID}"]
        before = len(server.asked)
        wallets.clock.now += 300
        wallets.refresh()
        assert server.asked[before:] == [KID]


def test_many_at_once_make_one_fetch() -> None:
    """Whoever needs the same key waits for the one fetch; few keys of one issuer are fetched at one time."""
    with KeyServer() as server, Wallets(trust(server.base)) as wallets:
        server.publish(KID, FIRST)
        barrier = threading.Barrier(16)

        def call(_: int) -> str:
            barrier.wait()
            return wallets.verify().kid

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(call, range(16))) == {KID}
        assert server.asked == [KID]
    with Peer(is_silent) as silent, Wallets(trust(silent.url("/keys/"))) as wallets:
        futures = [wallets.client.request(ISSUER, f"{ISSUER}/k{number}") for number in range(9)]
        assert [future is not None for future in futures] == [True] * 4 + [False] * 5


def test_a_key_server_that_hangs_holds_up_no_refresh_of_others() -> None:
    """However many issuers it serves and keys are made up: a revocation elsewhere is heard of in time."""
    names = [f"team/{letter}" for letter in "abcd"]
    with Peer(says(answer(jwks(FIRST)))) as other, Peer(is_silent) as silent:
        hanging = [vouching(silent.url("/keys/"), issuer=name) for name in names]
        ledger = f'[issuers."{LEDGER}"]\njwks_uri = "{other.url()}"\n' + allowing(LEDGER)
        with Wallets(trust(silent.url("/keys/"), more=ledger + "".join(hanging))) as wallets:
            started = [
                wallets.client.request(name, f"{name}/k{number}") for name in names for number in range(9)
            ]
            assert [future is not None for future in started].count(True) == 12
            wallets.client.refresh_due()
            wallets.client._in_flight[LEDGER].result(20)
            assert len(other.heads) == 1


def test_a_reload_forgets_what_another_server_said() -> None:
    """And keeps what the same one did."""
    with KeyServer() as one, KeyServer() as two, Wallets(trust(one.base)) as wallets:
        one.publish(KID, FIRST)
        wallets.verify()
        wallets.client.use(trust(one.base, relaxed='leeway = "10s"'))
        assert len(wallets.resolver.places(ISSUER)) == 1
        moved = trust(two.base)
        wallets.client.use(moved)
        wallets.verifier.trust = moved
        assert wallets.resolver.places(ISSUER) == []
        with pytest.raises(TokenRejected):
            wallets.verify()
        wallets.client.use(TrustConfig.parse("version = 1"))
        assert wallets.resolver.places(ISSUER) == [ISSUER]
        assert not wallets.resolver._issuers


def test_the_bucket_fills_with_time_only() -> None:
    """A clock that goes back fills nothing; each issuer has its own."""
    newcomers = Newcomers(burst=2, pause=10)
    assert [newcomers.admit("a", 100) for _ in range(3)] == [True, True, False]
    assert newcomers.admit("b", 100)
    assert not newcomers.admit("a", 50)
    assert not newcomers.admit("a", 59)
    assert newcomers.admit("a", 60)
    assert [newcomers.admit("a", 10_000) for _ in range(3)] == [True, True, False]


def test_observers_see_its_keys() -> None:
    """Once there are any: of several the one that is out of date first."""
    with KeyServer() as server:
        server.publish(KID, FIRST)
        server.publish(f"{ISSUER}/k2", SECOND)
        told, clock = Listener(), Clock()
        service = Service(issuer=WALLETS, trust=trust(server.base), key_store=None, observers=[told])
        service.clock = clock
        with service:
            seen = [service.look()]
            service.verify(token())
            clock.now += 10
            service.verify(token(SECOND, kid=f"{ISSUER}/k2"))
            seen.append(service.look())
        assert [look.jwks for look in seen if look is not None] == [
            (),
            (JWKSState(issuer=ISSUER, fetched_at=NOW, stale_until=NOW + 300 + 3600, keys=1),),
        ]
        assert [event.issuer for event in told.events if isinstance(event, JWKSFetched)] == [ISSUER] * 2


def test_the_doctor_passes_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say which keys it has, so there is nothing to ask for."""
    terminal = make_terminal(tmp_path, monkeypatch)
    terminal.create_ring()
    with KeyServer() as server:
        terminal.trust(vouching(server.base) + allowing(audience=OWN))
        printed = terminal.call("doctor").stdout
        assert "trust file" in printed
        assert ISSUER not in printed
        assert not server.asked


def test_explain_fetches_the_key_and_says_from_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the receiver does; a kid of another folder is said to be none of the issuer's."""
    terminal = make_terminal(tmp_path, monkeypatch)
    with KeyServer() as server, frozen():
        server.publish(KID, FIRST)
        terminal.trust(vouching(server.base) + allowing(audience=OWN))
        command = ("trust", "explain", "-", "--receiver", OWN)
        good = terminal.call(*command, stdin=token(aud=OWN, sub=ABSENT))
        assert good.exit_code == 0, good.output
        assert server.base in good.stdout
        assert f"a [[subject]] row of this issuer: it stands for {SERVICE}" in " ".join(good.stdout.split())
        bad = terminal.call(*command, stdin=token(aud=OWN, kid="team/other/k1"))
        assert bad.exit_code == 1
        assert "so no key of this issuer" in bad.output
        assert server.asked == [KID]


def test_their_name_may_be_an_audience_of_ours() -> None:
    """A team that calls us and is called is no identity provider."""
    service = Service(issuer=WALLETS, trust=TrustConfig.parse(GOOD), key_store="memory://")
    with service:
        assert service.asap_token(ISSUER, issuer="team/wallets")
    assert ServiceId.parse(SERVICE) in service.settings.trusted.services
