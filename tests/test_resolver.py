"""JWKS freshness: which keys hold, and when an issuer may be asked again."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from s2s_mesh.jwks import JWKSet
from s2s_mesh.keys import VerificationKey
from s2s_mesh.resolver import MAX_PLACES, JWKSCacheLimits, KeyResolver, Why

from .tokens import EDGE, LEDGER, key

T0 = 1_800_000_000.0
A, B, C = (key("ES256", f"resolver {n}").public for n in range(3))
LIMITS = JWKSCacheLimits()


def a_set(*keys: VerificationKey) -> JWKSet:
    """The document as it arrives: every key is another object each time."""
    return JWKSet.parse(JWKSet(keys).to_bytes())


def resolver(
    *keys: VerificationKey, limits: JWKSCacheLimits = LIMITS, max_age: float | None = None
) -> KeyResolver:
    """One that learned these keys of `EDGE` at T0."""
    made = KeyResolver(limits)
    made.begin(EDGE, Why.COLD, T0)
    made.succeeded(EDGE, a_set(*keys), T0, max_age=max_age)
    return made


def attempts(known: KeyResolver, why: Why, start: float, end: float, *, failing: bool = False) -> list[float]:
    """Seconds after `start` at which one who asks ten times a second gets an attempt; none brings news."""
    at = []
    for tenth in range(round((end - start) * 10)):
        now = start + tenth / 10
        if known.allowed(EDGE, why, now):
            known.begin(EDGE, why, now)
            at.append(round(now - start, 1))
            if failing:
                known.failed(EDGE, now, "timed out")
    return at


# -- which key ------------------------------------------------------------------------------------------


def test_nothing_is_known_at_first() -> None:
    """Without a set there is no key, no entity tag and no error; a fetch is needed, and allowed at once."""
    known = KeyResolver(LIMITS)
    assert known.key(EDGE, A.kid, T0) is None
    assert not known.has_keys(EDGE, T0)
    assert known.stale_until(EDGE) == 0
    assert known.etag(EDGE) is None
    assert known.last_error(EDGE) == ""
    assert known.needed(EDGE, A.kid, T0) is Why.COLD
    assert all(known.allowed(EDGE, why, T0) for why in Why)
    assert known.refresh_due(EDGE, T0) <= T0


def test_keys_are_found_by_issuer_and_kid() -> None:
    """A key is found under its own issuer and its own kid only."""
    known = resolver(A)
    known.succeeded(LEDGER, a_set(B), T0)
    found = known.key(EDGE, A.kid, T0)
    assert found is not None
    assert found.material == A.material
    assert known.key(LEDGER, A.kid, T0) is None
    assert known.key(EDGE, B.kid, T0) is None
    assert known.key(EDGE, A.kid.lower(), T0) is None
    assert known.key(EDGE + "/", A.kid, T0) is None
    assert known.needed(EDGE, A.kid, T0) is None
    assert known.needed(LEDGER, A.kid, T0) is Why.UNKNOWN_KID


def test_two_issuers_with_one_key() -> None:
    """An issuer that lists another's public key gains nothing, and its revoking it takes nothing away."""
    known = resolver(A)
    known.succeeded(LEDGER, a_set(A), T0)
    known.succeeded(LEDGER, a_set(), T0 + 1)
    assert known.key(LEDGER, A.kid, T0 + 1) is None
    assert known.key(EDGE, A.kid, T0 + 1) is not None


def test_a_success_replaces_the_whole_set() -> None:
    """A key that the new set does not hold is gone at once; a new one is there at once."""
    known = resolver(A, B)
    known.succeeded(EDGE, a_set(B, C), T0 + 1)
    assert known.key(EDGE, A.kid, T0 + 1) is None
    assert known.key(EDGE, B.kid, T0 + 1) is not None
    assert known.key(EDGE, C.kid, T0 + 1) is not None


def test_the_empty_set_revokes() -> None:
    """A set without keys removes every key, and counts as an answer: it is not asked for again as if cold."""
    known = resolver(A)
    known.succeeded(EDGE, a_set(), T0 + 1)
    assert known.key(EDGE, A.kid, T0 + 1) is None
    assert known.has_keys(EDGE, T0 + 1)
    assert known.needed(EDGE, A.kid, T0 + 1) is Why.UNKNOWN_KID


def test_a_failure_removes_nothing() -> None:
    """However often an issuer cannot be reached, its keys hold until the stale bound."""
    known = resolver(A)
    bound = known.stale_until(EDGE)
    for second in range(100):
        known.begin(EDGE, Why.REFRESH, T0 + second)
        known.failed(EDGE, T0 + second, "timed out")
        assert known.key(EDGE, A.kid, T0 + second) is not None
    assert known.stale_until(EDGE) == bound
    assert known.last_error(EDGE) == "timed out"
    known.succeeded(EDGE, a_set(A), T0 + 100)
    assert known.last_error(EDGE) == ""


def test_unchanged_keys_stay_the_same_object() -> None:
    """A refresh that brings a key again keeps its object, so what was verified with it stays so."""
    known = resolver(A, B)
    before = known.key(EDGE, A.kid, T0)
    for jwks in (a_set(A), a_set(A, C), a_set(C, B, A), None):
        known.succeeded(EDGE, jwks, T0 + 1)
        assert known.key(EDGE, A.kid, T0 + 1) is before


@pytest.mark.parametrize(
    "successor",
    [
        pytest.param({**B.public_jwk, "kid": A.kid}, id="another key"),
        pytest.param({**key("Ed25519").public.public_jwk, "kid": A.kid}, id="another algorithm"),
    ],
)
def test_a_key_replaced_under_its_kid_is_another_object(successor: dict[str, str]) -> None:
    """Another key under the same kid is another object: nothing verified with the old one counts for it."""
    known = resolver(A)
    before = known.key(EDGE, A.kid, T0)
    known.succeeded(EDGE, JWKSet([VerificationKey.parse(successor)]), T0 + 1)
    after = known.key(EDGE, A.kid, T0 + 1)
    assert after is not None
    assert after is not before
    assert after.material != A.material


def test_a_key_that_comes_back_is_another_object() -> None:
    """A key that was gone for one refresh does not bring back what was verified before."""
    known = resolver(A)
    before = known.key(EDGE, A.kid, T0)
    known.succeeded(EDGE, a_set(), T0 + 1)
    known.succeeded(EDGE, a_set(A), T0 + 2)
    assert known.key(EDGE, A.kid, T0 + 2) is not before


def test_forgetting() -> None:
    """Issuers that the trust file no longer lists are forgotten whole; the others keep everything."""
    known = resolver(A)
    known.succeeded(LEDGER, a_set(B), T0, etag='"1"')
    known.forget_except({LEDGER, "https://new.example.com"})
    assert known.needed(EDGE, A.kid, T0) is Why.COLD
    assert known.allowed(EDGE, Why.COLD, T0)
    assert known.stale_until(EDGE) == 0
    assert known.key(LEDGER, B.kid, T0) is not None
    assert known.etag(LEDGER) == '"1"'
    known.forget_except([])
    assert not known.has_keys(LEDGER, T0)


# -- what another process fetched -------------------------------------------------------------------------


def adopt(known: KeyResolver, fetched_at: float, *keys: VerificationKey, why: Why = Why.REFRESH) -> None:
    """Take over an answer of this time; it allows 600 s."""
    known.adopted(EDGE, why, a_set(*keys), fetched_at, max_age=600, etag='"3"', jitter=0)


def test_an_adopted_set_is_as_old_as_it_is() -> None:
    """It counts as if it had been fetched here at that time; unchanged keys keep their objects."""
    known = resolver(A)
    before = known.key(EDGE, A.kid, T0)
    adopt(known, T0 + 100, A, B)
    assert known.key(EDGE, A.kid, T0 + 500) is before
    assert known.key(EDGE, B.kid, T0 + 500) is not None
    assert known.fetched_at(EDGE) == T0 + 100
    assert known.refresh_due(EDGE, T0 + 500) == T0 + 100 + 450
    assert known.stale_until(EDGE) == T0 + 100 + 600 + 3600
    assert known.etag(EDGE) == '"3"'


@pytest.mark.parametrize(("fetched_at", "taken"), [(T0 + 0.001, True), (T0, False), (T0 - 1, False)])
def test_only_a_newer_set_is_adopted(fetched_at: float, taken: bool) -> None:
    """A set that is no newer than the one at hand changes nothing, so no key that was removed comes back."""
    known = resolver(A)
    adopt(known, fetched_at, B)
    assert (known.key(EDGE, B.kid, T0 + 1) is not None) is taken
    assert (known.key(EDGE, A.kid, T0 + 1) is None) is taken
    assert (known.etag(EDGE) == '"3"') is taken


def test_adopting_spends_no_attempt() -> None:
    """The issuer was not asked, so it may be asked for another unknown kid at once."""
    known = resolver(A)
    known.begin(EDGE, Why.UNKNOWN_KID, T0 + 10)
    adopt(known, T0 + 5, A, B, why=Why.UNKNOWN_KID)
    assert known.allowed(EDGE, Why.UNKNOWN_KID, T0 + 10)
    known.begin(EDGE, Why.UNKNOWN_KID, T0 + 10)
    adopt(known, T0 + 6, A, B, C)
    assert not known.allowed(EDGE, Why.UNKNOWN_KID, T0 + 14.9)


# -- for how long ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_age", "fresh"),
    [
        pytest.param(600, 600, id="accepted"),
        pytest.param(None, 300, id="not said"),
        pytest.param(60, 60, id="the least"),
        pytest.param(3600, 3600, id="the most"),
        pytest.param(59.9, 60, id="less than the least"),
        pytest.param(0, 60, id="no-store"),
        pytest.param(-1, 60, id="Age beyond max-age"),
        pytest.param(-(10**20), 60, id="Age far beyond max-age"),
        pytest.param(3601, 3600, id="more than the most"),
        pytest.param(99999999999999, 3600, id="three million years"),
        pytest.param(10**400, 3600, id="400 digits"),
        pytest.param(float("inf"), 3600, id="infinite"),
    ],
)
def test_max_age_is_clamped(max_age: float | None, fresh: float) -> None:
    """Whatever an issuer says, its keys are fresh for one minute at least and one hour at most."""
    assert LIMITS.fresh_for(max_age) == fresh
    known = resolver(A, max_age=max_age)
    assert known.stale_until(EDGE) == T0 + fresh + LIMITS.stale_grace
    assert known.refresh_due(EDGE, T0) == T0 + 0.75 * fresh


def test_stale_if_error() -> None:
    """Unreachable, an issuer's keys hold for the fresh time and the grace, and not an instant longer."""
    known = resolver(A, max_age=600)
    bound = T0 + 600 + 3600
    assert known.stale_until(EDGE) == bound
    assert known.key(EDGE, A.kid, bound - 0.001) is not None
    assert known.key(EDGE, A.kid, bound) is None
    assert known.needed(EDGE, A.kid, bound - 0.001) is None
    assert known.needed(EDGE, A.kid, bound) is Why.COLD


def test_grace_switched_off() -> None:
    """Without grace the keys hold for the fresh time only."""
    known = resolver(A, limits=JWKSCacheLimits(stale_grace=0), max_age=600)
    assert known.key(EDGE, A.kid, T0 + 599.9) is not None
    assert known.key(EDGE, A.kid, T0 + 600) is None


def test_not_modified() -> None:
    """An answer "not modified" keeps the keys and makes them fresh again."""
    known = resolver(A, max_age=600)
    known.succeeded(EDGE, None, T0 + 500, max_age=600, etag='"2"')
    assert known.stale_until(EDGE) == T0 + 500 + 600 + 3600
    assert known.refresh_due(EDGE, T0 + 500) == T0 + 500 + 450
    assert known.key(EDGE, A.kid, T0 + 1100) is not None
    assert known.etag(EDGE) == '"2"'


def test_the_entity_tag_is_that_of_the_last_answer() -> None:
    """The entity tag follows the set; an answer without one leaves none."""
    known = resolver(A)
    known.succeeded(EDGE, a_set(A), T0, etag='W/"1"')
    assert known.etag(EDGE) == 'W/"1"'
    known.failed(EDGE, T0 + 1, "timed out")
    assert known.etag(EDGE) == 'W/"1"'
    known.succeeded(EDGE, a_set(A), T0 + 2)
    assert known.etag(EDGE) is None


# -- when to ask again ----------------------------------------------------------------------------------


def test_cold_retries() -> None:
    """While there is no set at all, one attempt a second is allowed, failed or under way."""
    every_second = [float(second) for second in range(5)]
    assert attempts(KeyResolver(LIMITS), Why.COLD, T0, T0 + 5) == every_second
    assert attempts(KeyResolver(LIMITS), Why.COLD, T0, T0 + 5, failing=True) == every_second


def test_unknown_kid_attempts() -> None:
    """An unknown kid is asked for at once, then after 5 s, then every 10 s while nothing new comes."""
    expected = [0.0, 5.0, 15.0, 25.0, 35.0]
    assert attempts(resolver(A), Why.UNKNOWN_KID, T0 + 1, T0 + 41) == expected
    assert attempts(resolver(A), Why.UNKNOWN_KID, T0 + 1, T0 + 41, failing=True) == expected
    assert attempts(resolver(), Why.UNKNOWN_KID, T0 + 1, T0 + 41) == expected


def test_the_pause_doubles_up_to_its_maximum() -> None:
    """The pause between attempts for unknown kids doubles from its minimum to its maximum."""
    limits = JWKSCacheLimits(unknown_kid=3, unknown_kid_max=20)
    assert attempts(resolver(A, limits=limits), Why.UNKNOWN_KID, T0, T0 + 70) == [
        0.0,
        3.0,
        9.0,
        21.0,
        41.0,
        61.0,
    ]


def answered(known: KeyResolver, *rounds: Iterable[VerificationKey]) -> list[float]:
    """Pauses between attempts for unknown kids that are answered with these sets at once."""
    now, last, pauses = T0 + 1, T0 + 1, []
    for keys in rounds:
        while not known.allowed(EDGE, Why.UNKNOWN_KID, now):
            now += 0.5
        pauses.append(now - last)
        last = now
        known.begin(EDGE, Why.UNKNOWN_KID, now)
        known.succeeded(EDGE, a_set(*keys), now)
    return pauses


def test_news_reset_the_pause() -> None:
    """An answer with a new key shows that asking was right: the next pause is the short one again."""
    assert answered(resolver(A), [A], [A], [A], [A, B], [A, B], [A, B], [A, B]) == [0, 5, 10, 10, 5, 5, 10]


def test_fewer_keys_are_no_news() -> None:
    """An answer that only lacks keys does not shorten the pause."""
    assert answered(resolver(A, B), [A, B], [A], [A], []) == [0, 5, 10, 10]


def test_news_never_allow_a_flood() -> None:
    """Even an issuer whose every answer brings a new key is asked at most once per 5 s."""
    assert answered(resolver(A), [B], [C], [A], [B], [C]) == [0, 5, 5, 5, 5]


def test_budgets_are_separate() -> None:
    """Attempts for unknown kids delay no refresh, and a refresh delays none of them."""
    known = resolver(A, max_age=600)
    due = known.refresh_due(EDGE, T0)
    known.begin(EDGE, Why.UNKNOWN_KID, T0 + 1)
    known.failed(EDGE, T0 + 1, "timed out")
    assert not known.allowed(EDGE, Why.UNKNOWN_KID, T0 + 2)
    assert known.allowed(EDGE, Why.REFRESH, due)
    known.begin(EDGE, Why.REFRESH, due)
    assert known.allowed(EDGE, Why.UNKNOWN_KID, due)


def test_issuers_do_not_share_budgets() -> None:
    """What is spent on one issuer is not missing for another."""
    known = resolver(A)
    for why in Why:
        known.begin(EDGE, why, T0 + 1)
    assert not known.allowed(EDGE, Why.COLD, T0 + 1)
    assert all(known.allowed(LEDGER, why, T0 + 1) for why in Why)


def test_a_known_key_needs_nothing() -> None:
    """A token with a known kid never waits, however many unknown ones are asked for."""
    known = resolver(A)
    known.begin(EDGE, Why.UNKNOWN_KID, T0 + 1)
    assert known.needed(EDGE, A.kid, T0 + 1) is None
    assert known.key(EDGE, A.kid, T0 + 1) is not None


def test_refresh_is_due_before_the_keys_are_stale() -> None:
    """A background refresh is due after three quarters of the fresh time, not before."""
    known = resolver(A, max_age=400)
    assert not known.allowed(EDGE, Why.REFRESH, T0 + 299.9)
    assert known.allowed(EDGE, Why.REFRESH, T0 + 300)


@pytest.mark.parametrize(("jitter", "due"), [(0, 300), (0.5, 280), (1, 260)])
def test_jitter_only_makes_it_sooner(jitter: float, due: float) -> None:
    """Replicas spread their refreshes over a tenth of the fresh time, never to later."""
    known = KeyResolver(LIMITS)
    known.succeeded(EDGE, a_set(A), T0, max_age=400, jitter=jitter)
    assert known.refresh_due(EDGE, T0) == pytest.approx(T0 + due)


def test_a_failed_refresh_waits() -> None:
    """A failed background refresh is repeated every 10 s while the keys hold, every second without."""
    known = resolver(A, max_age=600)
    start = known.refresh_due(EDGE, T0)
    assert attempts(known, Why.REFRESH, start, start + 35, failing=True) == [0.0, 10.0, 20.0, 30.0]
    bound = known.stale_until(EDGE)
    assert attempts(known, Why.REFRESH, bound, bound + 3, failing=True) == [0.0, 1.0, 2.0]


def test_a_success_ends_the_waiting() -> None:
    """After a success the next refresh is due by the new answer, whatever failed before."""
    known = resolver(A, max_age=600)
    start = known.refresh_due(EDGE, T0)
    for tenth in range(3):
        known.begin(EDGE, Why.REFRESH, start + 10 * tenth)
        known.failed(EDGE, start + 10 * tenth, "timed out")
    known.succeeded(EDGE, a_set(A), start + 30, max_age=600)
    assert known.refresh_due(EDGE, start + 30) == start + 30 + 450


# -- a clock that goes back -----------------------------------------------------------------------------

BACK = T0 - 3600


def test_a_clock_that_went_back_makes_a_refresh_due() -> None:
    """If the clock went back behind the last success, a refresh is due at once."""
    known = resolver(A)
    assert not known.allowed(EDGE, Why.REFRESH, T0)
    assert known.allowed(EDGE, Why.REFRESH, BACK)


def test_a_clock_that_went_back_forbids_nothing() -> None:
    """An attempt in what is now the future does not hold up the next one."""
    known = KeyResolver(LIMITS)
    for why in Why:
        known.begin(EDGE, why, T0)
        known.failed(EDGE, T0, "timed out")
    for why in Why:
        assert not known.allowed(EDGE, why, T0 + 0.5)
        assert known.allowed(EDGE, why, BACK)


def test_a_clock_that_went_back_makes_nothing_fresher() -> None:
    """After the clock went back and the issuer stays unreachable, its keys hold for the grace at most."""
    known = resolver(A)
    known.begin(EDGE, Why.REFRESH, BACK)
    known.failed(EDGE, BACK, "timed out")
    bound = known.stale_until(EDGE)
    assert bound == BACK + LIMITS.stale_grace
    assert known.key(EDGE, A.kid, BACK) is not None
    for later in (10, 20, 1000):
        known.begin(EDGE, Why.REFRESH, BACK + later)
        known.failed(EDGE, BACK + later, "timed out")
        assert known.stale_until(EDGE) == bound
    assert known.key(EDGE, A.kid, bound) is None


def test_a_small_step_back_shortens_nothing() -> None:
    """A failure after the last success, by the clock, leaves the stale bound where it was."""
    known = resolver(A)
    bound = known.stale_until(EDGE)
    known.failed(EDGE, T0, "timed out")
    assert known.stale_until(EDGE) == bound


def test_attempts_after_a_step_back_are_counted_from_the_new_time() -> None:
    """After the clock went back the pauses count from the first attempt by the new time."""
    known = resolver(A)
    known.begin(EDGE, Why.REFRESH, BACK)
    known.failed(EDGE, BACK, "timed out")
    assert not known.allowed(EDGE, Why.REFRESH, BACK + 9.9)
    assert known.allowed(EDGE, Why.REFRESH, BACK + 10)


def test_a_success_after_a_step_back_counts_from_the_new_time() -> None:
    """A success after the clock went back is fresh from then, not from the old future."""
    known = resolver(A)
    known.succeeded(EDGE, a_set(A), BACK, max_age=600)
    assert known.stale_until(EDGE) == BACK + 600 + 3600
    assert known.refresh_due(EDGE, BACK) == BACK + 450


def test_of_many_keys_that_are_fetched_alone_one_that_was_not_found_makes_room() -> None:
    """Else the first; for a key that is remembered anyhow none has to go."""
    known = KeyResolver(LIMITS)
    known.alone = frozenset({"team", "other"})
    places = [known.place("team", f"team/{number}") for number in range(MAX_PLACES)]
    other = known.place("other", "other/1")
    for place in (other, *places):
        known.begin(place, Why.COLD, T0)
        known.succeeded(place, a_set(A) if place != places[3] else a_set(), T0)
    assert known.places("team") == [place for place in places if place != places[3]]
    for place in places:
        known.make_room(place)
    assert known.fetched_at(places[3]) == T0
    known.make_room("team team/new")
    assert [place for place in places if known.fetched_at(place) is None] == [places[3]]
    known.make_room("team team/new")
    known.begin("team team/new", Why.COLD, T0)
    known.succeeded("team team/new", a_set(A), T0)
    known.make_room("team team/newer")
    assert [place for place in places if known.fetched_at(place) is None] == [places[0], places[3]]
    assert known.places("other") == [other]
