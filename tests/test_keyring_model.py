"""Rings under everything that happens to them: merging is a semilattice, and a fleet keeps its promises.

The promises are checked by `Fleet`; hypothesis chooses what happens. `S2S_MESH_TEST_ROUNDS` multiplies the
runs.
"""

# ruff: noqa: ARG005  an event takes what it needs
from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s2s_mesh.errors import ConfigError
from s2s_mesh.keyring import KeyRing
from s2s_mesh.rotation import RotationSchedule

from .fleet import RECEIVERS, REPLICAS, TOKEN_SKEW, Fleet
from .key_pool import ALGORITHMS, Keys
from .tokens import EDGE, NOW

ROUNDS = int(os.environ.get("S2S_MESH_TEST_ROUNDS", "1"))
DEFAULT = RotationSchedule.DEFAULT
# the inequalities hold with nothing to spare, so that any mistake in them shows
TIGHT = RotationSchedule(
    replica_lag=30,
    served_max_age=200,
    foreign_cache=300,
    stale_grace=600,
    max_token_life=120,
    max_skew=60,
    lead=30 + 300 + 600 + 60,
    drain=30 + 120 + 60,
    period=990 + 210,
)
TEN_YEARS = 3653 * 86400

# -- merging is a semilattice ---------------------------------------------------------------------------

STEPS = [0.0, 1.0, TIGHT.lead / 2, TIGHT.period / 2, TIGHT.period, 2 * TIGHT.period + TIGHT.drain + 120]
events = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["advance", "advance", "revoke", "rotate", "replace", "merge", "write"]),
    st.integers(0, 5),
)


@st.composite
def rings(draw: st.DrawFn) -> tuple[KeyRing, KeyRing, KeyRing]:
    """Three rings of one issuer with random histories that may have touched."""
    keys, now = Keys(), float(NOW)
    first = KeyRing(EDGE, TIGHT).advance(now, generate=keys)
    empty = KeyRing(EDGE, TIGHT)
    branches = [first if draw(st.booleans()) else empty.advance(now, generate=keys) for _ in range(3)]
    for branch, event, number in draw(st.lists(events, max_size=14)):
        ring = branches[branch]
        if event == "advance":
            now += STEPS[number]
            branches[branch] = ring.advance(now, generate=keys)
        elif event == "revoke" and ring.records:
            branches[branch] = ring.compromise(list(ring.records)[number % len(ring.records)], now - number)
        elif event == "rotate":
            with suppress(ConfigError):
                branches[branch] = ring.hand_over(now, now)
        elif event == "replace":
            with suppress(ConfigError):
                branches[branch] = ring.replace_successor(now, keys("Ed25519"))
        elif event == "merge":
            branches[branch] = ring.merge(branches[number % 3])
        elif event == "write":
            branches[branch] = ring.written()
    return branches[0], branches[1], branches[2]


def same(one: KeyRing, other: KeyRing) -> bool:
    """Equal to the last byte, the number of writes included."""
    return one == other and one.to_bytes() == other.to_bytes()


laws = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@laws
@given(rings())
def test_merging_is_commutative(some: tuple[KeyRing, KeyRing, KeyRing]) -> None:
    """It does not matter which of two rings is merged into which."""
    a, b, _ = some
    assert same(a.merge(b), b.merge(a))


@laws
@given(rings())
def test_merging_is_associative(some: tuple[KeyRing, KeyRing, KeyRing]) -> None:
    """It does not matter in which order three rings meet."""
    a, b, c = some
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))


@laws
@given(rings())
def test_merging_is_idempotent(some: tuple[KeyRing, KeyRing, KeyRing]) -> None:
    """Meeting the same ring again changes nothing, and returns the same object."""
    a, b, _ = some
    merged = a.merge(b)
    assert a.merge(a) is a
    assert merged.merge(a) is merged
    assert merged.merge(b) is merged


@laws
@given(rings())
def test_merging_only_takes_away(some: tuple[KeyRing, KeyRing, KeyRing]) -> None:
    """A merge loses no record, undoes no revocation, lengthens no time and brings back no private half."""
    a, b, _ = some
    merged = a.merge(b)
    assert merged.records.keys() == a.records.keys() | b.records.keys()
    for ring in (a, b):
        for kid, record in ring.records.items():
            now = merged.records[kid]
            assert record.revoked_at is None or (
                now.revoked_at is not None and now.revoked_at <= record.revoked_at
            )
            assert record.private is not None or now.private is None
            assert now.sign_from <= record.sign_from
            assert now.sign_until <= record.sign_until
            assert now.remove_at == record.remove_at
            assert now.public.material == record.public.material


@laws
@given(rings())
def test_documents_are_complete(some: tuple[KeyRing, KeyRing, KeyRing]) -> None:
    """Whatever its history, a ring that is written and read is the same ring."""
    for ring in some:
        assert same(KeyRing.parse(ring.to_bytes(), issuer=EDGE, schedule=TIGHT), ring)


# -- a fleet --------------------------------------------------------------------------------------------

replicas = st.sampled_from(REPLICAS)
receivers = st.sampled_from(RECEIVERS)
algorithms = st.sampled_from(ALGORITHMS)
# on either side of true time, and now and then all the same
skews = st.tuples(*[st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])] * 3) | st.just((0.0, 0.0, 0.0))
lags = st.tuples(*[st.sampled_from([0.05, 0.5, 1.0])] * 3)
token_skews = st.sampled_from([-TOKEN_SKEW, 0.0, TOKEN_SKEW])


def fleet(
    schedule: RotationSchedule, skews: tuple[float, ...], lags: tuple[float, ...], *, faulty: bool
) -> Fleet:
    """`max_skew` is the largest difference of two clocks; the default has room for twice that."""
    reach = schedule.max_skew * (0.5 if schedule is TIGHT else 1.0)
    return Fleet(
        schedule,
        offsets=[reach * skew for skew in skews],
        lags=[schedule.replica_lag * lag for lag in lags],
        faulty=faulty,
    )


class AnyOrder(RuleBasedStateMachine):
    """Everything that may happen, in any order, on a schedule with room and on one without."""

    @initialize(schedule=st.sampled_from([TIGHT, DEFAULT]), faulty=st.booleans(), skews=skews, lags=lags)
    def found(
        self, schedule: RotationSchedule, faulty: bool, skews: tuple[float, ...], lags: tuple[float, ...]
    ) -> None:
        self.fleet = fleet(schedule, skews, lags, faulty=faulty)

    @invariant()
    def everybody_is_watched(self) -> None:
        self.fleet.watch_all()

    times = st.sampled_from(["poll", "lag", "bound", "lead", "drain", "period", "long"])

    def seconds(self, name: str) -> float:
        schedule = self.fleet.schedule
        return {
            "poll": schedule.poll_interval,
            "lag": schedule.replica_lag,
            "bound": self.fleet.bound,
            "lead": schedule.lead,
            "drain": schedule.drain,
            "period": schedule.period,
            "long": 2.5 * schedule.period,
        }[name]

    @rule(time=times)
    def time_passes(self, time: str) -> None:
        self.fleet.pass_time(self.seconds(time))

    @rule(time=times)
    def the_store_is_down(self, time: str) -> None:
        self.fleet.lose_the_store(self.seconds(time))

    @rule(number=replicas, other=replicas)
    def two_poll_at_once(self, number: int, other: int) -> None:
        self.fleet.poll_at_once(number, other)

    @rule(number=replicas)
    def sleep(self, number: int) -> None:
        self.fleet.sleep(number)

    @rule(number=replicas)
    def wake(self, number: int) -> None:
        self.fleet.wake(number)

    @rule(number=replicas, alg=algorithms)
    def start_anew(self, number: int, alg: str) -> None:
        self.fleet.start_anew(number, alg)

    @rule(number=replicas, which=st.integers(0, 5))
    def revoke(self, number: int, which: int) -> None:
        self.fleet.revoke(number, which)

    @rule(number=replicas, at_once=st.booleans())
    def rotate(self, number: int, at_once: bool) -> None:
        self.fleet.rotate(number, at_once=at_once)

    @rule(number=replicas, alg=algorithms)
    def change_algorithm(self, number: int, alg: str) -> None:
        self.fleet.change_algorithm(number, alg)

    @rule(number=replicas, which=receivers, share=st.sampled_from([0.0, 0.7, 2.0]), token_skew=token_skews)
    def call(self, number: int, which: int, share: float, token_skew: float) -> None:
        self.fleet.call(number, which, cut_off=share * self.fleet.bound, token_skew=token_skew)

    @rule(number=replicas, which=receivers)
    def steal(self, number: int, which: int) -> None:
        self.fleet.steal(number, which)

    @precondition(lambda self: self.fleet.faulty)
    @rule()
    def flush(self) -> None:
        self.fleet.flush()

    @precondition(lambda self: self.fleet.faulty)
    @rule(which=st.integers(0, 20))
    def restore(self, which: int) -> None:
        self.fleet.restore(which)

    @precondition(lambda self: self.fleet.faulty)
    @rule()
    def lose_the_last_write(self) -> None:
        self.fleet.lose_the_last_write()

    @rule()
    def everybody_agrees(self) -> None:
        self.fleet.agree()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    deadline=None,
    max_examples=120 * ROUNDS,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# -- ten years ------------------------------------------------------------------------------------------

Event = Callable[[Fleet, int, int], None]
# each is given two small numbers
HARMLESS: dict[str, Event] = {
    "nothing": lambda fleet, one, other: None,
    "sleep": lambda fleet, one, other: fleet.sleep(one % 3),
    "wake": lambda fleet, one, other: fleet.wake(one % 3),
    "start": lambda fleet, one, other: fleet.start_anew(one % 3, ALGORITHMS[other % 2]),
    "conflict": lambda fleet, one, other: fleet.poll_at_once(one % 3, other % 3),
    "outage": lambda fleet, one, other: fleet.lose_the_store(DEFAULT.lead * (1 + one)),
    "rotate": lambda fleet, one, other: fleet.rotate(one % 3, at_once=other % 2 == 0),
    "algorithm": lambda fleet, one, other: fleet.change_algorithm(one % 3, ALGORITHMS[other % 2]),
    "revoke": lambda fleet, one, other: fleet.revoke(one % 3, other),
    "steal": lambda fleet, one, other: fleet.steal(one % 3, other % 2),
    "call": lambda fleet, one, other: fleet.call(
        one % 3, other % 2, cut_off=0.7 * fleet.bound * (one // 3), token_skew=TOKEN_SKEW * (other % 3 - 1)
    ),
    "agree": lambda fleet, one, other: fleet.agree(),
}
LOSSES: dict[str, Event] = {
    "flush": lambda fleet, one, other: fleet.flush(),
    "lost write": lambda fleet, one, other: fleet.lose_the_last_write(),
    "backup": lambda fleet, one, other: fleet.restore(-1 - one - 6 * other),  # a recent one
    "first backup": lambda fleet, one, other: fleet.restore(one),
}
EVENTS = HARMLESS | LOSSES
Happening = tuple[str, int, int, float]  # what, its two numbers, and seconds until all goes on


@st.composite
def decades(draw: st.DrawFn) -> tuple[bool, list[Happening]]:
    """Whether the store may lose anything, and what happens three times a month."""
    faulty = draw(st.booleans())
    event = st.sampled_from(list(EVENTS if faulty else HARMLESS))
    small = st.integers(0, 5)
    pause = st.sampled_from([0.0, DEFAULT.replica_lag, DEFAULT.lead, 86400.0, DEFAULT.period / 3])
    months = TEN_YEARS // int(DEFAULT.period)
    events = st.lists(st.tuples(event, small, small, pause), min_size=3 * months, max_size=3 * months)
    return faulty, draw(events)


@settings(
    deadline=None,
    max_examples=20 * ROUNDS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(decades(), skews, lags)
def test_ten_years_of_the_default_schedule(
    decade: tuple[bool, list[Happening]], skews: tuple[float, ...], lags: tuple[float, ...]
) -> None:
    """Every promise of a fleet holds for ten years, whatever happens three times a month."""
    faulty, events = decade
    simulated = fleet(DEFAULT, skews, lags, faulty=faulty)
    for number, (event, one, other, pause) in enumerate(events):
        simulated.pass_time(max(0.0, NOW + number * DEFAULT.period / 3 - simulated.now))
        EVENTS[event](simulated, one, other)
        simulated.pass_time(pause)
    simulated.pass_time(max(0.0, NOW + TEN_YEARS - simulated.now))
    simulated.agree()
    assert simulated.now >= NOW + TEN_YEARS
