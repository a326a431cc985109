"""What a token endpoint may answer, and what is told of an answer that is of no use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s2s_mesh import OAuthError
from s2s_mesh.oauth_answer import MAX_BODY, Granted, granted, refused
from s2s_mesh.oauth_request import ServerSource, TokenRequest

from .hostile import rows
from .tokens import ABSENT, EDGE

LOGIN = "https://login.example.com"
SECRET = "b1946ac92492d2347c6235b4d2611184"
REQUEST = TokenRequest(source=ServerSource(issuer=LOGIN), client_id=EDGE)


def body(**changes: Any) -> bytes:
    members = {"access_token": SECRET, "token_type": "Bearer", "expires_in": 300, **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ABSENT}).encode()


TABLE: list[tuple[str, bytes, str | None]] = [
    ("good", body(), None),
    ("lower case", body(token_type="bearer"), None),
    ("the longest life", body(expires_in=31 * 86400), None),
    ("the longest answer", body().ljust(MAX_BODY), None),
    ("members that mean nothing here", body(id_token="x", refresh_token=SECRET), None),
    ("no token", body(access_token=ABSENT), "access_token is missing"),
    ("an empty token", body(access_token=""), "access_token"),
    ("a token with a line break", body(access_token=f"{SECRET}\r\nx: y"), "access_token"),
    ("a token with a space", body(access_token=f"{SECRET} x"), "access_token"),
    ("a token with a quote", body(access_token=f'{SECRET}"'), "access_token"),
    ("a token with a colon", body(access_token=f"{SECRET}:x"), "access_token"),
    ("a token that is not ASCII", body(access_token=f"{SECRET}é"), "access_token"),
    ("a token that is an object", body(access_token={"secret": SECRET}), "access_token"),
    ("a huge token", body(access_token="x" * 16385), "access_token"),
    ("no type", body(token_type=ABSENT), "token_type is not Bearer"),
    ("mac", body(token_type="mac"), "token_type is not Bearer"),
    ("a type with a space", body(token_type=" Bearer"), "token_type is not Bearer"),
    ("DPoP", body(token_type="DPoP"), "token_type is not Bearer"),
    ("a list of types", body(token_type=["Bearer"]), "token_type is not Bearer"),
    ("a life as text", body(expires_in="300"), "expires_in"),
    ("a fraction", body(expires_in=300.5), "expires_in"),
    ("true", body(expires_in=True), "expires_in"),
    ("null", body(expires_in=None), "expires_in"),
    ("no life", body(expires_in=0), "expires_in"),
    ("a negative life", body(expires_in=-1), "expires_in"),
    ("a life of a month and a second", body(expires_in=31 * 86400 + 1), "expires_in"),
    ("a life of years", body(expires_in=10**9), "expires_in"),
    ("a life beyond all", body(expires_in=10**20), "more than 16 digits"),
    ("NaN", body(expires_in=float("nan")), "NaN"),
    ("scopes as a list", body(scope=["a"]), "scope is not a string"),
    ("a member twice", body()[:-1] + b', "access_token": "x"}', "a member stands twice"),
    ("HTML", b"<html>", "not JSON"),
    ("nothing", b"", "not JSON"),
    ("a list", b"[]", "not a JSON object"),
    ("deep", b'{"a":' + b"[" * 50 + b"]" * 50 + b"}", "nested deeper"),
    ("huge", body().ljust(MAX_BODY + 1), "more than 65536 bytes"),
]


@pytest.mark.parametrize(("text", "says"), rows(TABLE))
def test_what_is_taken_for_a_token(text: bytes, says: str | None) -> None:
    """Each row changes one thing; nothing of what came is repeated."""
    if says is None:
        assert granted(text, LOGIN).token == SECRET
        assert granted(text, LOGIN).life in (300, 31 * 86400)
    else:
        with pytest.raises(OAuthError, match=says) as error:
            granted(text, LOGIN)
        assert SECRET not in str(error.value) + repr(error.value)


def test_a_token_whose_life_is_not_said_is_kept_for_a_minute() -> None:
    """`expires_in` is recommended, not required (RFC 6749 section 5.1)."""
    assert granted(body(expires_in=ABSENT), LOGIN).life == 60


def test_scopes_are_known_where_the_server_says_them() -> None:
    """RFC 6749 section 5.1: they may be fewer than asked for."""
    assert granted(body(scope="b a"), LOGIN).scopes == frozenset({"a", "b"})
    assert granted(body(), LOGIN).scopes is None


def test_a_token_is_never_shown() -> None:
    """Not by repr, and not by a rich traceback."""
    assert SECRET not in repr(Granted(SECRET, 300))
    assert Granted(SECRET, 300).__rich_repr__() == []


def refusal(**members: Any) -> OAuthError:
    text = json.dumps({"error_description": f"no {SECRET}", "error_uri": SECRET, **members}).encode()
    return refused(text, REQUEST, algorithm="ES256", jwks_uri=f"{EDGE}/.well-known/jwks.json")


def test_a_refusal_shows_its_code_and_what_to_do() -> None:
    """Of what the server says in its own words, nothing."""
    error = refusal(error="invalid_client")
    assert error.code == "invalid_client"
    for part in (EDGE, "private_key_jwt", "ES256", f"{EDGE}/.well-known/jwks.json"):
        assert part in str(error)
    assert SECRET not in str(error)
    assert "grant type client_credentials" in str(refusal(error="unauthorized_client"))
    assert f"its log says of the client {EDGE}" in str(refusal(error="server_error"))


@pytest.mark.hostile
@pytest.mark.parametrize(
    "code",
    [SECRET, "Invalid", "a b", "", "x" * 41, "a_b_c_d_e_f_g", "a\n", 7, None, ["invalid_client"]],
)
def test_what_does_not_look_like_a_code_is_not_shown(code: Any) -> None:
    """A server may echo what it was sent."""
    error = refusal(error=code)
    assert error.code is None
    assert str(error).endswith("it refused the request without a code that can be shown")


def test_a_refusal_that_is_no_json() -> None:
    """It is one all the same."""
    assert refused(b"no", REQUEST, algorithm="ES256", jwks_uri="").code is None
