"""What one may ask of an authorization server, and how it is written into a form."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from s2s_mesh import ConfigError
from s2s_mesh.oauth_request import ServerSource, TokenRequest, token_request

from .hostile import rows
from .tokens import EDGE

LOGIN = "https://login.example.com"


def asked(issuer: Any = LOGIN, **changes: Any) -> TokenRequest:
    arguments: dict[str, Any] = {
        "client_id": EDGE,
        "scopes": None,
        "resource": None,
        "audience": None,
        "endpoint_origins": (),
        "ca_file": None,
        "legacy_audience": None,
        "allow_loopback_http": False,
        **changes,
    }
    return token_request(issuer, **arguments)


def test_the_form_says_what_was_asked_for() -> None:
    """RFC 6749 section 4.4.2, RFC 7523 section 2.2, RFC 8707 section 2."""
    request = asked(
        scopes=["e", "b:write", "d", "a:read", "c"],
        resource=["https://one.example.com", "urn:two"],
        audience="three",
    )
    assert parse_qsl(request.form("x.y.z").decode()) == [
        ("grant_type", "client_credentials"),
        ("scope", "a:read b:write c d e"),
        ("resource", "https://one.example.com"),
        ("resource", "urn:two"),
        ("audience", "three"),
        ("client_id", EDGE),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "x.y.z"),
    ]


def test_what_is_not_asked_for_is_not_in_the_form() -> None:
    """The server has its own idea of scopes and resources then."""
    form = parse_qsl(asked().form("x.y.z").decode())
    assert {name for name, _ in form}.isdisjoint({"scope", "resource", "audience"})


def test_equal_requests_are_one() -> None:
    """They share a token; whatever differs makes another."""
    assert asked(scopes=["a", "b"]) == asked(scopes=("b", "a"))
    assert hash(asked(scopes=["a", "b"])) == hash(asked(scopes={"b", "a"}))
    assert asked(resource="urn:one") == asked(resource=["urn:one"])
    different = [
        asked(),
        asked(scopes=["a"]),
        asked(resource="urn:one"),
        asked(audience="one"),
        asked(client_id="one"),
        asked(legacy_audience="token_endpoint"),
        asked(endpoint_origins=["https://tokens.example.com"]),
        asked("https://other.example.com"),
    ]
    assert len(set(different)) == len(different)


def test_the_server_is_asked_as_it_was_described() -> None:
    """Where it may be, and whom its TLS is to be trusted by."""
    where = {"endpoint_origins": ["http://127.0.0.1:9"], "ca_file": "ca.pem", "allow_loopback_http": True}
    assert asked("http://127.0.0.1:8080", **where).source == ServerSource(
        issuer="http://127.0.0.1:8080",
        endpoint_origins=frozenset({"http://127.0.0.1:9"}),
        ca_file="ca.pem",
        allow_loopback_http=True,
    )


TABLE: list[tuple[str, dict[str, Any], str | None]] = [
    ("good", {}, None),
    ("a slash at the end", {"issuer": f"{LOGIN}/"}, None),
    ("an issuer with a path", {"issuer": f"{LOGIN}/tenant/v2.0"}, None),
    ("no issuer", {"issuer": None}, "issuer is None"),
    ("plain http", {"issuer": "http://login.example.com"}, "the scheme must be https"),
    ("loopback", {"issuer": "http://127.0.0.1:8080"}, "loopback needs allow_loopback_http"),
    ("a query", {"issuer": f"{LOGIN}?x=1"}, "a query is not allowed"),
    ("a fragment", {"issuer": f"{LOGIN}#x"}, "a fragment"),
    ("user info", {"issuer": "https://a@login.example.com"}, "user info is not allowed"),
    ("link-local", {"issuer": "https://169.254.169.254"}, "link-local"),
    ("origins as one string", {"endpoint_origins": LOGIN}, "must be a list of origins"),
    ("an origin with a path", {"endpoint_origins": [f"{LOGIN}/token"]}, "endpoint_origins: .*without a path"),
    ("an origin on this machine", {"endpoint_origins": ["http://127.0.0.1:8080"]}, "allow_loopback_http"),
    ("an origin without TLS", {"endpoint_origins": ["http://login.example.com"]}, "endpoint_origins"),
    ("an origin that is none", {"endpoint_origins": [None]}, "endpoint_origins: None"),
    ("no client_id", {"client_id": None}, "client_id is None"),
    ("a long client_id", {"client_id": "a" * 601}, "client_id is"),
    ("a client_id that is not ASCII", {"client_id": "é"}, "client_id is"),
    ("an empty client_id", {"client_id": ""}, "client_id is ''"),
    ("a client_id with a line break", {"client_id": "a\nb"}, "client_id is"),
    ("scopes as one string", {"scopes": "a b"}, "scopes must be a list"),
    ("a scope with a space", {"scopes": ["a b"]}, "is not a scope"),
    ("a relative resource", {"resource": "/cards"}, "not an absolute URI"),
    ("a resource with a fragment", {"resource": "https://x.example.com/#a"}, "not an absolute URI"),
    ("an audience with a line break", {"audience": "a\r\n"}, "audience is"),
    ("a resource that is none", {"resource": [None]}, "resource None is not"),
    ("a resource with a space", {"resource": "urn:a b"}, "not an absolute URI"),
    ("a resource with a line break", {"resource": "urn:a\n"}, "not an absolute URI"),
    ("a long resource", {"resource": f"urn:{'a' * 601}"}, "not an absolute URI"),
    ("an audience that is none", {"audience": 7}, "audience is 7"),
    ("another legacy", {"legacy_audience": "issuer"}, "expected None or 'token_endpoint'"),
]


@pytest.mark.parametrize(("changes", "says"), rows(TABLE))
def test_what_may_be_asked(changes: dict[str, Any], says: str | None) -> None:
    """Each row changes one argument, and names it."""
    if says is None:
        asked(**changes)
    else:
        with pytest.raises(ConfigError, match=says):
            asked(**changes)
