"""The bundle that we serve: what it holds, and a sequence that only grows, whatever happens to the ring."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from s2s_mesh.errors import ConfigError
from s2s_mesh.keyring import KeyRing
from s2s_mesh.rotation import RotationSchedule
from s2s_mesh.spiffe_bundle import refresh_hint, sequence, to_bytes
from s2s_mesh.store import open_store

from .key_pool import Keys
from .managers import manager
from .servers import RedisServer
from .test_keyring_model import TIGHT
from .tokens import EDGE, NOW, Clock, key

DEFAULT, FAST = RotationSchedule.DEFAULT, RotationSchedule.FAST_FOR_TESTS
KEK = bytes(range(32))
PLAYS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def ring_of(*algorithms: str, schedule: RotationSchedule = DEFAULT) -> KeyRing:
    """A ring that began at `NOW`: a key and its successor."""
    keys = iter([key(alg, f"bundle {number}") for number, alg in enumerate(algorithms)])
    return KeyRing(EDGE, schedule).advance(NOW, generate=lambda: next(keys))


def bundle(ring: KeyRing, now: float = NOW) -> dict[str, Any]:
    """What is served at an instant."""
    served: dict[str, Any] = json.loads(to_bytes(ring, now))
    return served


def kids(ring: KeyRing, now: float) -> list[str]:
    """Which keys the bundle holds."""
    return [entry["kid"] for entry in bundle(ring, now)["keys"]]


def test_a_bundle_is_what_its_standard_has() -> None:
    """Keys for JWT-SVIDs only, a sequence, a refresh hint (SPIFFE Trust Domain and Bundle, section 4)."""
    ring = ring_of("ES256", "RS256")
    served = bundle(ring)
    assert served.keys() == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}
    assert [entry["kid"] for entry in served["keys"]] == sorted(ring.records)
    jwks = ring.jwks(NOW).keys
    assert served["keys"] == [{**jwks[kid].public_jwk, "use": "jwt-svid"} for kid in sorted(jwks)]
    assert type(served["spiffe_sequence"]) is int
    assert 0 < served["spiffe_sequence"] < 2**53
    assert served["spiffe_refresh_hint"] == 300


def test_a_key_that_no_validator_knows_is_left_out() -> None:
    """Ed25519 is none of the algorithms of JWT-SVID section 2.1; its key is in the JWKS all the same."""
    ring = ring_of("ES256", "Ed25519")
    (entry,) = bundle(ring)["keys"]
    assert entry["alg"] == "ES256"
    assert len(ring.jwks(NOW).keys) == 2


@pytest.mark.parametrize("schedule", [DEFAULT, FAST, TIGHT, RotationSchedule.CLOUD_FEDERATION])
def test_a_key_is_published_three_refresh_hints_ahead(schedule: RotationSchedule) -> None:
    """At least (I-K2), and consumers look no more often than our caching headers say."""
    hint = refresh_hint(schedule)
    assert type(hint) is int
    assert 1 <= hint <= schedule.lead / 3
    assert hint == max(int(min(schedule.served_max_age, schedule.lead / 3)), 1)


def test_a_short_lead_has_a_short_hint() -> None:
    """Where our JWKS may be cached for long, the hint does not follow it."""
    schedule = RotationSchedule(served_max_age=4000, stale_grace=1, lead=4100)
    assert refresh_hint(schedule) == 1366


def test_a_life_of_a_ring() -> None:
    """Each change of the keys has a greater number; what changes no key changes none."""
    ring, keys = ring_of("ES256", "ES256"), Keys()
    first, second = ring.records.values()
    if first.sign_from > second.sign_from:
        first, second = second, first
    numbers = [sequence(ring, NOW)]
    assert sequence(ring, first.sign_until - 1) == numbers[0]
    rotated = ring.advance(first.sign_until, generate=keys)
    assert len(rotated.records) == 3
    numbers.append(sequence(rotated, first.sign_until))
    assert sequence(rotated, first.remove_at - 0.001) == numbers[-1]
    numbers.append(sequence(rotated, first.remove_at))
    forgotten = rotated.advance(first.remove_at + 2 * DEFAULT.max_skew, generate=keys)
    assert len(forgotten.records) == 2
    assert sequence(forgotten, first.remove_at + 2 * DEFAULT.max_skew) == numbers[-1]
    later = first.remove_at + 1000
    revoked = forgotten.compromise(second.kid, later)
    numbers.append(sequence(revoked, later))
    healed = revoked.advance(later, generate=keys)
    numbers.append(sequence(healed, later))
    assert numbers == sorted(set(numbers))


def test_what_was_forgotten_outlives_a_restart() -> None:
    """A document that is read again has the same number; one of an older version is read as well."""
    keys = Keys()
    ring = KeyRing(EDGE, DEFAULT).advance(NOW, generate=keys)
    oldest = min(ring.records.values(), key=lambda record: record.remove_at)
    ring = ring.advance(oldest.sign_until, generate=keys)
    at = oldest.remove_at + 2 * DEFAULT.max_skew
    ring = ring.advance(at, generate=keys)
    assert oldest.kid not in ring.records
    again = KeyRing.parse(ring.to_bytes(), issuer=EDGE, schedule=DEFAULT)
    assert again == ring
    assert to_bytes(again, at) == to_bytes(ring, at)
    old = json.loads(ring.to_bytes())
    del old["removed_until"]
    unaware = KeyRing.parse(json.dumps(old).encode(), issuer=EDGE, schedule=DEFAULT)
    assert unaware != ring
    assert unaware.merge(ring) == ring


def test_a_ring_that_is_made_anew_goes_on_above_the_lost_one() -> None:
    """A store that lost everything does not take the number back."""
    before, after = ring_of("ES256", "ES256"), KeyRing(EDGE, DEFAULT).advance(NOW + 1, generate=Keys())
    for kid in before.records:
        before = before.compromise(kid, NOW)
    assert sequence(after, NOW + 1) > sequence(before, NOW + 1)


def test_a_ring_without_keys_has_a_number() -> None:
    """Nothing was ever published."""
    assert sequence(KeyRing(EDGE, DEFAULT), NOW) == 0


def test_replicas_on_one_redis_serve_the_same_bundle_and_a_new_one_goes_on() -> None:
    """To the byte, at every step; what is forgotten is written once, however many there are."""
    clock = Clock()
    with RedisServer() as server:
        replicas = [manager(open_store(server.url, issuer=EDGE), clock, keks=[KEK]) for _ in range(3)]
        try:
            ring = replicas[0].refresh()
            oldest = min(ring.records.values(), key=lambda record: record.remove_at)
            seen = []
            for at in (NOW, oldest.sign_until, oldest.remove_at, oldest.remove_at + 2 * DEFAULT.max_skew):
                clock.now = at
                for replica in replicas:
                    replica.refresh()
                bundles = {to_bytes(replica.refresh(), at) for replica in replicas}
                assert len(bundles) == 1
                seen.append(json.loads(bundles.pop())["spiffe_sequence"])
            assert oldest.kid not in replicas[0].refresh().records
            assert seen[0] < seen[1] < seen[2] == seen[3]
            assert sum(replica.writes for replica in replicas) == 3
            with closing(manager(open_store(server.url, issuer=EDGE), clock, keks=[KEK])) as started:
                assert sequence(started.refresh(), clock()) == seen[3]
        finally:
            for replica in replicas:
                replica.close()


class AnyHistory(RuleBasedStateMachine):
    """Replicas that write, exchange rings, lose writes, start anew and sleep; clocks differ within the skew.

    For each replica, and for whoever asks all of them about one ring: a change of the keys has a greater
    number, and no change has a smaller one.
    """

    @initialize(
        offsets=st.tuples(*[st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])] * 3),
        fraction=st.sampled_from([0.0, 0.0004, 0.25]),
    )
    def found(self, offsets: tuple[float, ...], fraction: float) -> None:
        self.keys = Keys()
        self.now = NOW + fraction
        self.offsets = [offset * TIGHT.max_skew / 2 for offset in offsets]
        first = KeyRing(EDGE, TIGHT).advance(self.clock(0), generate=self.keys)
        self.rings = [first] * 3
        self.seen = [self.look(replica) for replica in range(3)]

    def clock(self, replica: int) -> float:
        return self.now + self.offsets[replica]

    def look(self, replica: int) -> tuple[list[str], int]:
        ring, now = self.rings[replica], self.clock(replica)
        return kids(ring, now), sequence(ring, now)

    def watch(self) -> None:
        for replica in range(3):
            was, before = self.seen[replica]
            now_is, number = self.seen[replica] = self.look(replica)
            assert number >= before
            assert number > before or now_is == was

    def put(self, replica: int, ring: KeyRing) -> None:
        self.rings[replica] = ring
        self.watch()

    replicas = st.integers(0, 2)

    @rule(step=st.sampled_from([0.0, 0.0005, 1.0, 30.0, TIGHT.lead / 2]))
    def time_passes(self, step: float) -> None:
        # everybody polls and exchanges what it has long before a key is removed
        self.now += step
        self.watch()

    @rule(periods=st.sampled_from([1, 2, 3]))
    def a_long_time_passes(self, periods: int) -> None:
        for _ in range(4 * periods):
            self.now += TIGHT.period / 4
            self.watch()
            for replica in range(3):
                self.poll(replica, replica - 1)

    @rule(replica=replicas, other=replicas)
    def poll(self, replica: int, other: int) -> None:
        merged = self.rings[replica].merge(self.rings[other])
        self.put(replica, merged)
        self.put(replica, merged.advance(self.clock(replica), generate=self.keys))

    @rule(replica=replicas)
    def advance_alone(self, replica: int) -> None:
        self.put(replica, self.rings[replica].advance(self.clock(replica), generate=self.keys))

    @rule(replica=replicas, number=st.integers(0, 9), ago=st.sampled_from([0.0, 5.0]))
    def revoke(self, replica: int, number: int, ago: float) -> None:
        ring = self.rings[replica]
        kid = list(ring.records)[number % len(ring.records)]
        self.put(replica, ring.compromise(kid, self.clock(replica) - ago))

    @rule(replica=replicas)
    def hand_over(self, replica: int) -> None:
        with suppress(ConfigError):
            at = self.clock(replica)
            self.put(replica, self.rings[replica].hand_over(at, at))

    @rule(replica=replicas, alg=st.sampled_from(["ES256", "Ed25519"]))
    def change_the_algorithm(self, replica: int, alg: str) -> None:
        with suppress(ConfigError):
            ring = self.rings[replica]
            self.put(replica, ring.replace_successor(self.clock(replica), self.keys(alg)))

    @rule(replica=replicas)
    def start_anew(self, replica: int) -> None:
        again = KeyRing.parse(self.rings[replica].written().to_bytes(), issuer=EDGE, schedule=TIGHT)
        self.put(replica, again)

    @precondition(lambda self: len({id(ring) for ring in self.rings}) > 1)
    @rule()
    def replicas_agree(self) -> None:
        """With one ring and one time they serve the same bytes."""
        merged = [self.rings[i].merge(self.rings[i - 1]).merge(self.rings[i - 2]) for i in range(3)]
        assert len({to_bytes(ring, self.now) for ring in merged}) == 1


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    PLAYS, max_examples=60, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)


@PLAYS
@given(st.lists(st.sampled_from([0.0, 0.0004, 0.001, 1.0]), min_size=2, max_size=6))
def test_changes_at_almost_one_instant_are_still_told_apart(gaps: list[float]) -> None:
    """Births, removals and revocations within a millisecond each have a number of their own."""
    keys = Keys()
    ring = KeyRing(EDGE, TIGHT).advance(NOW, generate=keys)
    removal = min(record.remove_at for record in ring.records.values())
    at, seen = removal - 0.0005, []
    for gap in gaps:
        at += gap
        ring = ring.advance(at, generate=keys)
        seen.append((kids(ring, at), sequence(ring, at)))
        newest = max(ring.records.values(), key=lambda record: record.publish_at)
        ring = ring.compromise(newest.kid, at)
        seen.append((kids(ring, at), sequence(ring, at)))
    for step in range(1, len(seen)):
        (was, before), (now_is, number) = seen[step - 1 : step + 1]
        assert number > before if was != now_is else number >= before
