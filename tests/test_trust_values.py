"""Each value of a trust file by itself: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import pytest

from s2s_mesh import trust_values as values
from s2s_mesh.trust_values import Check, Unfit

LEEWAY = values.duration("0s", "2m")


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (values.service_id, "https://wallets.example.com"),
        (values.service_id, "https://wallets.example.com:8443/a/b"),
        (values.service_id, "https://10.1.2.3"),
        (values.service_id, "https://[2001:4860::1]"),
        (values.user_issuer, "https://login.example.com/"),
        (values.user_issuer, "https://login.example.com/Tenant/v2.0"),
        (values.user_audience, "https://edge.example.com/"),
        (values.user_audience, "api://default"),
        (values.user_audience, "0e1d4a5c-2f6b-4f3e-9c55-5d6f0c1b7a11"),
        (values.origin, "https://keys.example.com:8443"),
        (values.jwks_uri, "https://wallets.example.com/keys?version=1"),
        (values.jwks_uri, "http://wallets.internal:8080/.well-known/jwks.json"),
        (values.jwks_uri, "https://[fd12:3456::1]:8443/keys"),
        (values.file_name, "keys/settlement.jwks.json"),
        (values.file_name, "/etc/mesh/settlement.jwks.json"),
        (values.scope, "cards:write"),
        (values.scope, "https://example.com/cards.write"),
        (values.algorithm, "Ed25519"),
        (values.method, "OPTIONS"),
        (values.media_type, "at+jwt"),
        (values.media_type, "Application/AT+JWT"),
        (values.media_type, "JWT"),
        (values.route_path, "/wallets/{wallet_id}/card"),
        (values.foreign_issuer, "https://accounts.example.com/"),
        (values.foreign_issuer, "x" * 255),
        (values.foreign_issuer, "team/edge"),
        (values.subject, "x" * 600),
        (values.subject, "system:serviceaccount:payments:J\u00f6rg"),
        (values.claim, "x" * 600),
        (values.claim, "https://example.com/*"),
        (values.key_server, "https://asap-keys.example.com/"),
        (LEEWAY, "0s"),
        (LEEWAY, "120s"),
        (LEEWAY, "2m"),
    ],
)
def test_accepted(check: Check, text: str) -> None:
    """The ordinary forms are accepted without a flag."""
    check(text, False)


LOOPBACK = [
    "https://localhost",
    "https://localhost:8443",
    "https://api.localhost",
    "https://127.0.0.1",
    "https://127.1.2.3:8443",
    "https://[::1]",
]


@pytest.mark.parametrize(
    "url", [*LOOPBACK, "http://127.0.0.1:8101", "http://[::1]:8101", "http://localhost:8080"]
)
@pytest.mark.parametrize("check", [values.service_id, values.user_issuer, values.jwks_uri])
def test_loopback(check: Check, url: str) -> None:
    """This machine may be named only where [defaults] says so (standards R3, R5)."""
    check(url, True)
    with pytest.raises(Unfit, match="allow_loopback_http = true"):
        check(url, False)


HOSTILE_HOSTS = [
    ("https://2130706433", "disguised IP address"),
    ("https://0x7f000001", "disguised IP address"),
    ("https://0177.0.0.1", "disguised IP address"),
    ("https://127.1", "disguised IP address"),
    ("https://1.2.3.0x4", "disguised IP address"),
    ("https://169.254.169.254", "link-local"),
    ("https://[fe80::1]", "link-local"),
    ("https://0.0.0.0", "link-local, multicast or reserved"),
    ("https://224.0.0.1", "multicast"),
    ("https://255.255.255.255", "reserved"),
    ("https://[::ffff:a9fe:a9fe]", "host"),
    ("https://[::ffff:169.254.169.254]", "host"),
    ("https://[::]", "link-local, multicast or reserved"),
    ("https://user:secret@wallets.example.com", "user info is not allowed"),
    ("https://wallets.example.com\\@evil.example", "backslash"),
    ("https://wallets.example.com ", "without spaces"),
    ("https://wallets.example.com\x00", "printable ASCII"),
    ("https://wallets.example.com\n", "printable ASCII"),
    ("https://w\u0430llets.example.com", "printable ASCII"),
    ("https://wallets\uff0eexample.com", "printable ASCII"),
    ("https://wallets%2eexample.com", "is not a host name"),
    ("https://Wallets.example.com", "lower case"),
    ("https://wallets.example.com:443", "default port"),
    ("https://wallets.example.com:99999", "port"),
    ("https://wallets.example.com#x", "fragment"),
    ("https://*.example.com", "wildcard"),
    ("https://" + "a" * 600, "at most 512"),
    ("https://", "expected"),
    ("HTTPS://wallets.example.com", "scheme"),
    ("ftp://wallets.example.com", "scheme"),
    ("file:///etc/passwd", "expected"),
    ("gopher://wallets.example.com", "scheme"),
    ("unix:/run/mesh.sock", "scheme"),
    ("wallets.example.com", "scheme"),
    ("", "expected"),
]


@pytest.mark.parametrize(("url", "words"), HOSTILE_HOSTS)
@pytest.mark.parametrize("check", [values.service_id, values.user_issuer, values.jwks_uri])
def test_hostile_urls(check: Check, url: str, words: str) -> None:
    """Disguised hosts, other schemes and forms that parsers disagree on are refused."""
    with pytest.raises(Unfit, match=r"^expected ") as refusal:
        check(url, True)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a b", "without spaces"),
        ("/a\tb", "without spaces"),
        ("/caf\u00e9", "printable ASCII"),
        ("/a\\b", "backslash"),
        ("/a#b", "a fragment or a wildcard"),
        ("/*", "a fragment or a wildcard"),
        ("/".ljust(513 - len("https://keys.example.com"), "a"), "at most 512"),
    ],
)
@pytest.mark.parametrize("check", [values.user_issuer, values.jwks_uri])
def test_hostile_paths(check: Check, path: str, words: str) -> None:
    """A URL is clean behind its host, too, and at most 512 characters long."""
    check("https://keys.example.com/a-z_~!$&'()+,;=:@%20".ljust(512, "a"), False)
    with pytest.raises(Unfit, match=words):
        check("https://keys.example.com" + path, False)


def test_no_suggestion_without_reason() -> None:
    """What is not a bare number does not become a duration by adding a letter."""
    with pytest.raises(Unfit, match=r'"1h"$'):
        LEEWAY("30 s", False)


@pytest.mark.parametrize(
    ("check", "text", "words"),
    [
        (values.service_id, "https://wallets.example.com/", "no trailing slash: https://wallets.example.com"),
        (values.service_id, "http://wallets.example.com", "the scheme must be https"),
        (values.service_id, "https://wallets.example.com?x", "a query is not allowed"),
        (values.user_issuer, "http://login.example.com/", "the scheme must be https"),
        (values.user_issuer, "https://login.example.com/?x", "a query is not allowed"),
        (values.user_audience, "", "1 to 255 characters"),
        (values.user_audience, "x" * 256, "1 to 255 characters"),
        (values.user_audience, "*", "without spaces, quotes or asterisks"),
        (values.user_audience, "edge portal", "without spaces, quotes or asterisks"),
        (values.user_audience, "\u0435dge", "printable ASCII"),
        (values.origin, "https://keys.example.com/a", "expected an origin"),
        (values.origin, "https://keys.example.com/", "no trailing slash"),
        (values.file_name, "", "the name of a file"),
        (values.file_name, "a\0b", "the name of a file"),
        (values.file_name, "https://example.com/keys", "not a URL"),
        (values.file_name, "file:keys.json", "not a URL"),
        (values.scope, "", "one scope"),
        (values.scope, "*", "wildcards do not exist"),
        (values.scope, "cards:*", "wildcards do not exist"),
        (values.scope, "cards:read cards:write", 'did you mean "cards:read", "cards:write"?'),
        (values.scope, " cards:read", "RFC 6749"),
        (values.scope, "cards\u00e9", "RFC 6749"),
        (values.scope, 'cards"', "RFC 6749"),
        (values.scope, "cards\\", "RFC 6749"),
        (values.scope, "cards\n", "RFC 6749"),
        (values.algorithm, "none", "an unsigned token is never accepted"),
        (values.algorithm, "nOnE", "an unsigned token is never accepted"),
        (values.algorithm, "HS256", "shared secrets are never accepted"),
        (values.algorithm, "es256", 'did you mean "ES256"?'),
        (values.algorithm, "EdDSA", 'did you mean "Ed25519"?'),
        (values.algorithm, "ES256 ", 'did you mean "ES256"?'),
        (values.algorithm, "ML-DSA-65", "expected ES256, ES384, Ed25519, PS256 or RS256"),
        (values.method, "put", 'did you mean "PUT"?'),
        (values.method, "PUTT", 'did you mean "PUT"?'),
        (values.method, "HEAD", "HEAD counts as GET"),
        (values.method, "head", "HEAD counts as GET"),
        (values.method, "*", "expected DELETE, GET, OPTIONS, PATCH, POST or PUT"),
        (values.media_type, "", "a token type"),
        (values.media_type, "text/jwt", "a token type"),
        (values.media_type, "at+jwt; v=1", "a token type"),
        (values.media_type, "at+jwt\n", "a token type"),
        (values.media_type, "wit+jwt", "another kind of token"),
        (values.media_type, "application/DPoP+jwt", "another kind of token"),
        *(
            (check, text, "a printable text of 1 to 600 characters")
            for check in (values.subject, values.claim)
            for text in ("", "x" * 601, "a\nb", "a\0", "a\x7f", "a\u202eb", "a\u2028", "a\ud800")
        ),
        (values.subject, "spiffe://example.org/*", "wildcards do not exist, list every subject"),
        (values.foreign_issuer, "", "1 to 255 characters"),
        (values.foreign_issuer, "x" * 256, "1 to 255 characters"),
        (values.foreign_issuer, "account\u0455", "printable ASCII"),
        (values.foreign_issuer, "team edge", "without spaces"),
        (values.foreign_issuer, "HTTPS://accounts.example.com", "the scheme must be https"),
        (values.foreign_issuer, "http://accounts.example.com", "the scheme must be https"),
        (values.foreign_issuer, "Http:accounts.example.com", "the scheme must be https"),
        (values.foreign_issuer, "https://accounts.example.com/?x", "a query is not allowed"),
        (values.foreign_issuer, "https://accounts.example.com/*", "wildcard"),
        (values.key_server, "https://asap-keys.example.com", "a slash stands at its end"),
        (values.key_server, "https://asap-keys.example.com/?x/", "no query"),
        (values.key_server, "http://asap-keys.example.com/", "the scheme must be https"),
        (values.key_server, "https://127.0.0.1/", "allow_loopback_http = true"),
        (values.choice("jwt", "spiffe"), "spife", 'expected jwt or spiffe; did you mean "spiffe"?'),
        (values.route_path, "wallets", 'must begin with "/"'),
        (values.route_path, "/a is not a path template: x;", "semicolon"),
        (LEEWAY, "30", 'did you mean "30s"?'),
        (LEEWAY, "30 s", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "030s", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "-1s", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "1.5m", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "\u0663s", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "30s\n", 'a duration such as "30s", "15m" or "1h"'),
        (LEEWAY, "121s", 'from "0s" to "2m"'),
        (LEEWAY, "999999h", 'from "0s" to "2m"'),
    ],
)
def test_refused(check: Check, text: str, words: str) -> None:
    """Every refusal says what is expected, and what was probably meant."""
    with pytest.raises(Unfit) as refusal:
        check(text, False)
    assert words in str(refusal.value)


def test_conversions() -> None:
    """Durations become seconds, and media types their short lower-case form."""
    assert [values.seconds(text) for text in ("0s", "90s", "15m", "1h")] == [0.0, 90.0, 900.0, 3600.0]
    assert values.short_type("application/AT+JWT") == "at+jwt"
    assert values.short_type("JWT") == "jwt"


def test_kinds_of_urls() -> None:
    """Whether a URL is without TLS and whether it is loopback are two questions."""
    assert values.is_plain_http("http://wallets.internal:8080/keys")
    assert not values.is_loopback("http://wallets.internal:8080/keys")
    assert values.is_loopback("https://[::ffff:127.0.0.1]/keys")
    assert not values.is_plain_http("https://127.0.0.1/keys")
