"""The deny list: which calls a rule refuses, and that neither merging nor losing the store undoes one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s_mesh.deny_list import EMPTY, KEEP_FINISHED, MAX_RULES, DenyList, DenyRule
from s2s_mesh.errors import ConfigError, KeyStoreError, StoreReason
from s2s_mesh.strict_json import encode

from .tokens import EDGE, LEDGER, NOW

CALL: dict[str, Any] = {"issuer": EDGE, "kid": "k1", "jti": "j1", "user_sub": "u1"}


def rule(**changes: Any) -> DenyRule:
    return DenyRule(**{"id": "r1", "why": "stolen laptop", "added_at": NOW, **changes})


@pytest.mark.parametrize(
    ("named", "denied"),
    [
        ({"issuer": EDGE}, True),
        ({"kid": "k1"}, True),
        ({"jti": "j1"}, True),
        ({"user_sub": "u1"}, True),
        ({"issuer": EDGE, "user_sub": "u1"}, True),
        ({"issuer": EDGE, "kid": "k1", "jti": "j1", "user_sub": "u1"}, True),
        ({"issuer": LEDGER}, False),
        ({"issuer": EDGE + "/"}, False),
        ({"kid": "k2"}, False),
        ({"jti": "J1"}, False),
        ({"user_sub": "u2"}, False),
        ({"issuer": LEDGER, "user_sub": "u1"}, False),
        ({"issuer": EDGE, "jti": "j2"}, False),
    ],
)
def test_a_rule_refuses_calls_that_are_all_it_names(named: dict[str, str], denied: bool) -> None:
    """What a rule does not name may be anything."""
    rules = EMPTY.add(rule(**named))
    assert (rules.find(NOW, **CALL) is not None) is denied


def test_a_call_without_a_user_is_no_call_of_a_user() -> None:
    """A rule about a user says nothing about services that act as themselves."""
    rules = EMPTY.add(rule(user_sub="u1"))
    assert rules.find(NOW, **{**CALL, "user_sub": None}) is None


@pytest.mark.parametrize(
    ("changes", "at", "denied"),
    [
        ({}, NOW + 10**9, True),
        ({"until": NOW + 60.0}, NOW + 59, True),
        ({"until": NOW + 60.0}, NOW + 60, False),
        ({"removed_at": NOW + 1.0}, NOW, False),
    ],
)
def test_a_rule_holds_until_it_runs_out_or_is_removed(
    changes: dict[str, Any], at: float, denied: bool
) -> None:
    """Removing is effective at once, whatever any clock says."""
    assert (DenyList([rule(issuer=EDGE, **changes)]).find(at, **CALL) is not None) is denied


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ({"issuer": None}, "would deny all"),
        ({"issuer": EDGE, "why": ""}, "why must say"),
        ({"issuer": EDGE, "why": "x" * 501}, "why must say"),
    ],
)
def test_rules_that_are_not_taken(refused: dict[str, Any], text: str) -> None:
    """A rule names something, and a reason."""
    with pytest.raises(ConfigError, match=text):
        EMPTY.add(rule(**refused))


def test_there_are_at_most_a_thousand_rules() -> None:
    """The document stays small; the text says what to do instead."""
    full = DenyList(rule(id=str(number), jti=str(number)) for number in range(MAX_RULES))
    with pytest.raises(ConfigError, match="deny its issuer"):
        full.add(rule(issuer=EDGE))
    assert full.find(NOW, **{**CALL, "jti": "999"}) is not None


def test_removing_a_rule_that_is_not_there_names_those_that_are() -> None:
    """A typing mistake changes nothing."""
    with pytest.raises(ConfigError, match="there are: r1"):
        EMPTY.add(rule(issuer=EDGE)).remove("r2", NOW)
    with pytest.raises(ConfigError, match="there are: none"):
        EMPTY.remove("r2", NOW)


RULES = [
    rule(id="a", issuer=EDGE),
    rule(id="a", issuer=EDGE, removed_at=NOW + 5.0),
    rule(id="a", issuer=EDGE, removed_at=NOW + 9.0),
    rule(id="b", jti="j1", until=NOW + 60.0),
    rule(id="b", jti="j1", until=NOW + 60.0, removed_at=NOW + 7.0),
    rule(id="c", kid="k1"),
]
lists = st.lists(st.sampled_from(RULES), max_size=4).map(DenyList)


@given(lists, lists, lists)
def test_lists_may_be_exchanged_in_any_order(one: DenyList, two: DenyList, three: DenyList) -> None:
    """Merging is commutative, associative and idempotent; a removal is never undone, a rule never lost."""
    merged = one.merge(two)
    assert merged == two.merge(one)
    assert merged.merge(three) == one.merge(two.merge(three))
    assert merged.merge(one) is merged
    for source in (one, two):
        for rule_id, known in source.rules.items():
            assert rule_id in merged.rules
            assert known.removed_at is None or merged.rules[rule_id].removed_at is not None


def test_finished_rules_are_kept_for_a_while_and_then_dropped() -> None:
    """A replica that slept shorter than that cannot bring a removed rule back."""
    rules = EMPTY.add(rule(issuer=EDGE)).remove("r1", NOW)
    assert rules.pruned(NOW + KEEP_FINISHED - 1) is rules
    assert rules.pruned(NOW + KEEP_FINISHED) == EMPTY
    lasting = EMPTY.add(rule(issuer=EDGE))
    assert lasting.pruned(NOW + 10 * KEEP_FINISHED) is lasting


def test_round_trip() -> None:
    """What one replica writes another one reads."""
    rules = EMPTY.add(rule(issuer=EDGE, until=NOW + 1.5)).add(rule(id="r2", user_sub="ü")).remove("r2", NOW)
    assert DenyList.parse(rules.to_bytes()) == rules
    assert DenyList.parse(EMPTY.to_bytes()) == EMPTY
    assert repr(rules) == "<DenyList of 2 rules>"  # in tracebacks; who is denied stands in the log


@pytest.mark.parametrize(
    "document",
    [
        {"v": 2, "rules": []},
        {"v": 1},
        {"v": 1, "rules": {}},
        {"v": 1, "rules": [{"id": "a", "why": "w"}]},
        {"v": 1, "rules": [{"id": "a", "why": "w", "added_at": "1"}]},
        {"v": 1, "rules": [{"id": "a", "why": "w", "added_at": 1}]},
        {"v": 1, "rules": [{"id": "a", "why": "w", "added_at": 1, "issuer": 5}]},
        [],
    ],
)
def test_documents_that_no_replica_writes(document: Any) -> None:
    """They are refused whole, and the text holds nothing of them."""
    with pytest.raises(KeyStoreError) as refused:
        DenyList.parse(encode(document))
    assert refused.value.reason is StoreReason.UNREADABLE
