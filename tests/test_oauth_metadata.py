"""What an authorization server may say of itself, and what is believed of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s2s_mesh import ConfigError, OAuthError
from s2s_mesh.oauth_metadata import MAX_BODY, metadata_urls, parse
from s2s_mesh.oauth_request import ServerSource

from .hostile import rows
from .tokens import ABSENT

LOGIN = "https://login.example.com"
SOURCE = ServerSource(issuer=LOGIN, endpoint_origins=frozenset({"https://tokens.example.com"}))
GOOD = {
    "issuer": LOGIN,
    "token_endpoint": f"{LOGIN}/oauth/token",
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
    "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
}


def document(**changes: Any) -> bytes:
    members = {**GOOD, **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ABSENT}).encode()


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (LOGIN, ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")),
        (f"{LOGIN}/", ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")),
        (
            f"{LOGIN}/tenant/v2.0",
            (
                "/.well-known/oauth-authorization-server/tenant/v2.0",
                "/tenant/v2.0/.well-known/openid-configuration",
            ),
        ),
    ],
)
def test_where_it_is_looked_for(issuer: str, urls: tuple[str, str]) -> None:
    """RFC 8414 section 3.1 first, then OpenID Connect Discovery section 4."""
    assert metadata_urls(issuer) == tuple(LOGIN + url for url in urls)


METHODS = "token_endpoint_auth_methods_supported"
ALGORITHMS = "token_endpoint_auth_signing_alg_values_supported"
TABLE: list[tuple[str, bytes, type[Exception] | None, str]] = [
    ("good", document(), None, ""),
    ("nothing about methods", document(**{METHODS: ABSENT}), None, ""),
    ("nothing about algorithms", document(**{ALGORITHMS: ABSENT}), None, ""),
    ("another origin that is named", document(token_endpoint="https://tokens.example.com/t"), None, ""),
    ("the longest", document().ljust(MAX_BODY), None, ""),
    ("another issuer", document(issuer="https://evil.example.com"), OAuthError, "byte by byte"),
    ("a slash more", document(issuer=f"{LOGIN}/"), OAuthError, "byte by byte"),
    ("upper case", document(issuer="https://LOGIN.example.com"), OAuthError, "byte by byte"),
    ("no issuer", document(issuer=ABSENT), OAuthError, "byte by byte"),
    ("a fragment", document(token_endpoint=f"{LOGIN}/t#x"), OAuthError, "a fragment"),
    ("a line break", document(token_endpoint=f"{LOGIN}/t\r\nx: y"), OAuthError, "printable ASCII"),
    ("a long one", document(token_endpoint=f"{LOGIN}/{'x' * 600}"), OAuthError, "at most"),
    ("a relative one", document(token_endpoint="/t"), OAuthError, "the scheme must be https"),
    ("another scheme", document(token_endpoint="file:///t"), OAuthError, "the scheme must be https"),
    ("no token endpoint", document(token_endpoint=ABSENT), OAuthError, "token_endpoint is missing"),
    ("a number", document(token_endpoint=1), OAuthError, "token_endpoint is missing or not a string"),
    ("no TLS", document(token_endpoint="http://login.example.com/t"), OAuthError, "without TLS"),
    ("another origin", document(token_endpoint="https://evil.example.com/t"), OAuthError, "endpoint_origins"),
    ("another port", document(token_endpoint=f"{LOGIN}:8443/t"), OAuthError, "endpoint_origins"),
    ("this machine", document(token_endpoint="http://127.0.0.1/t"), OAuthError, "loopback"),
    ("user info", document(token_endpoint="https://login.example.com@evil.example.com/"), OAuthError, "user"),
    ("a backslash", document(token_endpoint="https://login.example.com\\@x/"), OAuthError, "backslashes"),
    ("metadata of a cloud", document(token_endpoint="https://169.254.169.254/t"), OAuthError, "link-local"),
    (
        "secrets only",
        document(**{METHODS: ["client_secret_basic"]}),
        ConfigError,
        "does not take private_key",
    ),
    ("methods as text", document(**{METHODS: "private_key_jwt"}), OAuthError, "not a list of strings"),
    ("algorithms as numbers", document(**{ALGORITHMS: [1]}), OAuthError, "not a list of strings"),
    ("a member twice", document()[:-1] + b', "issuer": "x"}', OAuthError, "a member stands twice"),
    ("HTML", b"<html>", OAuthError, "not JSON"),
    ("a list", b"[]", OAuthError, "not a JSON object"),
    ("UTF-16", document().decode().encode("utf-16"), OAuthError, "not UTF-8"),
    ("huge", document() + b" " * MAX_BODY, OAuthError, "more than 65536 bytes"),
]


@pytest.mark.parametrize(("body", "kind", "says"), rows(TABLE, verdict=2))
def test_what_is_believed(body: bytes, kind: type[Exception] | None, says: str) -> None:
    """Each row changes one thing of a document that is believed."""
    if kind is None:
        assert parse(body, SOURCE).token_endpoint in {f"{LOGIN}/oauth/token", "https://tokens.example.com/t"}
    else:
        with pytest.raises(kind, match=says):
            parse(body, SOURCE)


def test_on_one_machine_a_listed_origin_still_needs_tls() -> None:
    """What loopback is forgiven holds for the issuer's own origin alone."""
    issuer, other = "http://127.0.0.1:8180", "http://127.0.0.1:9090"
    source = ServerSource(issuer=issuer, endpoint_origins=frozenset({other}), allow_loopback_http=True)
    own = document(issuer=issuer, token_endpoint=f"{issuer}/t")
    assert parse(own, source).token_endpoint == f"{issuer}/t"
    with pytest.raises(OAuthError, match="token_endpoint is without TLS"):
        parse(document(issuer=issuer, token_endpoint=f"{other}/t"), source)


def test_an_algorithm_that_is_not_taken_is_named_with_those_that_are() -> None:
    """Nothing is sent to it."""
    server = parse(document(), SOURCE)
    server.check_algorithm("ES256")
    with pytest.raises(ConfigError, match=r"signed with ES256, RS256, and the key .* is for Ed25519"):
        server.check_algorithm("Ed25519")
    parse(document(**{ALGORITHMS: ABSENT}), SOURCE).check_algorithm("Ed25519")


def test_names_that_are_none_are_not_repeated() -> None:
    """A document cannot write what it likes into a log."""
    with pytest.raises(ConfigError, match=r"metadata names nothing$"):
        parse(document(**{METHODS: ["a b\n", "x" * 41, "имя"]}), SOURCE)
    with pytest.raises(ConfigError, match=r"metadata names a, b, c, d, e, f, g, h, i, j$"):
        parse(document(**{METHODS: list("ponmlkjihgfedcba")}), SOURCE)
