"""Where an issuer's keys are, by its own discovery document: believed within narrow bounds."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from s2s_mesh.discovery import jwks_uri
from s2s_mesh.errors import JWKSInvalid
from s2s_mesh.jwks import MAX_BODY
from s2s_mesh.jwks_fetch import Fetched, FetchFailed, fetch
from s2s_mesh.trust import TrustConfig
from s2s_mesh.trust_issuers import Accepted

from .hostile import rows
from .identity_provider import DISCOVERY, KEYS, IdentityProvider, idp_key
from .jwks_servers import Clock, JWKSServer, Wallets, answer, drips
from .tokens import ABSENT, EDGE, WALLETS, key

LOGIN = "https://login.example.com/"
HOME = "https://login.example.com/keys"


def entry(issuer: str = LOGIN, *, origins: str = '["https://keys.example.com"]', more: str = "") -> Accepted:
    """An identity provider's entry with discovery."""
    text = f"""version = 1
[defaults]
allow_loopback_http = {"true" if issuer.startswith("http:") else "false"}
[user_issuers."{issuer}"]
audiences = ["{EDGE}"]
discovery = true
jwks_origins = {origins}
{more}"""
    return TrustConfig.parse(text).user_issuers[issuer]


def document(**changes: Any) -> bytes:
    members = {"issuer": LOGIN, "jwks_uri": HOME, "scopes_supported": ["openid"], **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ABSENT}).encode()


DOCUMENTS: list[tuple[str, bytes, str | None]] = [
    ("a good one", document(), None),
    ("another path", document(jwks_uri="https://login.example.com/a/b?v=1"), None),
    ("an origin that is listed", document(jwks_uri="https://keys.example.com/certs"), None),
    ("issuer without its slash", document(issuer=LOGIN[:-1]), "issuer is not"),
    ("issuer in capitals", document(issuer="https://Login.example.com/"), "issuer is not"),
    ("issuer missing", document(issuer=ABSENT), "issuer is not"),
    ("issuer a list", document(issuer=[LOGIN]), "issuer is not"),
    ("another's document", document(issuer="https://accounts.example.org"), "issuer is not"),
    ("no jwks_uri", document(jwks_uri=ABSENT), "missing"),
    ("jwks_uri a list", document(jwks_uri=[HOME]), "missing"),
    ("another origin (row 62)", document(jwks_uri="https://evil.example.org/keys"), "neither"),
    ("a longer host", document(jwks_uri="https://login.example.com.evil.org/keys"), "neither"),
    ("another port", document(jwks_uri="https://login.example.com:8443/keys"), "neither"),
    ("user info", document(jwks_uri="https://login.example.com@evil.org/keys"), "jwks_uri: expected"),
    ("a backslash", document(jwks_uri="https://evil.org\\@login.example.com/keys"), "jwks_uri: expected"),
    ("http (row 62)", document(jwks_uri="http://login.example.com/keys"), "neither"),
    ("metadata", document(jwks_uri="http://169.254.169.254/keys"), "another host"),
    ("loopback", document(jwks_uri="http://127.0.0.1:8080/keys"), "loopback"),
    ("a file", document(jwks_uri="file:///etc/keys.json"), "https"),
    ("a fragment", document(jwks_uri=f"{HOME}#x"), "fragment"),
    ("jwks_uri twice", document()[:-1] + b', "jwks_uri": "https://keys.example.com/x"}', "twice"),
    ("not JSON", b"<html>", "not JSON"),
    ("a list", b"[]", "not a JSON object"),
]


@pytest.mark.parametrize(("body", "words"), rows(DOCUMENTS))
def test_what_a_document_may_say(body: bytes, words: str | None) -> None:
    """The issuer's own words, byte by byte, and keys over TLS at its own origin or one that is listed."""
    if words is None:
        assert jwks_uri(body, entry()) == json.loads(body)["jwks_uri"]
        return
    with pytest.raises(JWKSInvalid, match=words):
        jwks_uri(body, entry())


def test_on_one_machine_a_listed_origin_still_needs_tls() -> None:
    """What loopback is forgiven holds for the issuer's own origin alone."""
    issuer = "http://127.0.0.1:8180/"
    known = entry(issuer, origins='["http://127.0.0.1:9090"]')
    own = document(issuer=issuer, jwks_uri=f"{issuer}keys")
    assert jwks_uri(own, known) == f"{issuer}keys"
    with pytest.raises(JWKSInvalid, match="without TLS"):
        jwks_uri(document(issuer=issuer, jwks_uri="http://127.0.0.1:9090/keys"), known)


# -- over a real socket -----------------------------------------------------------------------------------


def get(provider: IdentityProvider, *, etag: str | None = None, no_cache: bool = False) -> Fetched:
    return fetch(entry(provider.issuer), etag=etag, no_cache=no_cache)


def test_the_document_is_asked_first_then_the_keys() -> None:
    """Two requests, both past caches where a key is missing; the tag of a set is not sent to another URL."""
    with IdentityProvider() as provider:
        fetched = get(provider, etag='"old"', no_cache=True)
        assert fetched.jwks is not None
        assert set(fetched.jwks.keys) == {idp_key().kid}
        assert fetched.max_age == 300
        assert [head.path for head in provider.heads] == [DISCOVERY, KEYS]
        assert [head.fields["cache-control"] for head in provider.heads] == ["no-cache", "no-cache"]
        assert provider.heads[0].fields["accept"] == "application/json"
        assert all("if-none-match" not in head.fields for head in provider.heads)


def test_keys_move_with_the_document() -> None:
    """The document is read with the keys each time, so that a provider may move them."""
    with IdentityProvider() as provider:
        get(provider)
        provider.said["/new-keys"] = provider.said.pop(KEYS)
        provider.describe(jwks_uri=provider.url("/new-keys"))
        moved = get(provider).jwks
        assert moved is not None
        assert set(moved.keys) == {idp_key().kid}


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(b"", "Location: /other", status="302 Found"), "answered 302"),
        (answer(b"", status="404 Not Found"), "answered 404"),
        (answer(b"", status="304 Not Modified"), "answered 304"),
        (answer(b"{}", kind="text/html"), "content-type"),
        (answer(b"{" + b" " * MAX_BODY + b"}", kind="application/json"), "more than 65536"),
        (answer(b"x", "Content-Encoding: gzip", kind="application/json"), "content-encoding"),
    ],
)
def test_hostile_answers(said: bytes, words: str) -> None:
    """The document is fetched within the limits of a key set; no key is asked for after a bad one."""
    with IdentityProvider() as provider:
        provider.said[DISCOVERY] = said
        with pytest.raises((FetchFailed, JWKSInvalid), match=words):
            get(provider)
        assert [head.path for head in provider.heads] == [DISCOVERY]


@pytest.mark.hostile
def test_keys_that_redirect() -> None:
    """The key set that the document names is fetched as strictly as any."""
    with IdentityProvider() as provider:
        provider.said[KEYS] = answer(b"", f"Location: {provider.url('/other')}", status="302 Found")
        with pytest.raises(FetchFailed, match="answered 302"):
            get(provider)
        assert [head.path for head in provider.heads] == [DISCOVERY, KEYS]


@pytest.mark.hostile
def test_a_document_leads_to_no_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator wrote may lead to the private network, what a document says may not (R5)."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
        return list(real("10.1.2.3" if host == "keys.example.com" else host, *args, **options))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with IdentityProvider() as provider:
        provider.describe(jwks_uri="https://keys.example.com/keys")
        with pytest.raises(FetchFailed, match=r"resolves to 10\.1\.2\.3, a private address"):
            get(provider)


@pytest.mark.hostile
def test_both_requests_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is slow twice gets no more time than one that is slow once."""
    monkeypatch.setattr("s2s_mesh.jwks_fetch.TOTAL_SECONDS", 0.5)
    with IdentityProvider() as provider:
        slowly = provider.said[DISCOVERY]
        provider._talk = drips(b"", slowly, every=0.06, size=len(slowly) // 6)
        with pytest.raises(FetchFailed, match=r"too long|timed out"):
            get(provider)


def test_a_service_may_be_discovered_too() -> None:
    """`discovery = true` in [issuers] works the same way: a caller that is its own issuer says where its keys
    are.
    """
    clock = Clock()
    with JWKSServer(clock) as server:
        issuer = server.url("")
        keys = server.endpoint("the/keys", key())
        described = server.endpoint(DISCOVERY[1:])
        body = json.dumps({"issuer": issuer, "jwks_uri": keys.url}).encode()
        described.instead = answer(body, kind="application/json")
        with Wallets(clock, {issuer: keys.url}) as wallets:
            text = (
                f"version = 1\n[defaults]\nallow_loopback_http = true\n"
                f'[issuers."{issuer}"]\ndiscovery = true\n'
                f'[[allow]]\nissuer = "{issuer}"\naudience = "{WALLETS}"\n'
            )
            trust = TrustConfig.parse(text)
            wallets.client.use(trust)
            wallets.verifier.trust = trust
            assert wallets.verify(wallets.token(issuer)).issuer == issuer
        assert len(described.asked) == len(keys.asked) == 1
