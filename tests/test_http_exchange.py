"""One exchange over a real socket: what is sent, what is read, and what is left alone."""

from __future__ import annotations

import time
from pathlib import Path

import httpcore
import httpx
import pytest
import trustme

from s2s_mesh import http_exchange
from s2s_mesh.http_exchange import Answer, Judge, exchange, is_identity, media_type, tls_context
from s2s_mesh.network import CheckedBackend

from .jwks_servers import Peer, Talk, answer, drips, is_silent, says
from .token_endpoint import TokenEndpoint

BODY = b"0123456789"


def anything(_status: int, _fields: httpx.Headers) -> bool:
    return True


def ask(
    url: str, judge: Judge = anything, *, most: int = 10, form: bytes | None = None, seconds: float = 60
) -> Answer:
    backend = CheckedBackend(seconds, allow_loopback=True)
    return exchange(url, backend, tls_context(None), [("accept", "a/b")], judge, most=most, form=form)


def asked(talk: Talk, judge: Judge = anything, *, most: int = 10) -> Answer:
    with Peer(talk) as peer:
        return ask(peer.url(), judge, most=most)


def test_a_get_says_what_it_takes() -> None:
    """Nothing compressed, and nothing about who asks."""
    with Peer(says(answer(BODY, kind="a/b"))) as peer:
        said = ask(peer.url("/x?y=1"))
        (head,) = peer.heads
    assert head.line == "GET /x?y=1 HTTP/1.1"
    assert head.fields == {
        "host": f"127.0.0.1:{peer.port}",
        "accept": "a/b",
        "accept-encoding": "identity",
    }
    assert (said.status, media_type(said.fields), said.body) == (200, "a/b", BODY)


def test_a_form_is_posted() -> None:
    """With its length and its type."""
    with TokenEndpoint() as server:
        assert ask(server.url("/token"), most=1000, form=b"a=1&b=2").status == 200
        assert server.forms == [{"a": ["1"], "b": ["2"]}]
        assert server.heads[0].fields["content-type"] == "application/x-www-form-urlencoded"


def test_a_redirect_is_an_answer() -> None:
    """Which leads nowhere."""
    said = asked(says(answer(b"", "Location: http://127.0.0.1:9/", status="302 Found")))
    assert (said.status, said.fields["location"]) == (302, "http://127.0.0.1:9/")


def test_a_body_is_read_as_far_as_it_is_wanted() -> None:
    """One byte more tells that it is too long; none where nobody wants it."""
    assert asked(says(answer(BODY)), most=9).body == BODY
    assert asked(says(answer(BODY)), most=8).body == BODY[:9]
    assert asked(says(answer(BODY)), lambda *_: False).body == b""


def test_what_the_judge_raises_comes_out_before_the_body_is_read() -> None:
    """A server that would send for ever is not listened to."""

    def refuses(status: int, _fields: httpx.Headers) -> bool:
        raise ValueError(status)

    slow = drips(answer(b"", "Content-Length: 100"), b"x" * 100, every=1)
    with pytest.raises(ValueError, match="200"):
        asked(slow, refuses)


def test_one_deadline_holds_for_everything() -> None:
    """However the server spreads its bytes."""
    with Peer(drips(b"", answer(BODY), every=0.1)) as peer, pytest.raises(httpcore.TimeoutException):
        ask(peer.url(), seconds=0.5)


def test_the_deadline_holds_for_what_has_arrived_too() -> None:
    """A body in pieces of a byte takes longer to read than to send."""
    backend = CheckedBackend(60, allow_loopback=True)

    def runs_out(_status: int, _fields: httpx.Headers) -> bool:
        backend._deadline = 0.0
        return True

    with Peer(says(answer(BODY))) as peer, pytest.raises(httpcore.TimeoutException, match="too long in all"):
        exchange(peer.url(), backend, tls_context(None), [], runs_out, most=10)


@pytest.mark.own_times("step")
def test_a_step_takes_two_seconds_at_most() -> None:
    """However much time there is for all of them (R6)."""
    began = time.monotonic()
    with Peer(is_silent) as peer, pytest.raises(httpcore.ReadTimeout, match="timed out"):
        ask(peer.url(), seconds=19)
    assert time.monotonic() - began < 15


def test_the_environment_names_no_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ca_file` does (R3)."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    http_exchange._public_tls.cache_clear()
    assert len(tls_context(None).get_ca_certs()) > 1
    assert len(tls_context(str(file)).get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("fields", "kind", "identity"),
    [
        ({}, "", True),
        ({"content-type": "Application/JSON; charset=utf-8"}, "application/json", True),
        ({"content-type": "text/html ; charset=utf-8"}, "text/html", True),
        ({"content-encoding": "Identity"}, "", True),
        ({"content-encoding": "gzip"}, "", False),
    ],
)
def test_what_the_fields_say(fields: dict[str, str], kind: str, identity: bool) -> None:
    """Compared without case."""
    assert media_type(httpx.Headers(fields)) == kind
    assert is_identity(httpx.Headers(fields)) is identity
