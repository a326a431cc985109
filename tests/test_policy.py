"""The policy hook by itself: decisions, policies in order, the input document."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from s2s_mesh import (
    AllOf,
    AnyOf,
    ConfigError,
    Decision,
    EndUser,
    Forbidden,
    Policy,
    PolicyFacts,
    PolicyUnavailable,
    Principal,
    Reason,
    ServiceId,
)
from s2s_mesh.effects import AskPolicy
from s2s_mesh.errors import Unavailable
from s2s_mesh.identity import freeze
from s2s_mesh.policy import ask, check_policy, discard, enforce, input_document
from s2s_mesh.strict_json import encode

from .tokens import EDGE, NOW, WALLETS, claims

FACTS = PolicyFacts(
    method="PUT", path=("wallets", "42", "card"), raw_path="/wallets/4%32/card", audience=WALLETS, time=NOW
)
CALLER = Principal(
    issuer=ServiceId(EDGE),
    subject=EDGE,
    audience=WALLETS,
    scopes=frozenset({"cards:write", "cards:read"}),
    kid="k1",
    expires_at=NOW + 120,
    claims=freeze(claims(team={"name": "edge", "floors": [1, 2]})),
)


class Says:
    """A policy that says the same to everybody, and counts how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def decide(self, facts: PolicyFacts, principal: Principal) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class SaysLater(Says):
    """The same after a turn of the loop."""

    async def decide(self, facts: PolicyFacts, principal: Principal) -> Any:
        await asyncio.sleep(0)
        return super().decide(facts, principal)


YES, NO = Decision.allow(), Decision.deny("no")
DOWN = PolicyUnavailable("down", retry_after=7)
BUG = RuntimeError("a bug")


def answer_of(policy: Policy) -> Any:
    """What a policy says in the end, awaited if need be; or what it raises."""

    async def awaited(pending: Awaitable[Decision]) -> Decision:
        return await pending

    try:
        answer = policy.decide(FACTS, CALLER)
        return answer if isinstance(answer, Decision) else asyncio.run(awaited(answer))
    except Exception as raised:
        return raised


@pytest.mark.parametrize("allowed", [1, "true", None, "", [True]])
def test_a_decision_is_a_bool_and_nothing_like_one(allowed: Any) -> None:
    """What is only true-like is a mistake that must not let anybody in."""
    with pytest.raises(TypeError):
        Decision(allowed)
    with pytest.raises(TypeError):
        Decision(True, b"a reason")  # type: ignore[arg-type]


def test_a_decision_is_true_where_it_allows() -> None:
    """So that `if policy.decide(...)` means what it looks like."""
    assert YES
    assert not NO
    assert (NO.allowed, NO.reason) == (False, "no")


# what AllOf and AnyOf of these parts say, and how many of them are asked
ORDERS: list[tuple[str, list[Any], Any, int, Any, int]] = [
    ("one that allows", [YES], YES, 1, YES, 1),
    ("one that denies", [NO], NO, 1, NO, 1),
    ("allow, allow", [YES, YES], YES, 2, YES, 1),
    ("allow, deny", [YES, NO], NO, 2, YES, 1),
    ("deny, allow", [NO, YES], NO, 1, YES, 2),
    ("deny, deny, deny", [NO, NO, NO], NO, 1, NO, 3),
    ("down, allow", [DOWN, YES], DOWN, 1, DOWN, 1),
    ("allow, down", [YES, DOWN], DOWN, 2, YES, 1),
    ("deny, down", [NO, DOWN], NO, 1, DOWN, 2),
    ("a bug, allow", [BUG, YES], BUG, 1, BUG, 1),
    ("None, allow", [None, YES], TypeError, 1, TypeError, 1),
    ("allow, True", [YES, True], TypeError, 2, YES, 1),
    ("deny, True", [NO, True], NO, 1, TypeError, 2),
]


@pytest.mark.parametrize(
    ("answers", "all_of", "asked_by_all", "any_of", "asked_by_any"),
    [row[1:] for row in ORDERS],
    ids=[row[0] for row in ORDERS],
)
@pytest.mark.parametrize(
    "kinds",
    [[Says], [SaysLater], [Says, SaysLater], [SaysLater, Says]],
    ids=["sync", "async", "then", "first"],
)
def test_several_policies_are_asked_in_order_until_it_is_settled(
    answers: list[Any],
    all_of: Any,
    asked_by_all: int,
    any_of: Any,
    asked_by_any: int,
    kinds: list[type[Says]],
) -> None:
    """The same for policies that answer at once, later, and mixed."""
    for together, expected, asked in ((AllOf, all_of, asked_by_all), (AnyOf, any_of, asked_by_any)):
        parts = [kinds[place % len(kinds)](answer) for place, answer in enumerate(answers)]
        said = answer_of(together(*parts))
        assert said is expected or type(said) is expected
        assert sum(part.asked for part in parts) == asked


def test_policies_of_policies() -> None:
    """`AllOf` and `AnyOf` are policies themselves."""
    assert answer_of(AllOf(AnyOf(Says(NO), SaysLater(YES)), AllOf(SaysLater(YES), Says(YES)))) is YES
    assert answer_of(AnyOf(AllOf(SaysLater(YES), Says(NO)), AnyOf(Says(NO)))) is NO


@pytest.mark.parametrize("together", [AllOf, AnyOf])
def test_nothing_in_it_is_a_mistake(together: Callable[..., Policy]) -> None:
    """All of nothing would let everybody in."""
    with pytest.raises(ConfigError, match="has no policy in it"):
        together()
    with pytest.raises(ConfigError, match=r"policy 2: found NoneType; expected an object with decide"):
        together(Says(YES), None)


@pytest.mark.parametrize("policy", [Says, object(), "data.wallets.allow", [Says(YES)], lambda *_: YES, None])
def test_what_is_no_policy_is_refused_at_once(policy: Any) -> None:
    """A class in place of its object, a list, a function: named, and not found out at the first call."""
    with pytest.raises(ConfigError, match=r"policy: found .*; expected an object with decide"):
        check_policy(policy, "policy")


def test_an_answer_that_nobody_awaits_is_ended() -> None:
    """Without a warning that it was never awaited, however deep it stands."""
    inner = SaysLater(YES)
    for policy in (inner, AllOf(inner, Says(YES)), AnyOf(Says(NO), AllOf(inner))):
        said = ask(policy, "GET", b"/", CALLER, NOW)
        assert isinstance(said, AskPolicy)
        discard(said.pending)
    assert inner.asked == 0

    class Bare:
        """Can be awaited and has no more to it."""

        def __await__(self) -> Any:
            return iter(())

    discard(Bare())


def test_the_facts_are_those_of_the_request() -> None:
    """The decoded segments, the path as sent, and whole seconds."""
    seen: list[PolicyFacts] = []

    class Looks:
        def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
            seen.append(facts)
            return YES

    for path in (b"/wallets/4%32/card", b"/", b"/a/", b"/%C3%A9"):
        assert ask(Looks(), "PUT", path, CALLER, NOW + 0.9) is YES
    assert seen[0] == FACTS
    assert [facts.path for facts in seen[1:]] == [("",), ("a", ""), ("é",)]
    with pytest.raises(Forbidden) as refused:
        ask(Looks(), "PUT", b"/wallets//card", CALLER, NOW)
    assert refused.value.reason is Reason.BAD_PATH


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        (YES, None, ""),
        (NO, Reason.POLICY_DENIED, "no"),
        (Decision(False), Reason.POLICY_DENIED, "the policy gives no reason"),
        (DOWN, Reason.POLICY_UNAVAILABLE, "down"),
        (BUG, Reason.POLICY_DENIED, "the policy raised RuntimeError: this is a bug"),
        (None, Reason.POLICY_DENIED, "the policy returned NoneType, no Decision: this is a bug"),
        (True, Reason.POLICY_DENIED, "the policy returned bool, no Decision: this is a bug"),
        (AskPolicy(Says(YES).decide(FACTS, CALLER)), Reason.POLICY_DENIED, "the policy returned AskPolicy"),
    ],
)
def test_only_a_clear_yes_lets_a_call_through(
    said: Any, reason: Reason | None, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a policy returned or raised, and what becomes of it; a bug is logged as one."""
    refused: Forbidden | Unavailable | None = None
    with caplog.at_level(logging.ERROR, "s2s_mesh.policy"):
        try:
            enforce(said, CALLER)
        except (Forbidden, Unavailable) as raised:
            refused = raised
    assert (None if refused is None else refused.reason) is reason
    assert detail in str(refused)
    if isinstance(refused, Unavailable):
        assert (refused.issuer, refused.retry_after) == (EDGE, 7)
    assert bool(caplog.records) is ("this is a bug" in detail or "AskPolicy" in detail)


def test_a_reason_is_one_line_of_the_log() -> None:
    """Whatever a policy quotes."""
    for said in (Decision.deny("team\nrefused\r\u2028é" + "x" * 1000), PolicyUnavailable("a\0b")):
        with pytest.raises((Forbidden, Unavailable)) as refused:
            enforce(said, CALLER)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 600


def test_a_decision_that_dodged_its_check_allows_nothing() -> None:
    """A subclass with something else than a bool in it."""

    class Sly(Decision, frozen=True):
        def __post_init__(self) -> None:
            pass

    with pytest.raises(Forbidden):
        enforce(Sly("yes"), CALLER)  # type: ignore[arg-type]


def test_the_input_document_is_plain_json_without_any_token() -> None:
    """Exactly these members; claims as they were sent, a user or null."""
    document = input_document(FACTS, CALLER)
    assert json.loads(encode(document)) == document
    assert list(document) == [
        *("version", "method", "path", "raw_path", "audience", "caller", "claims", "user", "time")
    ]
    assert document["version"] == 1
    assert document["path"] == ["wallets", "42", "card"]
    assert document["caller"] == {
        "issuer": EDGE,
        "scopes": ["cards:read", "cards:write"],
        "kid": "k1",
        "credential": "token",
        "vouched_by": None,
    }
    assert document["claims"] == claims(team={"name": "edge", "floors": [1, 2]})
    assert document["user"] is None
    carried = Principal(
        **{name: getattr(CALLER, name) for name in CALLER.__struct_fields__ if name != "user"},
        user=EndUser(
            issuer="https://login.example.com/", subject="u1", expires_at=NOW + 60, amr=("pwd", "mfa")
        ),
    )
    assert input_document(FACTS, carried)["user"] == {
        "issuer": "https://login.example.com/",
        "subject": "u1",
        "mode": "asserted",
        "auth_time": None,
        "acr": None,
        "amr": ["pwd", "mfa"],
    }
