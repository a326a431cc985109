"""Rings under everything that happens to them: merging is a semilattice, and a fleet keeps its promises.

The second half is a model of a fleet on a simulated clock: replicas with wrong clocks poll one store, which
may be flushed, restored or lose a write; they sleep, start anew and revoke. It keeps every key set that any
replica ever served, which stands for every receiver there could be: one that fetched at that instant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from jwcrypto import jwk

from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import MAX_PUBLISHED_PER_ALGORITHM, KeyRing
from s2s_mesh.keys import SigningKey, VerificationKey, thumbprint
from s2s_mesh.rotation import RotationSchedule

ISSUER = "https://wallets.example.com"
T0 = 1_800_000_000.0
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
REPLICAS = range(3)


@functools.cache
def pool(number: int) -> SigningKey:
    """The n-th of an endless row of real keys, the same ones in every run."""
    private = ec.derive_private_key(2**200 + number, ec.SECP256R1())
    members = jwk.JWK.from_pyca(private).export(as_dict=True)
    public = {name: members[name] for name in ("kty", "crv", "x", "y")}
    return SigningKey(
        VerificationKey.parse({**public, "alg": "ES256", "kid": thumbprint(public)}), {"d": members["d"]}
    )


class Keys:
    """Hands out a new key of the pool each time."""

    def __init__(self) -> None:
        self._used = 0

    def __call__(self) -> SigningKey:
        self._used += 1
        return pool(self._used)


@functools.lru_cache(maxsize=4096)
def parse(document: bytes, schedule: RotationSchedule) -> KeyRing:
    """Rings are immutable, so equal documents may share one."""
    return KeyRing.parse(document, issuer=ISSUER, schedule=schedule)


# -- merging is a semilattice ---------------------------------------------------------------------------

STEPS = [0.0, 1.0, TIGHT.lead / 2, TIGHT.period / 2, TIGHT.period, 2 * TIGHT.period + TIGHT.drain + 120]
events = st.tuples(
    st.integers(0, 2), st.sampled_from(["advance", "advance", "revoke", "merge", "write"]), st.integers(0, 5)
)


@st.composite
def rings(draw: st.DrawFn) -> tuple[KeyRing, KeyRing, KeyRing]:
    """Three rings of one issuer with random histories that may have touched."""
    keys, now = Keys(), T0
    first = KeyRing(ISSUER, TIGHT).advance(now, generate=keys)
    empty = KeyRing(ISSUER, TIGHT)
    branches = [first if draw(st.booleans()) else empty.advance(now, generate=keys) for _ in range(3)]
    for branch, event, number in draw(st.lists(events, max_size=14)):
        ring = branches[branch]
        if event == "advance":
            now += STEPS[number]
            branches[branch] = ring.advance(now, generate=keys)
        elif event == "revoke" and ring.records:
            branches[branch] = ring.compromise(list(ring.records)[number % len(ring.records)], now - number)
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
        assert same(KeyRing.parse(ring.to_bytes(), issuer=ISSUER, schedule=TIGHT), ring)


# -- a fleet --------------------------------------------------------------------------------------------

Interval = tuple[float, float]


class Served:
    """A key set that one replica served from one instant to another, both included."""

    def __init__(self, at: float, kids: frozenset[str]) -> None:
        self.start = self.end = at
        self.kids = kids


class Token:
    """A token that is still good. `early`: its key signs before its lead, which only the events allow that
    leave no other key: a first start, a revocation, a fleet that slept through a rotation."""

    def __init__(self, kid: str, at: float, expires: float, *, early: bool) -> None:
        self.kid = kid
        self.at = at
        self.expires = expires
        self.early = early


class Replica:
    """One process. Its clock shows `offset` seconds more than true time; it polls `lag` after a change."""

    def __init__(self, offset: float, lag: float) -> None:
        self.offset = offset
        self.lag = lag
        self.polls_at = 0.0
        self.awake = True
        self.serving = False
        self.served: list[Served] = []
        self.ring: KeyRing | None = None
        self.revoked: set[str] = set()

    def start_anew(self) -> None:
        self.ring = None
        self.revoked = set()


def covered(start: float, end: float, excuses: list[Interval]) -> bool:
    """Whether the intervals together cover all from start to end."""
    for begin, until in sorted(excuses):
        if begin <= start <= until:
            if end <= until:
                return True
            start = until
    return False


class Fleet(RuleBasedStateMachine):
    """Promises that are checked after every step, and whenever a replica polls:

    * a token verifies at every receiver whose key set is younger than the schedule's bound, and at every one
      that fetches while the token is good, unless its key was revoked or the store lost the key meanwhile;
    * nobody signs with a key that it does not serve, that is retired, or that it knows to be revoked;
    * whoever has polled can sign;
    * nobody who has learned of a revocation forgets it.
    """

    store: bytes | None = None
    now = T0

    @initialize(
        tight=st.booleans(),
        faulty=st.booleans(),
        skews=st.tuples(*[st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])] * 3) | st.just((0.0, 0.0, 0.0)),
        lags=st.tuples(*[st.sampled_from([0.05, 0.5, 1.0])] * 3),
    )
    def found(
        self, tight: bool, faulty: bool, skews: tuple[float, float, float], lags: tuple[float, float, float]
    ) -> None:
        """`max_skew` is the largest difference of two clocks; the default has room for twice that."""
        self.schedule = TIGHT if tight else RotationSchedule.DEFAULT
        self.faulty = faulty
        self.equal_clocks = len(set(skews)) == 1
        reach = self.schedule.max_skew * (0.5 if tight else 1.0)
        self.replicas = [
            Replica(reach * skew, self.schedule.replica_lag * lag)
            for skew, lag in zip(skews, lags, strict=True)
        ]
        slowest_cache = max(self.schedule.served_max_age, self.schedule.foreign_cache)
        self.bound = slowest_cache + self.schedule.stale_grace
        self.keys = Keys()
        self.backups: list[bytes | None] = []
        self.tokens: list[Token] = []
        self.born: dict[str, float] = {}  # when a key was first written
        self.lost: dict[str, list[Interval]] = {}  # while the store, or who reads it, may lack a key
        self.revoked: set[str] = set()
        self.asking = False
        for number in REPLICAS:
            self.poll(number)

    # -- what a replica does ----------------------------------------------------------------------------

    def clock(self, number: int) -> float:
        return self.now + self.replicas[number].offset

    def poll(self, number: int, *, meanwhile: int | None = None) -> None:
        """Load, merge, advance, compare and set; `meanwhile` another replica polls between load and write."""
        replica, asked = self.replicas[number], False
        self.watch(number)
        for _ in range(10):
            stored = self.store
            if meanwhile is not None:
                other, meanwhile = meanwhile, None
                self.poll(other)
            loaded = None if stored is None else parse(stored, self.schedule)
            ring = replica.ring.merge(loaded) if replica.ring and loaded else replica.ring or loaded
            if (ring is None or ring.signing_record(self.clock(number)) is None) and not asked:
                asked = True
                self.ask_holders(number)
                continue
            ring = ring or KeyRing(ISSUER, self.schedule)
            due = ring.advance(self.clock(number), generate=self.keys)
            if due == loaded:
                break
            due = due.written()
            if self.store == stored:
                self.write(due)
                break
        else:
            raise AssertionError("no write ever wins")
        self.adopt(number, due)

    def ask_holders(self, number: int) -> None:
        if not self.asking:
            self.asking = True
            for other in REPLICAS:
                if other != number and self.replicas[other].awake and self.replicas[other].ring is not None:
                    self.poll(other)
            self.asking = False

    def adopt(self, number: int, ring: KeyRing) -> None:
        replica, clock = self.replicas[number], self.clock(number)
        replica.ring = ring
        replica.polls_at = max(self.now, ring.next_change(clock) - replica.offset) + replica.lag
        if self.store is None or parse(self.store, self.schedule) != ring:  # somebody wrote meanwhile
            replica.polls_at = self.now + replica.lag
        replica.revoked |= {kid for kid, record in ring.records.items() if record.revoked_at is not None}
        assert ring.signing_record(clock) is not None
        assert ring.advance(clock, generate=self.keys) is ring
        self.watch(number)

    def write(self, ring: KeyRing) -> None:
        self.backups.append(self.store)
        self.replace_store(ring.to_bytes())
        for kid in ring.records:
            self.born.setdefault(kid, self.now)
            for index, (start, end) in enumerate(self.lost.get(kid, [])):
                if end == math.inf:
                    self.lost[kid][index] = (start, self.now + self.schedule.replica_lag)

    def replace_store(self, document: bytes | None) -> None:
        self.store = document
        for replica in self.replicas:
            replica.polls_at = min(replica.polls_at, self.now + replica.lag)

    # -- what anybody sees ------------------------------------------------------------------------------

    def watch(self, number: int) -> None:
        """Fetch this replica's key set, and have it sign."""
        replica, clock = self.replicas[number], self.clock(number)
        if not replica.awake or replica.ring is None:
            return
        ring = replica.ring
        kids = frozenset(ring.jwks(clock).keys)
        if replica.serving and replica.served[-1].kids == kids:
            replica.served[-1].end = self.now
        else:
            replica.served.append(Served(self.now, kids))
        replica.serving = True
        replica.served = [one for one in replica.served if one.end > self.now - self.bound]
        assert not kids & replica.revoked
        assert self.faulty or len(kids) <= MAX_PUBLISHED_PER_ALGORITHM
        self.tokens = [token for token in self.tokens if self.now < token.expires]
        for token in self.tokens:
            assert token.kid in kids or self.excused(token, self.now, self.now)
        record = ring.signing_record(clock)
        if record is not None:
            self.sign(record, ring, kids, replica)

    def sign(self, record: KeyRecord, ring: KeyRing, kids: frozenset[str], replica: Replica) -> None:
        assert record.kid in kids
        assert record.kid not in replica.revoked
        assert self.now < record.sign_until + self.schedule.max_skew
        early = self.early(record, ring)
        token = Token(record.kid, self.now, self.now + self.schedule.max_token_life, early=early)
        for other in self.replicas:
            for served in other.served:
                if record.kid not in served.kids and served.end > self.now - self.bound:
                    assert self.excused(token, max(served.start, self.now - self.bound), served.end)
        if not any(known.kid == token.kid and known.at == token.at for known in self.tokens):
            self.tokens.append(token)

    def early(self, record: KeyRecord, ring: KeyRing) -> bool:
        """Whether the key is used before its lead because there was no other."""
        first_of_its_ring = record.sign_from < record.created
        started_by_revocation = (
            bool(self.revoked) and record.sign_from < record.publish_at + self.schedule.lead
        )
        before = [r for r in ring.records.values() if r.revoked_at is None and r.sign_from < record.sign_from]
        after_a_gap = all(other.sign_until < record.sign_from for other in before)
        return first_of_its_ring or started_by_revocation or after_a_gap

    def excused(self, token: Token, start: float, end: float) -> bool:
        """Whether a key set that was served from start to end may lack this token's key."""
        excuses = list(self.lost.get(token.kid, []))
        if token.early:
            excuses.append((-math.inf, self.born[token.kid] + self.schedule.replica_lag))
        return token.kid in self.revoked or covered(start, end, excuses)

    @invariant()
    def everybody_is_watched(self) -> None:
        for number in REPLICAS:
            self.watch(number)

    # -- what happens -----------------------------------------------------------------------------------

    def awake(self) -> Iterator[int]:
        return (number for number in REPLICAS if self.replicas[number].awake)

    times = st.sampled_from(["poll", "lag", "bound", "lead", "drain", "period", "long"])

    def seconds(self, name: str) -> float:
        schedule = self.schedule
        return {
            "poll": schedule.poll_interval,
            "lag": schedule.replica_lag,
            "bound": self.bound,
            "lead": schedule.lead,
            "drain": schedule.drain,
            "period": schedule.period,
            "long": 2.5 * schedule.period,
        }[name]

    @rule(time=times)
    def time_passes(self, time: str) -> None:
        end = self.now + self.seconds(time)
        while True:
            at, number = min(((self.replicas[n].polls_at, n) for n in self.awake()), default=(math.inf, 0))
            if at > end:
                break
            self.now = max(self.now, at)
            self.poll(number)
        self.now = end

    @rule(time=times)
    def the_store_is_down(self, time: str) -> None:
        """Everybody goes on with what is in memory. (An outage that begins before everybody has seen the last
        write, and outlasts the lead, is a documented limit.)"""
        for number in [*self.awake(), *self.awake()]:
            self.poll(number)
        for _ in range(4):
            self.now += self.seconds(time) / 4
            self.everybody_is_watched()
        for replica in self.replicas:
            replica.polls_at = max(replica.polls_at, self.now + replica.lag)

    @rule(number=st.sampled_from(REPLICAS), other=st.sampled_from(REPLICAS))
    def two_poll_at_once(self, number: int, other: int) -> None:
        if number != other and {number, other} <= set(self.awake()):
            self.poll(number, meanwhile=other)

    @rule(number=st.sampled_from(REPLICAS))
    def sleep(self, number: int) -> None:
        self.watch(number)
        self.replicas[number].awake = self.replicas[number].serving = False

    @rule(number=st.sampled_from(REPLICAS))
    def wake(self, number: int) -> None:
        """Whoever wakes polls before it does anything else."""
        if not self.replicas[number].awake:
            self.poll(number)
            self.replicas[number].awake = True

    @rule(number=st.sampled_from(REPLICAS))
    def start_anew(self, number: int) -> None:
        """A new process in the place of an old one remembers nothing."""
        self.watch(number)
        self.replicas[number].start_anew()
        self.replicas[number].awake = True
        self.poll(number)

    @rule(number=st.sampled_from(REPLICAS), which=st.integers(0, 5))
    def revoke(self, number: int, which: int) -> None:
        """An operator revokes a key through one replica, which has just polled."""
        if not self.replicas[number].awake:
            return
        self.poll(number)
        ring = self.replicas[number].ring
        assert ring is not None
        kid = list(ring.records)[which % len(ring.records)]
        self.revoked.add(kid)
        self.replicas[number].revoked.add(kid)
        clock = self.clock(number)
        ring = ring.compromise(kid, clock).advance(clock, generate=self.keys).written()
        self.write(ring)
        self.adopt(number, ring)

    @precondition(lambda self: self.faulty)
    @rule()
    def flush(self) -> None:
        self.lose(None)

    @precondition(lambda self: self.faulty and self.backups)
    @rule(which=st.integers(0, 20))
    def restore(self, which: int) -> None:
        self.lose(self.backups[which % len(self.backups)])

    @precondition(lambda self: self.faulty and self.backups)
    @rule()
    def lose_the_last_write(self) -> None:
        self.lose(self.backups[-1])

    def lose(self, document: bytes | None) -> None:
        left = set() if document is None else set(parse(document, self.schedule).records)
        for kid in self.born.keys() - left:
            intervals = self.lost.setdefault(kid, [])
            if not intervals or intervals[-1][1] != math.inf:
                intervals.append((self.now, math.inf))
        self.replace_store(document)

    @rule()
    def everybody_polls(self) -> None:
        """Two rounds, and whoever is awake says the same; what anybody knows to be revoked is so for all."""
        for number in [*self.awake(), *self.awake()]:
            self.poll(number)
        awake: list[Any] = [self.replicas[number] for number in self.awake()]
        if not awake:
            return
        assert self.store is not None
        stored = parse(self.store, self.schedule)
        assert len({ring.jwks(self.now).to_bytes() for ring in [stored, *(one.ring for one in awake)]}) == 1
        if self.equal_clocks:
            assert all(one.ring == stored for one in awake)
        for kid in set().union(*(one.revoked for one in awake)):
            assert kid not in stored.jwks(self.now).keys
            assert all(one.ring.signing_record(self.now + one.offset).kid != kid for one in awake)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    deadline=None,
    max_examples=120,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
