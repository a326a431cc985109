"""Counting who uses old credentials: nothing is lost in merging, documents are read strictly."""

from __future__ import annotations

import pytest

from s2s_mesh import KeyStoreError, StoreReason
from s2s_mesh.migration_use import DAY, DAYS, Tally, Use, Uses, Who
from s2s_mesh.store.sealed import MAX_DOCUMENT

from .tokens import EDGE, LEDGER, NOW, WALLETS

OLD, TOKEN, OTHER = Who(EDGE, WALLETS, "api_key"), Who(EDGE, WALLETS, "token"), Who(LEDGER, WALLETS, "basic")
TODAY = NOW // DAY


def counted(*notes: tuple[Who, float]) -> Uses:
    tally = Tally()
    for who, at in notes:
        tally.note(*who, at)
    return tally.take()


def test_what_is_taken_is_gone() -> None:
    """And what comes after is counted anew."""
    tally = Tally()
    tally.note(*OLD, NOW)
    assert list(tally.take().by_who) == [OLD]
    assert tally.take().by_who == {}


def test_uses_are_added_up() -> None:
    """By caller, audience and way; the latest time wins, whoever saw it."""
    one = counted((OLD, NOW), (OLD, NOW - DAY), (TOKEN, NOW))
    other = counted((OLD, NOW + 5), (OTHER, NOW))
    for merged in (one.merged(other), other.merged(one)):
        assert merged.by_who[OLD] == Use(NOW + 5, {TODAY - 1: 1, TODAY: 2})
        assert merged.by_who[TOKEN] == Use(NOW, {TODAY: 1})
        assert merged.by_who[OTHER] == Use(NOW, {TODAY: 1})
    assert counted((OLD, NOW)).merged(Uses()).by_who == counted((OLD, NOW)).by_who


def test_days_long_past_are_forgotten_and_the_last_use_is_not() -> None:
    """What is recent is counted from the day on which somebody looks."""
    old = counted((OLD, NOW - DAYS * DAY), (OLD, NOW - (DAYS - 1) * DAY))
    use = old.merged(counted((OLD, NOW))).by_who[OLD]
    assert use.days == {TODAY - DAYS + 1: 1, TODAY: 1}
    assert (use.recent(NOW), use.recent(NOW + DAY), use.recent(NOW + DAYS * DAY)) == (2, 1, 0)
    assert use.last == NOW


def test_callers_without_a_row_are_dropped() -> None:
    """Their rows are gone, and the document does not grow for ever."""
    uses = counted((OLD, NOW), (TOKEN, NOW), (OTHER, NOW))
    assert set(uses.only([(EDGE, WALLETS)]).by_who) == {OLD, TOKEN}


def test_a_document_is_read_back() -> None:
    """Byte for byte what another replica wrote."""
    uses = counted((OLD, NOW + 0.25), (OTHER, NOW - DAY))
    assert Uses.parse(uses.to_bytes()).by_who == uses.by_who


@pytest.mark.parametrize(("callers", "days"), [(350, DAYS), (351, 1), (800, 1)])
def test_many_callers_fit_into_one_document(callers: int, days: int) -> None:
    """With tokens and old credentials: their last uses are all there; of very many, one day is counted."""
    uses = counted(
        *[
            (Who(f"https://service-number-{number}.example.com", WALLETS, way), float(NOW - day * DAY))
            for number in range(callers)
            for way in ("api_key", "token")
            for day in reversed(range(DAYS))
        ]
    )
    document = uses.to_bytes()
    assert len(document) < (MAX_DOCUMENT - 4096) * 3 // 4
    read = Uses.parse(document).by_who
    assert read.keys() == uses.by_who.keys()
    assert {(use.last, use.recent(NOW)) for use in read.values()} == {(NOW, days)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"v":1}',
        b'{"v":2,"uses":[]}',
        b'{"uses":[]}',
        b'{"v":1,"uses":[["a","b","c",1]]}',
        b'{"v":1,"uses":[["a","b","c","x",{}]]}',
        b'{"v":1,"uses":[["a","b","c",1,{"x":1}]]}',
        b'{"v":1,"v":1,"uses":[]}',
    ],
)
def test_what_no_replica_writes_is_refused(data: bytes) -> None:
    """Rather no count than a wrong one."""
    with pytest.raises(KeyStoreError) as refused:
        Uses.parse(data)
    assert refused.value.reason is StoreReason.UNREADABLE
