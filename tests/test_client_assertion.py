"""Client assertions: what they say, and that each is another one."""

from __future__ import annotations

from s2s_mesh.client_assertion import LIFE, build

from .tokens import EDGE, NOW

LOGIN = "https://login.example.com"


def test_the_client_speaks_for_itself_to_one_server() -> None:
    """RFC 7523 section 3; one audience, as a string, and a minute at most."""
    claims = build(client_id=EDGE, audience=LOGIN, now=NOW + 0.9)
    jti = claims.pop("jti")
    assert claims == {"iss": EDGE, "sub": EDGE, "aud": LOGIN, "iat": NOW, "exp": NOW + 60}
    assert LIFE == 60
    assert len(jti) == 22


def test_no_two_have_one_id() -> None:
    """A retry is another request."""
    made = [build(client_id=EDGE, audience=LOGIN, now=NOW)["jti"] for _ in range(100)]
    assert len(set(made)) == 100
