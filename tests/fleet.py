"""A fleet of replicas on a simulated clock, and what is promised of it whatever happens.

Replicas with wrong clocks poll one store, which may be flushed, restored or lose a write; they sleep, start
anew, and operators revoke, rotate and change the algorithm through them. The fleet keeps every key set that
any replica ever served, which stands for every receiver there could be: one that fetched at that instant. A
few receivers are real: they fetch, cache, are cut off, and verify real tokens.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from s2s_mesh import claims
from s2s_mesh.errors import ConfigError
from s2s_mesh.jwks import JWKSet
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import MAX_PUBLISHED_PER_ALGORITHM, KeyRing
from s2s_mesh.rotation import RotationSchedule

from .fleet_receiver import Receiver
from .key_pool import ALGORITHMS, Keys
from .tokens import EDGE, NOW, WALLETS, header, sign

REPLICAS = range(3)
RECEIVERS = range(2)
TOKEN_SKEW = 15.0  # seconds; clocks that judge iat and exp are better than those that choose keys
Interval = tuple[float, float]
Change = Callable[[KeyRing, float], KeyRing]


@functools.lru_cache(maxsize=4096)
def parse(document: bytes, schedule: RotationSchedule) -> KeyRing:
    """Rings are immutable, so equal documents may share one."""
    return KeyRing.parse(document, issuer=EDGE, schedule=schedule)


def published(ring: KeyRing, clock: float) -> Counter[str]:
    """How many keys of each algorithm the JWKS holds."""
    return Counter(key.alg for key in ring.jwks(clock).keys.values())


def most_published(ring: KeyRing, clock: float) -> int:
    """The largest of these numbers; 0 once all keys have run out."""
    return max(published(ring, clock).values(), default=0)


class Served:
    """A key set that one replica served from one instant to another, both included."""

    def __init__(self, at: float, kids: frozenset[str]) -> None:
        self.start = self.end = at
        self.kids = kids


class Token:
    """A token that is still good.

    `early`: its key signs before its lead, which only the events allow that leave no other key: a first
    start, a revocation, a fleet that slept through a rotation.
    """

    def __init__(self, kid: str, at: float, expires: float, *, early: bool) -> None:
        self.kid = kid
        self.at = at
        self.expires = expires
        self.early = early
        self.raw: bytes | None = None


class Replica:
    """One process. Its clock shows `offset` seconds more than true time; it polls `lag` after a change."""

    def __init__(self, offset: float, lag: float) -> None:
        self.offset = offset
        self.lag = lag
        self.alg = ALGORITHMS[0]
        self.polls_at = 0.0
        self.awake = True
        self.serving = False
        self.served: list[Served] = []
        self.ring: KeyRing | None = None
        self.revoked: set[str] = set()


def covered(start: float, end: float, excuses: list[Interval]) -> bool:
    """Whether the intervals together cover all from start to end."""
    for begin, until in sorted(excuses):
        if begin <= start <= until:
            if end <= until:
                return True
            start = until
    return False


class Fleet:
    """Promises that are checked whenever a replica polls, and whenever `watch_all` or `call` is called:

    * a token verifies at every receiver whose key set is younger than the schedule's bound, and at every one
      that fetches while the token is good, unless its key was revoked or the store lost the key meanwhile;
    * nobody signs with a key that it does not serve, that is retired, or that it knows to be revoked;
    * no more than four keys of one algorithm are published, unless rings had to be merged;
    * nobody serves a revoked key for longer than the replica lag, so that no receiver accepts it beyond the
      distrust bound;
    * whoever has polled can sign;
    * nobody who has learned of a revocation forgets it.

    Args:
        schedule: of every replica.
        offsets, lags: of each replica, in seconds.
        faulty: whether the store may lose anything.
    """

    def __init__(
        self,
        schedule: RotationSchedule,
        *,
        offsets: Sequence[float] = (0.0,) * 3,
        lags: Sequence[float],
        faulty: bool,
    ) -> None:
        self.schedule = schedule
        self.faulty = faulty
        self.now = float(NOW)
        self.store: bytes | None = None
        self.replicas = [Replica(offset, lag) for offset, lag in zip(offsets, lags, strict=True)]
        self.receivers = [Receiver(offset, schedule) for offset in (-TOKEN_SKEW, TOKEN_SKEW)]
        self.bound = max(schedule.served_max_age, schedule.foreign_cache) + schedule.stale_grace
        self.keys = Keys()
        self.backups: list[bytes | None] = []
        self.tokens: list[Token] = []
        self.born: dict[str, float] = {}  # when a key was first written
        self.lost: dict[str, list[Interval]] = {}  # while the store, or who reads it, may lack a key
        self.revoked: dict[str, float] = {}  # since when the store has known it; inf while it does not
        self._asking = False
        for number in REPLICAS:
            self.poll(number)

    # -- what a replica does ----------------------------------------------------------------------------

    def clock(self, number: int) -> float:
        return self.now + self.replicas[number].offset

    def awake(self) -> Iterator[int]:
        return (number for number in REPLICAS if self.replicas[number].awake)

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
                self._ask_holders(number)
                continue
            ring = ring or KeyRing(EDGE, self.schedule)
            due = self._advanced(ring, number)
            if due == loaded:
                break
            due = due.written()
            if self.store == stored:
                self._write(due)
                break
        else:
            raise AssertionError("no write ever wins")
        self._adopt(number, due)

    def _ask_holders(self, number: int) -> None:
        if not self._asking:
            self._asking = True
            for other in REPLICAS:
                if other != number and self.replicas[other].awake and self.replicas[other].ring is not None:
                    self.poll(other)
            self._asking = False

    def _advanced(self, ring: KeyRing, number: int) -> KeyRing:
        clock, alg = self.clock(number), self.replicas[number].alg
        due = ring.advance(clock, generate=lambda: self.keys(alg))
        before = published(ring, clock)
        for each, count in published(due, clock).items():
            assert count <= max(MAX_PUBLISHED_PER_ALGORITHM, before[each])
        return due

    def _adopt(self, number: int, ring: KeyRing) -> None:
        replica, clock = self.replicas[number], self.clock(number)
        replica.ring = ring
        replica.polls_at = max(self.now, ring.next_change(clock) - replica.offset) + replica.lag
        if self.store is None or parse(self.store, self.schedule) != ring:  # somebody wrote meanwhile
            replica.polls_at = self.now + replica.lag
        replica.revoked |= {kid for kid, record in ring.records.items() if record.revoked_at is not None}
        assert ring.signing_record(clock) is not None
        assert self._advanced(ring, number) is ring
        self.watch(number)

    def _write(self, ring: KeyRing) -> None:
        self.backups.append(self.store)
        self._replace_store(ring.to_bytes())
        for kid in ring.records:
            self.born.setdefault(kid, self.now)
            for index, (start, end) in enumerate(self.lost.get(kid, [])):
                if end == math.inf:
                    self.lost[kid][index] = (start, self.now + self.schedule.replica_lag)

    def _replace_store(self, document: bytes | None) -> None:
        self.store = document
        records = {} if document is None else parse(document, self.schedule).records
        for kid in self.revoked.keys() & records.keys():
            known = records[kid].revoked_at is not None
            self.revoked[kid] = min(self.now, self.revoked[kid]) if known else math.inf
        for replica in self.replicas:
            replica.polls_at = min(replica.polls_at, self.now + replica.lag)

    # -- what anybody sees ------------------------------------------------------------------------------

    def watch_all(self) -> None:
        for number in REPLICAS:
            self.watch(number)

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
        assert all(self.now <= self.revoked.get(kid, math.inf) + self.schedule.replica_lag for kid in kids)
        assert self.faulty or most_published(ring, clock) <= MAX_PUBLISHED_PER_ALGORITHM
        self.tokens = [token for token in self.tokens if self.now < token.expires]
        for token in self.tokens:
            assert token.kid in kids or self._excused(token, self.now, self.now)
        record = ring.signing_record(clock)
        if record is not None:
            self._sign(record, replica, ring, kids)

    def _sign(self, record: KeyRecord, replica: Replica, ring: KeyRing, kids: frozenset[str]) -> Token:
        assert record.kid in kids
        assert record.kid not in replica.revoked
        assert self.now < record.sign_until + self.schedule.max_skew
        early = self._early(record, ring)
        token = Token(record.kid, self.now, self.now + self.schedule.max_token_life, early=early)
        for other in self.replicas:
            for served in other.served:
                if record.kid not in served.kids and served.end > self.now - self.bound:
                    assert self._excused(token, max(served.start, self.now - self.bound), served.end)
        known = [one for one in self.tokens if one.kid == token.kid and one.at == token.at]
        if not known:
            self.tokens.append(token)
        return known[0] if known else token

    def _early(self, record: KeyRecord, ring: KeyRing) -> bool:
        """Whether the key is used before its lead because there was no other."""
        first_of_its_ring = record.sign_from < record.created
        started_by_revocation = (
            bool(self.revoked) and record.sign_from < record.publish_at + self.schedule.lead
        )
        before = [r for r in ring.records.values() if r.revoked_at is None and r.sign_from < record.sign_from]
        after_a_gap = all(other.sign_until < record.sign_from for other in before)
        return first_of_its_ring or started_by_revocation or after_a_gap

    def _excused(self, token: Token, start: float, end: float) -> bool:
        """Whether a key set that was served from start to end may lack this token's key."""
        excuses = list(self.lost.get(token.kid, []))
        if token.early:
            excuses.append((-math.inf, self.born[token.kid] + self.schedule.replica_lag))
        return token.kid in self.revoked or covered(start, end, excuses)

    # -- real tokens at real receivers ------------------------------------------------------------------

    def call(self, number: int, which: int, *, cut_off: float, token_skew: float) -> None:
        """A replica calls a receiver, which also sees all former tokens again, and stolen keys.

        Args:
            number, which: who calls whom.
            cut_off: seconds for which that receiver has not reached the issuer.
            token_skew: seconds by which the caller's clock is ahead when it writes `iat` and `exp`.
        """
        replica, receiver = self.replicas[number], self._connected(which)
        receiver.online = cut_off == 0
        self.pass_time(cut_off)
        if replica.awake and replica.ring is not None:
            record = replica.ring.signing_record(self.clock(number))
            assert record is not None
            kids = frozenset(replica.ring.jwks(self.clock(number)).keys)
            token = self._sign(record, replica, replica.ring, kids)
            token.raw = self._minted(record.kid, self.now + token_skew)
            token.expires = min(token.expires, math.floor(self.now + token_skew) - token_skew + self._life)
        for token in self.tokens:
            if token.raw is not None and self.now < token.expires:
                assert self._accepted(receiver, token.raw) or self._may_refuse(receiver, token)
        self._refuses_revoked_keys(receiver)

    def steal(self, number: int, which: int) -> None:
        """The signing key is stolen, and revoked while a receiver that has it is cut off."""
        replica, receiver = self.replicas[number], self._connected(which)
        if replica.awake:
            self.poll(number)
            assert replica.ring is not None
            record = replica.ring.signing_record(self.clock(number))
            assert record is not None
            self._accepted(receiver, self._minted(record.kid, self.now))
            receiver.online = False
            self.revoke(number, list(replica.ring.records).index(record.kid))
            self.pass_time(self._distrust + 1)
            self._refuses_revoked_keys(receiver)

    def _connected(self, which: int) -> Receiver:
        """A receiver with keys that are fresh, if anybody answers."""
        self.pass_time(15)  # longer than the pause between two fetches
        receiver = self.receivers[which]
        receiver.online = True
        receiver.refresh(self.now + receiver.offset, self._jwks)
        return receiver

    def _refuses_revoked_keys(self, receiver: Receiver) -> None:
        for kid, since in list(self.revoked.items())[-3:]:
            if self.now > since + self._distrust:
                assert not self._accepted(receiver, self._minted(kid, self.now))

    @property
    def _distrust(self) -> float:
        """Seconds from a revocation to the last token of that key at a receiver of ours."""
        return self.schedule.replica_lag + self.schedule.served_max_age + self.schedule.stale_grace

    @property
    def _life(self) -> int:
        return int(self.schedule.max_token_life)

    def _minted(self, kid: str, at: float) -> bytes:
        key = self.keys.made[kid]
        members = claims.build(issuer=EDGE, audience=WALLETS, scopes=None, now=at, life=self._life)
        return sign(header(key), members, key)

    def _accepted(self, receiver: Receiver, token: bytes) -> bool:
        return receiver.accepts(token, self.now + receiver.offset, self._jwks)

    def _jwks(self) -> JWKSet | None:
        """The answer of some replica; each second another one's turn."""
        answers = [
            replica.ring.jwks(self.now + replica.offset)
            for replica in self.replicas
            if replica.awake and replica.ring is not None
        ]
        return answers[int(self.now) % len(answers)] if answers else None

    def _may_refuse(self, receiver: Receiver, token: Token) -> bool:
        at = -math.inf if receiver.fetched_at is None else receiver.fetched_at - receiver.offset
        usable = self.schedule.served_max_age + self.schedule.stale_grace
        cut_off = not receiver.online or self._jwks() is None
        return (cut_off and self.now >= at + usable) or self._excused(token, at, at)

    # -- what happens -----------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Everybody who is awake polls when it is time."""
        end = self.now + seconds
        while True:
            at, number = min(((self.replicas[n].polls_at, n) for n in self.awake()), default=(math.inf, 0))
            if at > end:
                break
            self.now = max(self.now, at)
            self.poll(number)
        self.now = end
        self.watch_all()

    def lose_the_store(self, seconds: float) -> None:
        """Everybody goes on with what is in memory. (An outage that begins before everybody has seen the last
        write, and outlasts the lead, is a documented limit.)"""
        for number in [*self.awake(), *self.awake()]:
            self.poll(number)
        for _ in range(4):
            self.now += seconds / 4
            self.watch_all()
        for replica in self.replicas:
            replica.polls_at = max(replica.polls_at, self.now + replica.lag)

    def poll_at_once(self, number: int, other: int) -> None:
        if number != other and {number, other} <= set(self.awake()):
            self.poll(number, meanwhile=other)

    def sleep(self, number: int) -> None:
        self.watch(number)
        self.replicas[number].awake = self.replicas[number].serving = False

    def wake(self, number: int) -> None:
        """Whoever wakes polls before it does anything else."""
        if not self.replicas[number].awake:
            self.poll(number)
            self.replicas[number].awake = True

    def start_anew(self, number: int, alg: str) -> None:
        """A new process in the place of an old one remembers nothing, and may be configured differently."""
        self.watch(number)
        replica = self.replicas[number]
        replica.ring, replica.revoked, replica.alg, replica.awake = None, set(), alg, True
        self.poll(number)

    def change(self, number: int, change: Change) -> None:
        """An operator changes the ring through one replica, which has just polled."""
        self.poll(number)
        held, clock = self.replicas[number].ring, self.clock(number)
        assert held is not None
        ring = change(held, clock)
        if ring is not held:
            ring = self._advanced(ring, number).written()
            self._write(ring)
            self._adopt(number, ring)

    def revoke(self, number: int, which: int) -> None:
        """Any key of the ring, be it retired or the next one."""

        def compromise(ring: KeyRing, clock: float) -> KeyRing:
            kid = list(ring.records)[which % len(ring.records)]
            self.revoked.setdefault(kid, math.inf)
            self.replicas[number].revoked.add(kid)
            return ring.compromise(kid, clock)

        if self.replicas[number].awake:
            self.change(number, compromise)

    def rotate(self, number: int, *, at_once: bool) -> None:
        """`keys rotate`, with or without `--now`."""

        def hand_over(ring: KeyRing, clock: float) -> KeyRing:
            successor, ripe_at = ring.successor(clock), ring.ripe_at(clock)
            if successor is None or ripe_at is None:
                return ring
            start = clock if at_once else max(clock, ripe_at)
            if ripe_at > start or successor.sign_from <= start:
                return ring
            return self._unless_full(ring, clock, lambda: ring.hand_over(clock, start))

        if self.replicas[number].awake:
            self.change(number, hand_over)

    def change_algorithm(self, number: int, alg: str) -> None:
        """`keys rotate --algorithm`, where the next key is of another."""

        def replace(ring: KeyRing, clock: float) -> KeyRing:
            successor = ring.successor(clock)
            if successor is not None and successor.public.alg == alg:
                return ring
            return self._unless_full(ring, clock, lambda: ring.replace_successor(clock, self.keys(alg)))

        if self.replicas[number].awake:
            self.change(number, replace)

    def _unless_full(self, ring: KeyRing, clock: float, change: Callable[[], KeyRing]) -> KeyRing:
        try:
            return change()
        except ConfigError:
            # nothing else refuses; for a replica with a slow clock the oldest is published a little longer
            slow = clock - 2 * self.schedule.max_skew
            assert most_published(ring, slow) == MAX_PUBLISHED_PER_ALGORITHM or self.faulty
            return ring

    def flush(self) -> None:
        self._lose(None)

    def restore(self, which: int) -> None:
        """Some backup, also one from before the first ring."""
        self._lose(self.backups[which % len(self.backups)])

    def lose_the_last_write(self) -> None:
        self._lose(self.backups[-1])

    def _lose(self, document: bytes | None) -> None:
        left = set() if document is None else set(parse(document, self.schedule).records)
        for kid in self.revoked.keys() - left:
            self.revoked[kid] = math.inf
        for kid in self.born.keys() - left:
            intervals = self.lost.setdefault(kid, [])
            if not intervals or intervals[-1][1] != math.inf:
                intervals.append((self.now, math.inf))
        self._replace_store(document)

    def agree(self) -> None:
        """Two rounds, and whoever is awake says the same; what anybody knows to be revoked is so for all."""
        for number in [*self.awake(), *self.awake()]:
            self.poll(number)
        awake = [self.replicas[number] for number in self.awake()]
        if not awake:
            return
        assert self.store is not None
        stored = parse(self.store, self.schedule)
        rings = [replica.ring for replica in awake if replica.ring is not None]
        assert len(rings) == len(awake)
        assert len({ring.jwks(self.now).to_bytes() for ring in [stored, *rings]}) == 1
        if len({replica.offset for replica in self.replicas}) == 1:
            assert all(ring == stored for ring in rings)
        for kid in set().union(*(replica.revoked for replica in awake)):
            assert kid not in stored.jwks(self.now).keys
            for replica, ring in zip(awake, rings, strict=True):
                signing = ring.signing_record(self.now + replica.offset)
                assert signing is not None
                assert signing.kid != kid
