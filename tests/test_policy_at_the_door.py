"""A policy at the door: asked for every call that the trust file allows, before a token is used up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import (
    AllOf,
    ConfigError,
    Decision,
    Forbidden,
    PolicyFacts,
    PolicyUnavailable,
    Principal,
    Service,
    TokenRejected,
)
from s2s_mesh.errors import Reason, Unavailable

from .hostile import rows
from .jwks_servers import until
from .receiver import Receiver, Verdict
from .test_policy import BUG, DOWN, NO, YES, Says, SaysLater
from .tokens import EDGE, NOW, WALLETS, good, key

TOKEN = good()
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/write"
methods = ["PUT"]
scopes = ["cards:write"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
"""


class Writes:
    """Whoever may call, may write; nobody may do anything else. Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[PolicyFacts, Principal]] = []

    def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        self.asked.append((facts, principal))
        return Decision(facts.path == ("write",), "only what is written counts")


@contextmanager
def behind(folder: Path, policy: Any, **options: Any) -> Iterator[Receiver]:
    """A receiver with this policy, at `NOW`."""
    receiver = Receiver(folder, edge_keys=[key()], policy=policy, **options)
    receiver.service.clock = lambda: float(NOW)
    try:
        yield receiver
    finally:
        receiver.close()


def verdict(answer: Verdict) -> tuple[int, str | None]:
    return answer.status, answer.reason


STATUS = {None: 200, Reason.POLICY_DENIED: 403, Reason.POLICY_UNAVAILABLE: 503}
SAID: list[tuple[str, Any, Reason | None]] = [
    ("allow", YES, None),
    ("deny", NO, Reason.POLICY_DENIED),
    ("deny without a reason", Decision(False), Reason.POLICY_DENIED),
    ("cannot tell", DOWN, Reason.POLICY_UNAVAILABLE),
    ("a bug", BUG, Reason.POLICY_DENIED),
    ("an error of ours", TokenRejected(Reason.EXPIRED), Reason.POLICY_DENIED),
    ("a time-out of its own", TimeoutError(), Reason.POLICY_DENIED),
    ("True", True, Reason.POLICY_DENIED),
    ("the text true", "true", Reason.POLICY_DENIED),
    ("1", 1, Reason.POLICY_DENIED),
    ("None", None, Reason.POLICY_DENIED),
    ("an empty object", {}, Reason.POLICY_DENIED),
    ("the class", Decision, Reason.POLICY_DENIED),
]


@pytest.mark.parametrize("kind", [Says, SaysLater], ids=["sync", "async"])
@pytest.mark.parametrize(("said", "reason"), rows(SAID))
def test_what_a_policy_says_is_what_the_caller_gets(
    tmp_path: Path, said: Any, reason: Reason | None, kind: type[Says]
) -> None:
    """No challenge, no 500, nothing about why; the same for a token that was verified before."""
    policy = kind(said)
    with behind(tmp_path, policy) as receiver:
        for asked in (1, 2):
            answer = receiver.call(TOKEN)
            assert verdict(answer) == (STATUS[reason], None if reason is None else reason.value)
            assert policy.asked == asked
            if reason is not None:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["cache-control"] == "no-store"
                assert set(answer.body) == {"title", "status", "instance"}
                assert "www-authenticate" not in answer.headers
            assert answer.headers.get("retry-after") == ("7" if said is DOWN else None)


@pytest.mark.parametrize("kind", [Says, SaysLater], ids=["sync", "async"])
def test_a_token_that_was_verified_before_is_not_verified_again(tmp_path: Path, kind: type[Says]) -> None:
    """The policy is asked once for each call, and the cryptography rests."""
    policy = kind(YES)
    with behind(tmp_path, policy) as receiver:
        assert receiver.call(TOKEN).status == 200
        receiver.service.running().verifier.verify = None  # type: ignore[method-assign, assignment]
        for _ in range(3):
            assert receiver.call(TOKEN).status == 200
        assert policy.asked == 4
        # the path is looked at before the policy
        assert verdict(receiver.call(TOKEN, path=f"{WALLETS}//read")) == (403, Reason.BAD_PATH.value)
        assert policy.asked == 4


def test_the_policy_learns_who_calls_what(tmp_path: Path) -> None:
    """From the verified token and the request line; no header field is among it."""
    policy = Writes()
    with behind(tmp_path, policy) as receiver:
        assert receiver.call(TOKEN, method="PUT", path="/write").status == 200
        assert verdict(receiver.call(TOKEN, path="/re%61d")) == (403, Reason.POLICY_DENIED.value)
    (put, caller), (get, _) = policy.asked
    assert put == PolicyFacts(method="PUT", path=("write",), raw_path="/write", audience=WALLETS, time=NOW)
    assert (get.path, get.raw_path) == (("read",), "/re%61d")
    assert caller.issuer == EDGE
    assert caller.scopes == {"cards:read", "cards:write"}
    assert TOKEN.decode() not in repr(policy.asked)


def test_a_policy_allows_nothing_that_the_trust_file_does_not(tmp_path: Path) -> None:
    """It is not even asked about a bad token, a missing scope, a route without a rule or an odd path."""
    policy = Says(YES)
    with behind(tmp_path, policy, trust=ROUTES, key_store="memory://") as receiver:
        assert verdict(receiver.call(TOKEN[:-4] + b"AAAA")) == (401, Reason.BAD_SIGNATURE.value)
        assert verdict(receiver.call(TOKEN, path="/open")) == (403, Reason.NO_ROUTE_RULE.value)
        poor = receiver.call(good(scope="cards:read"), method="PUT", path="/write")
        assert verdict(poor) == (403, Reason.MISSING_SCOPE.value)
        assert verdict(receiver.call(TOKEN, path=f"{WALLETS}//read")) == (403, Reason.BAD_PATH.value)
        assert policy.asked == 0
        assert receiver.call(TOKEN).status == 200
        assert policy.asked == 1


@pytest.mark.parametrize("kind", [Says, SaysLater], ids=["sync", "async"])
def test_a_call_that_the_policy_refuses_does_not_use_its_token_up(tmp_path: Path, kind: type[Says]) -> None:
    """Denied, or nobody can tell: the token stays good for one request, and then the policy is asked too."""
    policy = kind(NO)
    with behind(tmp_path, policy, trust=ROUTES, key_store="memory://") as receiver:

        def put() -> tuple[int, str | None]:
            return verdict(receiver.call(TOKEN, method="PUT", path="/write"))

        assert put() == (403, Reason.POLICY_DENIED.value)
        policy.answer = DOWN
        assert put() == (503, Reason.POLICY_UNAVAILABLE.value)
        policy.answer = YES
        assert put() == (200, None)
        assert put() == (401, Reason.REPLAYED.value)
        assert policy.asked == 4


def test_public_paths_need_no_policy_as_they_need_no_rule(tmp_path: Path) -> None:
    """Whoever it refuses could come without a token."""
    policy = Says(NO)
    with behind(tmp_path, policy, public_paths=["/open"]) as receiver:
        for _ in range(2):
            assert receiver.call(TOKEN, path="/open").body["caller"] == EDGE
        assert receiver.call(path="/open").body == {"caller": None}
        assert policy.asked == 0
        assert receiver.call(TOKEN).status == 403


def test_several_policies_at_the_door(tmp_path: Path) -> None:
    """One that answers at once stands before one that waits, and spares the wait."""
    slow = SaysLater(YES)
    with behind(tmp_path, AllOf(Writes(), slow)) as receiver:
        assert receiver.call(TOKEN, method="PUT", path="/write").status == 200
        assert receiver.call(TOKEN).reason == Reason.POLICY_DENIED.value
        assert slow.asked == 1


class Hangs:
    """Never answers; remembers that it was asked, and stopped."""

    def __init__(self) -> None:
        self.asked = self.stopped = 0

    async def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        self.asked += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.stopped += 1
        raise AssertionError("unreachable")


def test_a_policy_that_does_not_answer_in_time_is_stopped(tmp_path: Path) -> None:
    """503 after the time that all waits of one request have together."""
    policy = Hangs()
    with behind(tmp_path, policy) as receiver:
        receiver.service.running().client.wait_seconds = 0.2
        for stopped in (1, 2):
            began = time.monotonic()
            answer = receiver.call(TOKEN)
            assert time.monotonic() - began < 20
            assert verdict(answer) == (503, Reason.POLICY_UNAVAILABLE.value)
            assert int(answer.headers["retry-after"]) > 0
            assert policy.stopped == stopped


def test_a_caller_who_goes_away_stops_the_policy(tmp_path: Path) -> None:
    """Nobody is left to hear what it says."""
    policy = Hangs()

    async def leave(service: Service) -> None:
        task = asyncio.ensure_future(service.verify_async(TOKEN, request=("GET", "/read")))
        await until(lambda: policy.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with behind(tmp_path, policy) as receiver:
        asyncio.run(leave(receiver.service))
    assert policy.stopped == 1


def test_a_policy_that_stops_itself_has_not_answered(tmp_path: Path) -> None:
    """Its cancellation is not the request's."""

    class GivesUp:
        async def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
            raise asyncio.CancelledError

    with behind(tmp_path, GivesUp()) as receiver:
        assert verdict(receiver.call(TOKEN)) == (503, Reason.POLICY_UNAVAILABLE.value)


def test_verify_with_a_request_asks_what_the_middleware_asks(tmp_path: Path) -> None:
    """Route rule, scopes, policy and `once`, for doors of one's own; without a request it says who calls."""
    policy = Writes()
    with behind(tmp_path, policy, trust=ROUTES, key_store="memory://") as receiver:
        service = receiver.service
        assert service.verify(TOKEN).issuer == EDGE
        assert policy.asked == []
        with pytest.raises(Forbidden) as denied:
            service.verify(TOKEN, request=("GET", "/read"))
        assert denied.value.reason is Reason.POLICY_DENIED
        with pytest.raises(Forbidden) as unmapped:
            asyncio.run(service.verify_async(TOKEN, request=("GET", "/é")))
        assert unmapped.value.reason is Reason.BAD_PATH
        service.running().verifier.verify = None  # type: ignore[method-assign, assignment]
        assert service.verify(TOKEN, request=("PUT", "/write")).issuer == EDGE
        with pytest.raises(TokenRejected) as replayed:
            asyncio.run(service.verify_async(TOKEN, request=("PUT", "/write")))
        assert replayed.value.reason is Reason.REPLAYED


def test_an_async_policy_met_by_a_sync_verify_is_a_config_error(tmp_path: Path) -> None:
    """It says what to do, and the same call on an event loop is answered."""
    policy = SaysLater(YES)
    with behind(tmp_path, AllOf(Says(YES), policy)) as receiver:
        with pytest.raises(ConfigError, match="use verify_async or the middleware"):
            receiver.service.verify(TOKEN, request=("GET", "/read"))
        assert policy.asked == 0
        found = asyncio.run(receiver.service.verify_async(TOKEN, request=("GET", "/read")))
        assert found.issuer == EDGE
        policy.answer = PolicyUnavailable("down")
        with pytest.raises(Unavailable) as down:
            asyncio.run(receiver.service.verify_async(TOKEN, request=("GET", "/read")))
        assert (down.value.reason, down.value.issuer) == (Reason.POLICY_UNAVAILABLE, EDGE)


def test_a_bug_of_a_policy_is_logged_with_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with the traceback, besides the line of the refusal; no token in either."""
    with behind(tmp_path, Says(BUG)) as receiver, caplog.at_level(logging.INFO):
        assert receiver.call(TOKEN).status == 403
    (line,) = [record for record in caplog.records if record.name == "s2s_mesh.policy"]
    assert line.exc_info is not None
    assert line.exc_info[1] is BUG
    assert TOKEN.decode() not in caplog.text


def test_what_is_no_policy_stops_the_start(tmp_path: Path) -> None:
    """Also from the environment, where a policy is an argument."""
    (tmp_path / "trust.toml").write_text("version = 1\n")
    environ = {"S2S_MESH_ISSUER": WALLETS, "S2S_MESH_TRUST_FILE": str(tmp_path / "trust.toml")}
    policy = Says(YES)
    assert Service.from_env(environ, key_store=None, policy=policy).settings.policy is policy
    with pytest.raises(ConfigError, match="policy: found the class Says; expected an object with decide"):
        Service.from_env(environ, key_store=None, policy=Says)
