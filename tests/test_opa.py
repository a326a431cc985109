"""Open Policy Agent over HTTP: whatever it answers, only a plain `true` lets a call through."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import ConfigError, PolicyUnavailable
from s2s_mesh.errors import Reason
from s2s_mesh.integrations.opa import OPA
from s2s_mesh.policy import input_document

from .hostile import rows
from .jwks_servers import until
from .programs import http_server
from .servers import free_port
from .test_policy import CALLER, FACTS
from .test_policy_at_the_door import STATUS, behind, verdict
from .tokens import good

PATH = "/v1/data/wallets/allow"
TOKEN = good()
TIMEOUT = 30.0  # seconds
SHORT = 3.0  # seconds, for a server that would never answer, or in a minute


class Scripted:
    """Answers as told, and keeps what it was sent.

    Attributes:
        status, headers, body: of the answer.
        silent: whether it is kept until another one is set.
        drips: whether it comes byte by byte, four a second.
        together: no request is answered before so many have arrived.
    """

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.connections: set[Any] = set()
        self.requests: list[tuple[dict[str, Any], dict[str, str], bytes]] = []
        self.answer(b'{"result":true}')

    def answer(
        self,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        silent: bool = False,
        drips: bool = False,
        together: int = 1,
    ) -> None:
        self.status, self.headers, self.body = status, headers or {}, body
        self.silent, self.drips, self.together = silent, drips, together
        self._all_here = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope, fields, body))
        self.connections.add(scope["client"])
        if len(self.requests) >= self.together:
            self._all_here.set()
        turn = self._all_here
        await turn.wait()
        if self.silent:
            await until(lambda: turn is not self._all_here)
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for place in range(len(self.body) if self.drips else 0):
            await send(
                {"type": "http.response.body", "body": self.body[place : place + 1], "more_body": True}
            )
            if turn is not self._all_here:
                break
            await asyncio.sleep(0.25)
        await send({"type": "http.response.body", "body": b"" if self.drips else self.body})


@pytest.fixture(scope="module")
def started() -> Iterator[Scripted]:
    server = Scripted()
    with http_server(server, int(server.url.rpartition(":")[2])):
        yield server
        server.answer(b"")  # which ends those that are kept


@pytest.fixture
def server(started: Scripted) -> Scripted:
    started.answer(b'{"result":true}')
    started.requests.clear()
    started.connections.clear()
    return started


def opa(server: Scripted, **options: Any) -> OPA:
    return OPA(server.url + PATH, **{"timeout": TIMEOUT, "idle_connections": 0, **options})


R = Reason
ANSWERS: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("true", {"body": b'{"result":true}'}, None),
    ("true among other members", {"body": b'{"decision_id":"x","result":true,"metrics":{"a":1}}'}, None),
    ("false", {"body": b'{"result":false}'}, R.POLICY_DENIED),
    ("undefined", {"body": b"{}"}, R.POLICY_DENIED),
    ("another member", {"body": b'{"Result":true}'}, R.POLICY_DENIED),
    ("an empty object", {"body": b'{"result":{}}'}, R.POLICY_DENIED),
    ("an object that allows", {"body": b'{"result":{"allow":true}}'}, R.POLICY_DENIED),
    ("a list", {"body": b'{"result":[true]}'}, R.POLICY_DENIED),
    ("the text true", {"body": b'{"result":"true"}'}, R.POLICY_DENIED),
    ("1", {"body": b'{"result":1}'}, R.POLICY_DENIED),
    ("null", {"body": b'{"result":null}'}, R.POLICY_DENIED),
    ("true and false", {"body": b'{"result":true,"result":false}'}, R.POLICY_DENIED),
    ("false and true", {"body": b'{"result":false,"result":true}'}, R.POLICY_DENIED),
    ("only true", {"body": b"true"}, R.POLICY_DENIED),
    ("True", {"body": b'{"result":True}'}, R.POLICY_DENIED),
    ("nothing", {"body": b""}, R.POLICY_DENIED),
    ("half of it", {"body": b'{"result":tr'}, R.POLICY_DENIED),
    ("two answers", {"body": b'{"result":true}{"result":true}'}, R.POLICY_DENIED),
    ("HTML", {"body": b"<html>true</html>"}, R.POLICY_DENIED),
    ("UTF-16", {"body": '{"result":true}'.encode("utf-16")}, R.POLICY_DENIED),
    ("too long", {"body": b'{"result":true' + b" " * 65536 + b"}"}, R.POLICY_DENIED),
    (
        "compressed",
        {"body": gzip.compress(b'{"result":true}'), "headers": {"content-encoding": "gzip"}},
        R.POLICY_DENIED,
    ),
    *[
        (f"true with status {status}", {"body": b'{"result":true}', "status": status}, R.POLICY_DENIED)
        for status in (201, 206, 400, 401, 403, 404)
    ],
    (
        "a redirect to a server that allows",
        {"body": b"", "status": 307, "headers": {"location": PATH + "/elsewhere"}},
        R.POLICY_DENIED,
    ),
    *[
        (f"true with status {status}", {"body": b'{"result":true}', "status": status}, R.POLICY_UNAVAILABLE)
        for status in (408, 429, 500, 502, 503, 504)
    ],
    ("no answer", {"body": b'{"result":true}', "silent": True}, R.POLICY_UNAVAILABLE),
    ("true drop by drop", {"body": b'{"result":true}' + b" " * 200, "drips": True}, R.POLICY_UNAVAILABLE),
]


@pytest.mark.parametrize(("answer", "reason"), rows(ANSWERS))
def test_what_the_server_answers_is_what_the_caller_gets(
    tmp_path: Path, server: Scripted, answer: dict[str, Any], reason: Reason | None
) -> None:
    """Standards (e) row 73, through the door; asked once for each call, and never elsewhere."""
    server.answer(**answer)
    late = "silent" in answer or "drips" in answer
    with behind(tmp_path, opa(server, timeout=SHORT if late else TIMEOUT)) as receiver:
        began = time.monotonic()
        found = receiver.call(TOKEN)
        assert time.monotonic() - began < 10 * SHORT or not late
    assert verdict(found) == (STATUS[reason], None if reason is None else reason.value)
    assert ("retry-after" in found.headers) is (reason is R.POLICY_UNAVAILABLE)
    assert "www-authenticate" not in found.headers
    assert [scope["path"] for scope, _, _ in server.requests] == [PATH]


def test_a_server_that_is_away_lets_nobody_in(tmp_path: Path) -> None:
    """503 until it is there; then the same policy goes on."""
    server = Scripted()
    with behind(tmp_path, opa(server)) as receiver:
        assert verdict(receiver.call(TOKEN)) == (503, Reason.POLICY_UNAVAILABLE.value)
        with http_server(server, int(server.url.rpartition(":")[2])):
            assert receiver.call(TOKEN).status == 200
        assert verdict(receiver.call(TOKEN)) == (503, Reason.POLICY_UNAVAILABLE.value)


def test_the_server_is_asked_with_the_input_document_and_nothing_else(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token, no field of the caller's, and no proxy of the environment on the way."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    decision = asyncio.run(opa(server, headers={"authorization": "Bearer of-opa"}).decide(FACTS, CALLER))
    assert (decision.allowed, decision.reason) == (True, "the rule is true")
    ((scope, fields, body),) = server.requests
    assert (scope["method"], scope["query_string"]) == ("POST", b"")
    assert json.loads(body) == {"input": input_document(FACTS, CALLER)}
    assert fields["content-type"] == fields["accept"] == "application/json"
    assert (fields["accept-encoding"], fields["authorization"]) == ("identity", "Bearer of-opa")


def test_connections_are_kept_in_each_event_loop(server: Scripted) -> None:
    """One for calls in a row; another loop opens its own, and closing is no end."""
    policy = opa(server, idle_connections=2)

    async def ask(times: int) -> None:
        for _ in range(times):
            assert await policy.decide(FACTS, CALLER)
        await policy.aclose()
        await policy.aclose()

    asyncio.run(ask(5))
    assert len(server.connections) == 1
    asyncio.run(ask(5))
    assert len(server.connections) == 2


def test_many_calls_at_once_do_not_wait_for_each_other(server: Scripted) -> None:
    """However few connections are kept open: none is answered before all have been asked."""
    server.answer(b'{"result":true}', together=20)

    async def ask() -> list[bool]:
        policy = opa(server)
        return [
            bool(said) for said in await asyncio.gather(*(policy.decide(FACTS, CALLER) for _ in range(20)))
        ]

    assert asyncio.run(ask()) == [True] * 20


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"body": b"", "status": 404}, "answered 404, expected 200: is it the URL of a rule?"),
        ({"body": b'{"result":{}}'}, "the rule is dict, expected true or false"),
        ({"body": b"<html>"}, "its answer cannot be used: not JSON"),
        ({"body": b"x" * 70000}, "answered more than 65536 bytes"),
    ],
)
def test_what_an_operator_has_to_mend_is_logged(
    server: Scripted, answer: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the URL, what was found, and that calls are denied."""
    server.answer(**answer)
    with caplog.at_level(logging.ERROR, "s2s_mesh.policy"):
        decision = asyncio.run(opa(server).decide(FACTS, CALLER))
    assert not decision
    assert line in decision.reason
    assert [record.getMessage() for record in caplog.records] == [
        f"{server.url}{PATH}: {line}; every call is denied meanwhile"
    ]


def test_why_nobody_can_tell_is_in_the_log(server: Scripted) -> None:
    """The time that was given, or what the connection ended with."""
    server.answer(b"{}", silent=True)
    with pytest.raises(PolicyUnavailable, match=r"/allow: no answer within 0.1 s"):
        asyncio.run(opa(server, timeout=0.1).decide(FACTS, CALLER))
    with pytest.raises(PolicyUnavailable, match=r"127\.0\.0\.1:9/v1/data/x: .*connect"):
        asyncio.run(OPA("http://127.0.0.1:9/v1/data/x").decide(FACTS, CALLER))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is no http or https URL"),
        ("127.0.0.1:8181/v1/data/x", "is no http or https URL"),
        ("unix:///run/opa.sock", "is no http or https URL"),
        ("http://127.0.0.1:x/v1/data/x", "is no http or https URL"),
        ("https:///v1/data/x", "is no http or https URL"),
        (None, "is no http or https URL"),
        ("http://me:secret@127.0.0.1:8181/v1/data/x", "holds a password or a name"),
        ("http://127.0.0.1:8181", "is not the URL of a rule"),
        ("http://127.0.0.1:8181/v1/data/", "is not the URL of a rule"),
        ("http://127.0.0.1:8181/v1/data/x/", "is not the URL of a rule"),
        ("http://127.0.0.1:8181/v0/data/x", "is not the URL of a rule"),
        ("http://127.0.0.1:8181/v1/data/x?metrics", "is not the URL of a rule"),
        ("http://127.0.0.1:8181/v1/data/x#y", "is not the URL of a rule"),
        ("http://opa.internal:8181/v1/data/x", "plain http to another machine"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: Any, problem: str) -> None:
    """At the start, with what is expected, and without a password."""
    with pytest.raises(ConfigError, match=problem) as refused:
        OPA(url)
    assert "secret" not in str(refused.value)


def test_other_arguments() -> None:
    """What is allowed beside the usual, and what is not."""
    assert repr(OPA("https://opa.example.com/v1/data/x")) == "OPA('https://opa.example.com/v1/data/x')"
    OPA("http://opa.internal:8181/v1/data/x", allow_plain_http=True)
    for timeout in (0, -1, float("inf"), float("nan"), True, "1"):
        with pytest.raises(ConfigError, match=r"timeout is .*; expected seconds"):
            OPA("http://[::1]:8181/v1/data/x", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"ca_file /nowhere\.pem cannot be used"):
        OPA("https://opa.example.com/v1/data/x", ca_file="/nowhere.pem")
