"""The key ring: what time, revocation and merging make of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from s2s_mesh.errors import ConfigError, KeyStoreError, StoreReason
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import MAX_PUBLISHED_PER_ALGORITHM, KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.rotation import KeyState, RotationSchedule

from .tokens import EDGE, WALLETS, key

T0 = 1_800_000_000.0
DAY = 86400.0
SCHEDULE = RotationSchedule.DEFAULT
LEAD, DRAIN, PERIOD, SKEW = SCHEDULE.lead, SCHEDULE.drain, SCHEDULE.period, SCHEDULE.max_skew


class Keys:
    """Hands out real keys, the same ones to every test, and counts them."""

    def __init__(self, name: str = "ring", alg: str = "ES256") -> None:
        self._name, self._alg = name, alg
        self.made: list[SigningKey] = []

    def __call__(self) -> SigningKey:
        self.made.append(key(self._alg, f"{self._name} {len(self.made)}"))
        return self.made[-1]


def never() -> SigningKey:
    raise AssertionError("no key is due")


def first_ring(now: float = T0, name: str = "ring") -> KeyRing:
    return KeyRing(WALLETS, SCHEDULE).advance(now, generate=Keys(name))


def ring_of(*records: KeyRecord) -> KeyRing:
    return KeyRing(WALLETS, SCHEDULE, records)


def record(pair: SigningKey, *, sign_from: float, sign_until: float, **changes: Any) -> KeyRecord:
    times = {"created": T0, "publish_at": T0, "sign_from": sign_from, "sign_until": sign_until}
    return KeyRecord(
        **{"public": pair.public, "private": pair, "remove_at": sign_until + DRAIN, **times, **changes}
    )


def signer(ring: KeyRing, now: float) -> str:
    found = ring.signing_key(now)
    assert found is not None
    return found.kid


def published(ring: KeyRing, now: float) -> set[str]:
    return set(ring.jwks(now).keys)


def has_private_half(ring: KeyRing, pair: SigningKey) -> bool:
    """Whether the document that would be stored holds the private half."""
    return all(value.encode() in ring.to_bytes() for value in pair.private_members().values())


A, B, C = (key("ES256", f"ring {n}") for n in range(3))


# -- first start ----------------------------------------------------------------------------------------


def test_first_ring() -> None:
    """A first ring has a key that signs at once and its successor; both are published at once."""
    keys = Keys()
    ring = KeyRing(WALLETS, SCHEDULE).advance(T0, generate=keys)
    assert keys.made == [A, B]
    assert signer(ring, T0) == A.kid
    assert published(ring, T0) == {A.kid, B.kid}
    assert ring.records[A.kid].state(T0) is KeyState.ACTIVE
    assert ring.records[B.kid].state(T0) is KeyState.PRE_ACTIVATION


def test_an_empty_ring_says_nothing() -> None:
    """A ring without records has nothing to sign with and nothing to publish."""
    ring = KeyRing(WALLETS, SCHEDULE)
    assert ring.signing_key(T0) is None
    assert ring.signing_record(T0) is None
    assert published(ring, T0) == set()
    assert ring.next_change(T0) == T0 + SCHEDULE.replica_lag


@pytest.mark.parametrize("behind", [0, 1, SKEW, 2 * SKEW, 10 * SKEW])
def test_a_slow_clock_can_use_the_first_key(behind: float) -> None:
    """A replica whose clock is behind signs with the first key too, serves it, and finds nothing to do."""
    ring = first_ring()
    assert signer(ring, T0 - behind) == A.kid
    assert A.kid in published(ring, T0 - behind)
    assert ring.advance(T0 - behind, generate=never) is ring


def test_the_first_key_is_active_within_twice_the_skew() -> None:
    """Two clocks that are both off by the whole skew still agree that the first key is active."""
    first = first_ring().records[A.kid]
    assert first.state(T0 - 2 * SKEW) is KeyState.ACTIVE
    assert first.state(T0 - 2 * SKEW - 1) is KeyState.PRE_ACTIVATION


# -- time -----------------------------------------------------------------------------------------------


def test_nothing_due() -> None:
    """Until something is due, `advance` returns the same ring and makes no key."""
    ring = first_ring()
    assert ring.next_change(T0) == T0 + PERIOD
    for now in (T0, T0 + 1, T0 + LEAD, T0 + DAY, T0 + PERIOD - 0.001):
        assert ring.advance(now, generate=never) is ring
        assert signer(ring, now) == A.kid


def test_rotation() -> None:
    """At the end of its period a key hands over to its successor, is erased and stays published."""
    keys = Keys()
    ring = KeyRing(WALLETS, SCHEDULE).advance(T0, generate=keys)
    end = T0 + PERIOD
    assert signer(ring, end - 0.001) == A.kid
    assert signer(ring, end) == B.kid
    turned = ring.advance(end, generate=keys)
    assert keys.made == [A, B, C]
    assert signer(turned, end) == B.kid
    assert published(turned, end) == {A.kid, B.kid, C.kid}
    assert has_private_half(ring, A)
    assert not has_private_half(turned, A)
    assert has_private_half(turned, B)
    assert turned.records[A.kid].state(end) is KeyState.DEACTIVATED


def test_removal() -> None:
    """A key is published until `remove_at`, and its record goes after twice the skew more."""
    end = T0 + PERIOD
    ring = first_ring().advance(end, generate=Keys("later"))
    removed = end + DRAIN
    assert A.kid in published(ring, removed - 0.001)
    assert A.kid not in published(ring, removed)
    assert ring.records[A.kid].state(removed) is KeyState.DESTROYED
    assert ring.advance(removed + 2 * SKEW - 0.001, generate=never) is ring
    assert A.kid not in ring.advance(removed + 2 * SKEW, generate=never).records


def test_ten_periods() -> None:
    """Through ten periods there is always a signing key that has been published for the lead."""
    keys = Keys("long")
    ring, now = KeyRing(WALLETS, SCHEDULE), T0
    since: dict[str, float] = {}
    until: dict[str, float] = {}
    seen: dict[str, float] = {}
    while now < T0 + 10 * PERIOD:
        ring = ring.advance(now, generate=keys)
        for kid in published(ring, now):
            seen.setdefault(kid, now)
        kid = signer(ring, now)
        assert kid in published(ring, now)
        since.setdefault(kid, now)
        until[kid] = now
        for used, last in until.items():
            assert used in published(ring, now) or now >= last + DRAIN
        assert len(published(ring, now)) <= 3
        now = min(ring.next_change(now), now + DAY)
    order = sorted(since, key=since.__getitem__)
    assert len(order) == 10
    assert all(since[later] == since[sooner] + PERIOD for sooner, later in pairwise(order))
    assert all(since[kid] - seen[kid] >= LEAD for kid in order[1:])
    assert len(keys.made) == 11


def test_next_change_misses_nothing() -> None:
    """Between an instant and `next_change` neither the signing key, nor the JWKS, nor any state differs."""
    ring = first_ring().advance(T0 + PERIOD, generate=Keys("later"))

    def says(now: float) -> object:
        states = [record.state(now) for record in ring.records.values()]
        return ring.signing_key(now), ring.jwks(now).to_bytes(), states

    now, seen = T0, []
    while published(ring, now):
        change = ring.next_change(now)
        assert change > now
        seen.append(says(now))
        assert says((now + change) / 2) == says(change - 0.001) == seen[-1]
        now = change
    assert len(seen) == 6


def test_a_late_successor_gets_its_lead() -> None:
    """A successor that is made late is still published for the whole lead before its time comes."""
    alone = ring_of(record(A, sign_from=T0, sign_until=T0 + PERIOD))
    late = T0 + PERIOD - 60
    ring = alone.advance(late, generate=Keys("late"))
    (successor,) = published(ring, late) - {A.kid}
    assert ring.records[successor].sign_from == late + LEAD
    assert signer(ring, late) == A.kid
    # nothing else is left to sign with: better a key that some receivers must ask for than none
    assert signer(ring, T0 + PERIOD) == successor


def test_asleep_for_longer_than_every_key() -> None:
    """A ring whose keys are all expired starts anew, and still serves what is not removed yet."""
    ring = first_ring()
    end = T0 + 2 * PERIOD
    assert ring.signing_key(end) is None
    keys = Keys("woken")
    woken = ring.advance(end, generate=keys)
    assert signer(woken, end) == keys.made[0].kid
    assert published(woken, end) == {B.kid, *(pair.kid for pair in keys.made)}
    assert len(keys.made) == 2
    assert not has_private_half(woken, B)


def test_expired_is_not_revoked() -> None:
    """A ring has expired when time has left it without a key to sign with; revoking all is another thing."""
    ring = first_ring()
    ended = T0 + 2 * PERIOD
    assert not ring.expired(T0)
    assert not ring.expired(ended - 0.001)
    assert ring.expired(ended)
    assert KeyRing(WALLETS, SCHEDULE).expired(T0)
    revoked = ring.compromise(B.kid, T0).compromise(A.kid, T0)
    assert published(revoked, T0) == set()
    assert not revoked.expired(T0)
    assert revoked.expired(ended)


def test_another_algorithm_waits_its_turn() -> None:
    """A replica configured for another algorithm never replaces a successor that exists."""
    ring = first_ring()
    assert ring.advance(T0 + 1, generate=Keys("ed", "Ed25519")) is ring
    turned = ring.advance(T0 + PERIOD, generate=Keys("ed", "Ed25519"))
    assert signer(turned, T0 + PERIOD) == B.kid
    assert sorted(public.alg for public in turned.jwks(T0 + PERIOD).keys.values()) == [
        "ES256",
        "ES256",
        "Ed25519",
    ]


def test_at_most_four_per_algorithm() -> None:
    """No successor is made while four keys of one algorithm are published; one less, and it is."""
    assert MAX_PUBLISHED_PER_ALGORITHM == 4
    pairs = [key("ES256", f"crowd {n}") for n in range(4)]
    # all of them end together, so that the last of them has no successor
    crowd = [record(pair, sign_from=T0 - n, sign_until=T0 + DAY) for n, pair in enumerate(pairs)]
    full = ring_of(*crowd)
    assert full.advance(T0, generate=never) is full
    assert len(published(ring_of(*crowd[:3]).advance(T0, generate=Keys("more")), T0)) == 4
    elsewhere = [record(key("Ed25519"), sign_from=T0, sign_until=T0 + DAY), *crowd[:3]]
    assert len(published(ring_of(*elsewhere).advance(T0, generate=Keys("more")), T0)) == 5


def test_processes_that_do_not_serve() -> None:
    """A process that serves no JWKS signs only with keys that were published long enough ago."""
    ring = first_ring()
    assert ring.signing_key(T0, published_before=T0 - 30) is None
    assert ring.signing_key(T0 + 29, published_before=T0 - 1) is None
    found = ring.signing_key(T0 + 30, published_before=T0)
    assert found is not None
    assert found.kid == A.kid
    newer = ring.merge(ring_of(record(C, sign_from=T0, sign_until=T0 + DAY, publish_at=T0 - 60)))
    assert newer.signing_key(T0, published_before=T0 - 30) is C


# -- revocation -----------------------------------------------------------------------------------------


def test_revoking_the_signing_key() -> None:
    """A revoked key is unpublished at once and without its private half; its successor signs at once."""
    ring = first_ring()
    revoked = ring.compromise(A.kid, T0 + DAY)
    assert published(revoked, T0 + DAY) == {B.kid}
    assert signer(revoked, T0 + DAY) == B.kid
    assert revoked.records[B.kid].state(T0 + DAY) is KeyState.ACTIVE
    assert revoked.records[A.kid].state(T0 + DAY) is KeyState.COMPROMISED
    assert not has_private_half(revoked, A)
    assert signer(ring, T0 + DAY) == A.kid  # the old snapshot is another object


def test_a_revocation_is_followed_by_a_new_successor() -> None:
    """After a revocation `advance` makes one new successor, with its lead; the one that signs stays."""
    keys = Keys("after")
    now = T0 + DAY
    revoked = first_ring().compromise(A.kid, now)
    ring = revoked.advance(now, generate=keys)
    assert len(keys.made) == 1
    assert signer(ring, now) == B.kid
    assert published(ring, now) == {B.kid, keys.made[0].kid}
    assert ring.records[keys.made[0].kid].sign_from >= now + LEAD
    assert ring.advance(now, generate=never) is ring


def test_revoking_the_successor() -> None:
    """Revoking the successor changes nothing about who signs; `advance` makes another."""
    keys = Keys("other")
    revoked = first_ring().compromise(B.kid, T0)
    assert signer(revoked, T0) == A.kid
    assert published(revoked, T0) == {A.kid}
    ring = revoked.advance(T0, generate=keys)
    assert published(ring, T0) == {A.kid, keys.made[0].kid}
    assert signer(ring, T0 + PERIOD) == keys.made[0].kid


def test_revoking_everything() -> None:
    """A ring without an unrevoked key serves none and signs nothing until `advance` starts anew."""
    keys = Keys("anew")
    revoked = first_ring().compromise(B.kid, T0).compromise(A.kid, T0)
    assert published(revoked, T0) == set()
    assert revoked.signing_key(T0) is None
    assert revoked.to_bytes().count(b'"private":null') == 2
    ring = revoked.advance(T0, generate=keys)
    assert published(ring, T0) == {pair.kid for pair in keys.made}
    assert signer(ring, T0) == keys.made[0].kid


def test_revoking_a_key_that_signs_no_more() -> None:
    """A deactivated key that is revoked leaves the JWKS at once, and nothing else changes."""
    now = T0 + PERIOD + 1
    ring = first_ring().advance(now, generate=Keys("later"))
    revoked = ring.compromise(A.kid, now)
    assert published(revoked, now) == published(ring, now) - {A.kid}
    assert signer(revoked, now) == signer(ring, now)
    assert revoked.advance(now, generate=never) is revoked


def test_revoking_twice() -> None:
    """The first revocation counts; a second one changes nothing."""
    once = first_ring().compromise(A.kid, T0 + 10)
    assert once.compromise(A.kid, T0 + 20) == once
    assert once.compromise(A.kid, T0 + 5).records[A.kid].revoked_at == T0 + 5


def test_revoking_an_unknown_key() -> None:
    """Revoking a kid that the ring does not have is refused; the text lists those that it has."""
    with pytest.raises(ConfigError, match="no key 'other' in the ring of https://wallets") as refused:
        first_ring().compromise("other", T0)
    assert A.kid in str(refused.value)
    assert B.kid in str(refused.value)


def older_copy(ring: KeyRing) -> KeyRing:
    return KeyRing.parse(ring.to_bytes(), issuer=WALLETS, schedule=SCHEDULE)


def test_a_change_of_algorithm() -> None:
    """The new key is published at once, takes over after its lead, and nothing is unpublished for it."""
    ring = first_ring()
    now = T0 + 5 * DAY
    rsa = key("RS256", "replacement")
    changed = ring.replace_successor(now, rsa)
    before, after = set(ring.jwks(now).keys), set(changed.jwks(now).keys)
    assert after == before | {rsa.kid}
    assert signer(changed, now + LEAD - 1) == signer(ring, now)
    assert signer(changed, now + LEAD) == rsa.kid
    assert signer(changed, now + LEAD + PERIOD - 1) == rsa.kid
    assert before < set(changed.jwks(now + LEAD).keys)
    assert changed.advance(now, generate=never) is changed
    assert changed.successor(now) == changed.records[rsa.kid]


def test_a_change_of_algorithm_close_to_a_rotation_leaves_no_gap() -> None:
    """The former next key signs for the rest of the lead, and no longer."""
    ring = first_ring()
    first = ring.signing_record(T0)
    assert first is not None
    second = ring.successor(T0)
    assert second is not None
    now = first.sign_until - 60
    changed = ring.replace_successor(now, key("RS256", "replacement"))
    signs = [signer(changed, at) for at in (now, now + 60, now + LEAD - 1, now + LEAD)]
    assert signs == [first.kid, second.kid, second.kid, key("RS256", "replacement").kid]


def test_a_revocation_during_a_change_of_algorithm() -> None:
    """The key that receivers have had for longest steps in, not the one that is minutes old."""
    ring = first_ring()
    now = T0 + 5 * DAY
    second = ring.successor(now)
    rsa = key("RS256", "replacement")
    assert second is not None
    revoked = ring.replace_successor(now, rsa).compromise(signer(ring, now), now + 60)
    assert [signer(revoked, at) for at in (now + 60, now + LEAD - 1, now + LEAD)] == [
        second.kid,
        second.kid,
        rsa.kid,
    ]


def test_a_change_of_algorithm_that_would_publish_too_many_keys() -> None:
    """Refused with the time until there is room; the ring is as it was."""
    ring = first_ring()
    ring = ring.replace_successor(T0, key("ES256", "third")).replace_successor(T0, key("ES256", "fourth"))
    with pytest.raises(ConfigError, match="4 keys of one algorithm are published already"):
        ring.replace_successor(T0, key("ES256", "fifth"))


@pytest.mark.parametrize("order", [lambda a, b: a.merge(b), lambda a, b: b.merge(a)], ids=["onto", "from"])
def test_no_older_copy_undoes_a_revocation(order: Callable[[KeyRing, KeyRing], KeyRing]) -> None:
    """Merged with a copy from before the revocation, in either order, the key stays revoked and erased."""
    ring = first_ring()
    now = T0 + DAY
    revoked = ring.compromise(A.kid, now)
    merged = order(revoked, older_copy(ring))
    assert merged == revoked
    assert published(merged, now) == {B.kid}
    assert signer(merged, now) == B.kid
    assert not has_private_half(merged, A)


def test_a_tombstone_outlives_every_copy() -> None:
    """A revoked key's record stays until its removal and twice the skew: by then no copy can use it."""
    ring = first_ring()
    revoked = ring.compromise(A.kid, T0 + 1).advance(T0 + 1, generate=Keys("heir"))
    gone = T0 + PERIOD + DRAIN + 2 * SKEW
    kept = revoked.advance(gone - 0.001, generate=Keys("heirs"))
    assert A.kid in kept.records
    assert A.kid not in kept.advance(gone, generate=Keys("heirs")).records
    # even a clock that is behind by twice the skew neither serves nor uses the key from an old backup
    assert A.kid not in published(ring, gone - 2 * SKEW)
    assert ring.signing_key(gone - 2 * SKEW) is not A


# -- merging --------------------------------------------------------------------------------------------


def test_two_first_rings() -> None:
    """Two rings that were made apart become one that serves all keys and signs with the oldest."""
    one, other = first_ring(T0, "one"), first_ring(T0 + 1, "other")
    merged = one.merge(other)
    assert merged == other.merge(one)
    assert published(merged, T0 + 2) == published(one, T0 + 2) | published(other, T0 + 2)
    assert signer(merged, T0 + 2) == signer(one, T0 + 2)  # the older one
    assert merged.advance(T0 + 2, generate=never) is merged


def test_merging_what_is_known() -> None:
    """Merging a ring with an equal one returns the very same ring."""
    ring = first_ring()
    assert ring.merge(ring) is ring
    assert ring.merge(older_copy(ring)) is ring


def test_versions_in_merges() -> None:
    """A merged ring counts as many writes as the one that counts more; equality does not look at that."""
    ring = first_ring()
    twice = ring.written().written()
    assert (ring.version, twice.version) == (0, 2)
    assert ring == twice
    assert ring.merge(twice).version == twice.merge(ring).version == 2


def test_an_erased_private_half_stays_erased() -> None:
    """A private half that one copy has erased never comes back from another copy."""
    ring = first_ring()
    end = T0 + PERIOD
    turned = ring.advance(end, generate=Keys("later"))
    for merged in (turned.merge(older_copy(ring)), older_copy(ring).merge(turned)):
        assert merged == turned
        assert not has_private_half(merged, A)


@pytest.mark.parametrize(
    "name", ["created", "publish_at", "sign_from", "sign_until", "remove_at", "revoked_at"]
)
def test_the_earlier_time_wins(name: str) -> None:
    """Where two copies of a record differ in a time, the earlier one holds, in whatever order."""
    early = record(A, sign_from=T0, sign_until=T0 + DAY, revoked_at=T0 + 5)
    late = msgspec.structs.replace(early, **{name: getattr(early, name) + 1})
    for one, other in ((early, late), (late, early)):
        assert ring_of(one).merge(ring_of(other)) == ring_of(early)


def test_rings_of_two_issuers() -> None:
    """Rings of different issuers are never merged."""
    with pytest.raises(ConfigError, match=f"rings of {WALLETS} and {EDGE} are never merged"):
        first_ring().merge(KeyRing(EDGE, SCHEDULE))


def test_equality() -> None:
    """Two rings are equal when issuer and records are; a ring is no dictionary key."""
    ring = first_ring()
    assert ring == older_copy(ring)
    assert ring != KeyRing(EDGE, SCHEDULE, ring.records.values())
    assert ring != ring.compromise(A.kid, T0)
    assert ring != ring.to_bytes()
    with pytest.raises(TypeError):
        hash(ring)


# -- the document ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["ES256", "ES384", "Ed25519", "PS256", "RS256"])
def test_round_trip(alg: str) -> None:
    """A ring that was written and read says, signs and writes the same as before."""
    pair = key(alg)
    ring = KeyRing(
        WALLETS, SCHEDULE, [record(pair, sign_from=T0, sign_until=T0 + DAY, created=T0 - 0.125)], version=7
    )
    read = older_copy(ring)
    assert read == ring
    assert read.version == 7
    assert read.to_bytes() == ring.to_bytes()
    assert read.jwks(T0).to_bytes() == ring.jwks(T0).to_bytes()
    signing = read.signing_key(T0)
    assert signing is not None
    assert pair.public.verify(b"data", signing.sign(b"data"))


def test_round_trip_of_a_whole_life() -> None:
    """Tombstones, erased halves and fractions of seconds survive writing and reading."""
    ring = (
        first_ring(T0 + 0.1)
        .advance(T0 + PERIOD + 1, generate=Keys("later"))
        .compromise(B.kid, T0 + PERIOD + 2)
    )
    read = older_copy(ring)
    assert read == ring
    assert read.to_bytes() == ring.to_bytes()
    assert read.records[B.kid].revoked_at == T0 + PERIOD + 2


def test_nothing_shows_a_private_key() -> None:
    """Printing a ring or a record shows kids and times only."""
    ring = first_ring()
    shown = repr(ring) + str(ring) + repr(ring.records) + repr(list(ring.records.values()))
    assert A.kid in shown
    assert not [value for pair in (A, B) for value in pair.private_members().values() if value in shown]


def document(*changes: tuple[Iterable[Any], Any]) -> bytes:
    """The document of a first ring with some members replaced; `...` as a value removes one."""
    whole = json.loads(first_ring().to_bytes())
    for path, value in changes:
        *parents, last = path
        place = whole
        for step in parents:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(whole).encode()


STRANGER = key("ES256", "stranger")
FIRST = ("keys", 0)
DOCUMENT = json.loads(first_ring().to_bytes())
ODD_TIMES: list[Any] = ["1800000000", True, [], {}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(document(), None, id="accepted"),
        pytest.param(document((["more"], 1)), None, id="a member more"),
        pytest.param(document(([*FIRST, "created"], 1)), None, id="a whole second"),
        # whose it is
        pytest.param(document((["issuer"], EDGE)), "other_issuer", id="other issuer"),
        pytest.param(document((["issuer"], WALLETS + "/")), "other_issuer", id="nearly the issuer"),
        pytest.param(document((["issuer"], [WALLETS])), "other_issuer", id="issuer in a list"),
        pytest.param(document((["issuer"], ...)), "unreadable", id="no issuer"),
        # what it is
        pytest.param(b"", "unreadable", id="empty"),
        pytest.param(b"\x80\x04}", "unreadable", id="no JSON"),
        pytest.param(b"[]", "unreadable", id="an array"),
        pytest.param(b"{}", "unreadable", id="an empty object"),
        pytest.param(document()[:-1], "unreadable", id="cut off"),
        pytest.param(document()[:-1] + b',"v":1}', "unreadable", id="a member twice"),
        pytest.param(document((["v"], 2)), "unreadable", id="format 2"),
        pytest.param(document((["v"], "1")), "unreadable", id="format a string"),
        pytest.param(document((["v"], ...)), "unreadable", id="no format"),
        pytest.param(document((["version"], ...)), "unreadable", id="no version"),
        pytest.param(document((["version"], None)), "unreadable", id="version null"),
        pytest.param(document((["version"], "x")), "unreadable", id="version a word"),
        pytest.param(document((["keys"], ...)), "unreadable", id="no keys"),
        pytest.param(document((["keys"], None)), "unreadable", id="keys null"),
        pytest.param(document((["keys"], {})), "unreadable", id="keys an empty object"),
        pytest.param(document((["keys"], "")), "unreadable", id="keys an empty string"),
        pytest.param(document((["keys", 0], None)), "unreadable", id="a record null"),
        pytest.param(document((["keys", 0], [])), "unreadable", id="a record an array"),
        pytest.param(document((["keys", 1], DOCUMENT["keys"][0])), "unreadable", id="a record twice"),
        # a record
        *(
            pytest.param(document(([*FIRST, name], ...)), "unreadable", id=f"no {name}")
            for name in DOCUMENT["keys"][0]
        ),
        *(
            pytest.param(document(([*FIRST, name], odd)), "unreadable", id=f"{name} {odd!r}")
            for name in ("created", "publish_at", "sign_from", "sign_until", "remove_at", "revoked_at")
            for odd in ODD_TIMES
        ),
        pytest.param(document(([*FIRST, "sign_until"], None)), "unreadable", id="sign_until null"),
        pytest.param(document(([*FIRST, "sign_until"], 10**20)), "unreadable", id="sign_until of 21 digits"),
        pytest.param(
            document(([*FIRST, "sign_until"], float("inf"))), "unreadable", id="sign_until infinite"
        ),
        pytest.param(document(([*FIRST, "sign_until"], float("nan"))), "unreadable", id="sign_until nan"),
        pytest.param(document(([*FIRST, "kid"], "other")), "unreadable", id="kid other than the key's"),
        pytest.param(
            document(([*FIRST, "kid"], "k1"), ([*FIRST, "public", "kid"], "k1")),
            "unreadable",
            id="kid not the thumbprint",
        ),
        pytest.param(
            document(([*FIRST, "public"], STRANGER.public.public_jwk)), "unreadable", id="another public half"
        ),
        pytest.param(document(([*FIRST, "alg"], "ES384")), "unreadable", id="alg other than the key's"),
        pytest.param(document(([*FIRST, "public"], None)), "unreadable", id="public null"),
        pytest.param(document(([*FIRST, "public"], "x")), "unreadable", id="public a string"),
        pytest.param(document(([*FIRST, "public", "y"], "AQ")), "unreadable", id="a broken public half"),
        pytest.param(
            document(([*FIRST, "public", "use"], "enc")), "unreadable", id="a public half for encryption"
        ),
        pytest.param(
            document(([*FIRST, "public", "d"], "AQ")), "unreadable", id="a private member in public"
        ),
        pytest.param(
            document(([*FIRST, "alg"], "ES512"), ([*FIRST, "public", "alg"], "ES512")),
            "unreadable",
            id="an algorithm of tomorrow",
        ),
        pytest.param(document(([*FIRST, "private"], "x")), "unreadable", id="private a string"),
        pytest.param(document(([*FIRST, "private"], [])), "unreadable", id="private an array"),
        pytest.param(document(([*FIRST, "private"], True)), "unreadable", id="private true"),
    ],
)
def test_documents_that_no_replica_writes(data: bytes, reason: str | None) -> None:
    """Only a whole document of this issuer and format is read; others are refused and not repeated."""
    if reason is None:
        assert KeyRing.parse(data, issuer=WALLETS, schedule=SCHEDULE).records.keys() == {A.kid, B.kid}
        return
    with pytest.raises(KeyStoreError) as refused:
        KeyRing.parse(data, issuer=WALLETS, schedule=SCHEDULE)
    error, text = refused.value, "".join(traceback.format_exception(refused.value))
    assert error.reason.value == reason
    assert WALLETS in str(error)
    assert error.reason is StoreReason.OTHER_ISSUER or "No new key is made over it" in str(error)
    private = [value for pair in (A, B) for value in pair.private_members().values()]
    assert not any(value in text for value in [A.kid, B.kid, EDGE, *private])
