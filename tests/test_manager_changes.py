"""Changes that a person makes to a ring: once, however many ask, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from s2s_mesh import ConfigError, KeyStoreError, RotationSchedule, StoreReason
from s2s_mesh.keyring import KeyRing
from s2s_mesh.manager import KeyManager
from s2s_mesh.store.memory import MemoryStore

from .managers import manager
from .tokens import EDGE, Clock

SCHEDULE = RotationSchedule.DEFAULT
OLD, NEW = bytes(32), bytes(range(32))


def rotate_if_ripe(ring: KeyRing, now: float) -> KeyRing:
    ripe_at = ring.ripe_at(now)
    return ring if ripe_at is None or ripe_at > now else ring.hand_over(now, now)


def test_a_hundred_rotations_at_once_make_exactly_one_new_key() -> None:
    """Whoever comes second finds a next key that is not ripe, and changes nothing."""
    store, clock = MemoryStore(), Clock()
    before = manager(store, clock).refresh()
    clock.now += SCHEDULE.lead
    with ThreadPoolExecutor(100) as pool:
        rings = list(pool.map(lambda _: manager(store, clock).change(rotate_if_ripe), range(100)))
    assert {tuple(ring.records) for ring in rings} == {tuple(rings[0].records)}
    assert len(rings[0].records.keys() - before.records.keys()) == 1
    assert rings[0].signing_key(clock.now) is not None
    assert rings[0].signing_record(clock.now) != before.signing_record(clock.now)


def test_every_replica_takes_a_revocation_over_and_none_brings_the_key_back() -> None:
    """A replica that still holds the older ring merges, and revocation wins."""
    store, clock = MemoryStore(), Clock()
    one, other = manager(store, clock), manager(store, clock)
    revoked = one.refresh().signing_record(clock.now)
    other.refresh()
    assert revoked is not None
    one.change(lambda ring, now: ring.compromise(revoked.kid, now))
    for ring in (other.refresh(), one.refresh(), manager(store, clock).refresh()):
        assert revoked.kid not in ring.jwks(clock.now).keys
        signing = ring.signing_key(clock.now)
        assert signing is not None
        assert signing.kid != revoked.kid


def test_a_change_that_fails_writes_nothing() -> None:
    """The error comes out as it is, and the ring stands."""
    store, clock = MemoryStore(), Clock()
    made = manager(store, clock)
    ring, stored = made.refresh(), store.load()
    with pytest.raises(ConfigError, match="no key 'x'"):
        made.change(lambda ring, now: ring.compromise("x", now))
    assert store.load() == stored
    assert made.refresh() is ring


@pytest.mark.parametrize(
    "attempt",
    [lambda made: made.change(rotate_if_ripe), lambda made: made.rewrap()],
    ids=["change", "rewrap"],
)
def test_without_a_ring_there_is_nothing_to_change(attempt: Callable[[KeyManager], object]) -> None:
    """Where no ring may be made, the text says who makes one."""
    with pytest.raises(KeyStoreError) as failed:
        attempt(manager(MemoryStore(), Clock(), may_create=False))
    assert failed.value.reason is StoreReason.NO_RING


def test_rewrap_seals_under_the_first_key_once() -> None:
    """A replica that knows both keys goes on; the ring itself is the same."""
    store, clock = MemoryStore(), Clock()
    ring = manager(store, clock, keks=[OLD]).refresh()
    both = manager(store, clock, keks=[NEW, OLD])
    assert both.rewrap() is True
    assert both.rewrap() is False
    assert manager(store, clock, keks=[NEW]).refresh() == ring


class Busy(MemoryStore):
    """Somebody else always writes first."""

    def swap(self, expected: bytes | None, new: bytes) -> None:
        document = self.load()
        if document is not None:
            super().swap(document, document + b" ")
        super().swap(expected, new)


def test_a_store_that_somebody_always_changes_first_is_given_up_in_bounded_time() -> None:
    """Twenty conflicts in a row are reported as one; nothing is lost."""
    store, clock = Busy(), Clock()
    made = manager(store, clock)
    made.refresh()
    clock.now += SCHEDULE.lead
    with pytest.raises(KeyStoreError) as failed:
        made.change(rotate_if_ripe)
    assert failed.value.reason is StoreReason.CONFLICT


def test_handing_over_is_refused_where_receivers_could_miss_the_key() -> None:
    """Not before the lead is over, and not without a successor; each with its own text."""
    clock = Clock()
    ring = manager(MemoryStore(), clock).refresh()
    with pytest.raises(ConfigError, match="another 7200 s"):
        ring.hand_over(clock.now, clock.now)
    alone = KeyRing(EDGE, SCHEDULE, [next(iter(ring.records.values()))])
    for single in (alone, KeyRing(EDGE, SCHEDULE)):
        assert single.ripe_at(clock.now) is None
        with pytest.raises(ConfigError, match="no key that could take over"):
            single.hand_over(clock.now, clock.now)


def test_a_forced_rotation_never_makes_a_key_sign_longer_than_a_period() -> None:
    """Taking over early also means ending early."""
    store, clock = MemoryStore(), Clock()
    made = manager(store, clock)
    made.refresh()
    clock.now += SCHEDULE.lead
    signing = made.change(rotate_if_ripe).signing_record(clock.now)
    assert signing is not None
    assert signing.sign_until == clock.now + SCHEDULE.period
