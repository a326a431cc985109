"""Tokens as they leave: their form, which key signs them, and how long one is handed out again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from s2s_mesh import EndUser, KeyStoreError, RotationSchedule, Service, StoreReason, TrustConfig
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import b64url_decode, decode
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.signer import Signer, TokenKind

from .tokens import EDGE, LEDGER, NOW, WALLETS, key

LIFE = 120
SCHEDULE = RotationSchedule.DEFAULT
READ = frozenset({"cards:read"})


FIRST, SECOND = key("ES256", "first"), key("ES256", "second")


def ring_at(now: float = NOW, *, first: SigningKey = FIRST) -> KeyRing:
    """A ring that began at `now`; `SECOND` is the successor."""
    keys = iter([first, SECOND])
    return KeyRing(EDGE, SCHEDULE).advance(now, generate=lambda: next(keys))


def record(signing: SigningKey, *, publish_at: float, sign_from: float) -> KeyRecord:
    """One key record; signs for a period."""
    sign_until = sign_from + SCHEDULE.period
    return KeyRecord(
        public=signing.public,
        private=signing,
        created=publish_at,
        publish_at=publish_at,
        sign_from=sign_from,
        sign_until=sign_until,
        remove_at=sign_until + SCHEDULE.drain,
    )


class Hand:
    """A signer with its ring; `token` does what a process does: what is cached, else a new one."""

    def __init__(self, ring: KeyRing | None = None, *, life: int = LIFE, min_key_age: float = 0) -> None:
        self.ring = ring or ring_at()
        self.min_key_age = min_key_age
        self.signer = Signer(EDGE, life=life, min_key_age=lambda: self.min_key_age)

    def cached(
        self,
        now: float = NOW,
        audience: str = WALLETS,
        scopes: frozenset[str] | None = None,
        user: EndUser | None = None,
    ) -> str | None:
        return self.signer.cached(self.ring, audience, scopes, now, user=user)

    def mint(
        self,
        now: float = NOW,
        audience: str = WALLETS,
        scopes: frozenset[str] | None = None,
        user: EndUser | None = None,
    ) -> str:
        return self.signer.mint(self.ring, TokenKind.SERVICE, audience, scopes, now, user=user)

    def token(self, now: float = NOW, user: EndUser | None = None) -> str:
        return self.cached(now, user=user) or self.mint(now, user=user)


def raw_header(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(b64url_decode(token.split(".")[0].encode()))
    return header


def kid_of(token: str) -> str:
    return str(raw_header(token)["kid"])


@pytest.mark.parametrize("alg", ["ES256", "ES384", "RS256", "PS256", "Ed25519"])
def test_a_token_verifies_with_the_jwks_of_its_ring(alg: str) -> None:
    """The header is alg, kid and typ and nothing else (I-H1 to I-H4); the JWKS holds the key of that kid."""
    hand = Hand(ring_at(first=key(alg, "first")))
    token = hand.mint()
    assert raw_header(token) == {"alg": alg, "kid": key(alg, "first").kid, "typ": "at+jwt"}
    served = JWKSet.parse(hand.ring.jwks(NOW).to_bytes())
    jws = decode(token.encode())
    assert served.keys[jws.header.kid].verify(jws.signing_input, jws.signature)


def test_the_claims_are_those_of_the_profile() -> None:
    """RFC 9068 section 2.2 with whole seconds, one audience as a string, and a `jti` of 128 bits."""
    token = Hand().mint(NOW + 0.9)
    claims = decode(token.encode()).claims
    jti = claims.pop("jti")
    assert len(b64url_decode(jti.encode())) == 16
    assert claims == {
        "iss": EDGE,
        "sub": EDGE,
        "client_id": EDGE,
        "aud": WALLETS,
        "iat": NOW,
        "exp": NOW + LIFE,
    }
    assert type(claims["iat"]) is type(claims["exp"]) is int


def test_scopes_are_one_sorted_string() -> None:
    """What is asked for stands in `scope`, space-delimited (I-C7); without a wish there is no such claim."""
    token = Hand().mint(scopes=frozenset({"cards:write", "cards:read"}))
    assert decode(token.encode()).claims["scope"] == "cards:read cards:write"


def test_every_mint_has_a_jti_of_its_own() -> None:
    """No two tokens share a `jti`, not even those of one second."""
    hand = Hand()
    tokens = [decode(hand.mint().encode()).claims["jti"] for _ in range(50)]
    assert len(set(tokens)) == 50


def test_a_token_is_handed_out_again_for_the_same_audience_and_scopes_only() -> None:
    """The memory's key is (kind, audience, scopes): nothing is lent to another audience or wish."""
    hand = Hand()
    assert hand.cached() is None
    for_wallets = hand.mint()
    assert hand.cached() == for_wallets
    assert hand.cached(audience=LEDGER) is None
    assert hand.cached(scopes=READ) is None
    reading = hand.mint(scopes=READ)
    assert hand.cached(scopes=frozenset(["cards:read"])) == reading != for_wallets
    assert hand.cached() == for_wallets
    assert decode(hand.mint(audience=LEDGER).encode()).claims["aud"] == LEDGER


@pytest.mark.parametrize("life", [10, LIFE, 900])
def test_renewal_falls_between_50_and_80_percent_of_life(life: int) -> None:
    """Every token lasts for half of its life, none is sent in its last fifth, and they spread in between."""
    hand = Hand(life=life)
    audiences = [f"https://s{number}.example.com" for number in range(200)]
    for audience in audiences:
        hand.mint(audience=audience)

    def held(share: float) -> int:
        return sum(hand.cached(NOW + share * life, audience) is not None for audience in audiences)

    assert held(0.4999) == 200
    assert held(0.8001) == 0
    shares = [held(0.5 + 0.05 * step) for step in range(7)]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) > 4  # all at once would be seen as a wave of renewals by the whole mesh


def test_rotation_ends_a_token_that_is_still_young() -> None:
    """From the instant another key signs, tokens of the former key are not handed out any more."""
    hand = Hand()
    change = hand.ring.records[FIRST.kid].sign_until
    before = hand.token(change - 10)
    assert kid_of(before) == FIRST.kid
    assert hand.cached(change - 0.001) == before
    assert hand.cached(change) is None
    after = hand.token(change)
    assert kid_of(after) == SECOND.kid
    assert hand.cached(change + 1) == after


def test_revocation_ends_a_token_at_once() -> None:
    """A ring in which the key is revoked hands out nothing that the key signed; the successor signs."""
    hand = Hand()
    first = kid_of(hand.mint())
    hand.ring = hand.ring.compromise(first, NOW)
    assert hand.cached() is None
    assert kid_of(hand.mint()) == SECOND.kid


def test_a_ring_that_changed_elsewhere_keeps_the_token() -> None:
    """A new snapshot in which the same key signs is no reason to mint."""
    hand = Hand()
    token = hand.mint()
    hand.ring = KeyRing.parse(hand.ring.to_bytes(), issuer=EDGE, schedule=SCHEDULE)
    assert hand.cached() == token


def test_a_clock_that_goes_back_makes_a_new_token() -> None:
    """A token whose `iat` lies in the future could be refused, so one is minted at the present time."""
    hand = Hand()
    hand.mint()
    assert hand.cached(NOW - 1) is None
    token = hand.token(NOW - 1)
    assert decode(token.encode()).claims["iat"] == NOW - 1
    assert hand.cached(NOW) == token


def test_a_forgotten_token_is_not_handed_out_again() -> None:
    """After a receiver refused a token the next one is new; others stay."""
    hand = Hand()
    hand.mint()
    kept = hand.mint(scopes=READ)
    hand.signer.forget(WALLETS, None)
    hand.signer.forget(WALLETS, None)  # twice, as two requests may
    assert hand.cached() is None
    assert hand.cached(scopes=READ) == kept
    hand.signer.forget(WALLETS, ["cards:read"])
    assert hand.cached(scopes=READ) is None


def test_the_memory_of_tokens_is_bounded() -> None:
    """However many audiences there are, some four thousand tokens are kept at most."""
    hand = Hand(ring_at(first=key("Ed25519", "first")))
    audiences = [f"https://s{number}.example.com" for number in range(4200)]
    tokens = [hand.mint(audience=audience) for audience in audiences]
    held = sum(hand.cached(audience=audience) is not None for audience in audiences)
    assert 0 < held <= 4096
    assert hand.cached(audience=audiences[-1]) == tokens[-1]


def test_a_young_key_signs_only_where_its_jwks_is_served() -> None:
    """A process that serves no JWKS says how long it waits until every replica serves the first key."""
    hand = Hand(min_key_age=30)
    for passed, wait in ((0, "30 s"), (12, "18 s"), (29.6, "0 s")):
        with pytest.raises(KeyStoreError, match=f"signs in {wait}") as refused:
            hand.token(NOW + passed)
        assert refused.value.reason is StoreReason.NO_SIGNING_KEY
    token = hand.token(NOW + 30)
    assert kid_of(token) == FIRST.kid
    assert hand.cached(NOW + 31) == token


def test_a_process_that_begins_to_serve_signs_at_once() -> None:
    """The age that is asked for may change while the process runs."""
    hand = Hand(min_key_age=30)
    with pytest.raises(KeyStoreError):
        hand.token()
    hand.min_key_age = 0
    assert kid_of(hand.token()) == FIRST.kid


def test_an_older_key_signs_until_the_young_one_is_known_everywhere() -> None:
    """A published successor stands in for a first key that is too young; then the rule of the ring holds."""
    old = record(SECOND, publish_at=NOW - 500, sign_from=NOW + 7000)
    young = record(FIRST, publish_at=NOW, sign_from=NOW - 120)
    hand = Hand(KeyRing(EDGE, SCHEDULE, [old, young]), min_key_age=30)
    assert kid_of(Hand(hand.ring).token()) == young.kid
    meanwhile = hand.token(NOW + 5)
    assert kid_of(meanwhile) == old.kid
    assert hand.cached(NOW + 29) == meanwhile
    assert kid_of(hand.token(NOW + 36)) == young.kid


@pytest.mark.parametrize("min_key_age", [0.0, 30.0])
def test_without_a_key_the_error_says_what_to_start(min_key_age: float) -> None:
    """A ring without any key that may sign is an error with its own reason; no token leaves."""
    hand = Hand(min_key_age=min_key_age)
    for ring, now in ((KeyRing(EDGE, SCHEDULE), NOW), (hand.ring, NOW + 3 * SCHEDULE.period)):
        hand.ring = ring
        with pytest.raises(KeyStoreError, match="`s2s-mesh keys init`") as refused:
            hand.token(now)
        assert refused.value.reason is StoreReason.NO_SIGNING_KEY
        assert EDGE in str(refused.value)


def service() -> Service:
    """A service whose ring lives in memory."""
    return Service(issuer=EDGE, trust=TrustConfig.parse("version = 1"), key_store="memory://")


@pytest.mark.parametrize("started", [True, False], ids=["warm", "cold"])
def test_many_threads_that_need_one_token_make_it_once(started: bool) -> None:
    """Fifty requests at the same instant, at a cold start too, share one token and one ring."""
    signing = service()
    together = threading.Barrier(50)

    def ask(_number: int) -> str:
        together.wait(timeout=60)
        return signing.token(WALLETS)

    try:
        if started:
            signing.load()
        with ThreadPoolExecutor(50) as pool:
            tokens = Counter(pool.map(ask, range(50)))
        assert list(tokens.values()) == [50]
    finally:
        signing.__exit__()


def test_scopes_are_one_wish_in_any_order() -> None:
    """Asking for the same scopes in another order, or twice, is the same request."""
    with service() as signing:
        token = signing.token(WALLETS, scopes=["cards:read", "cards:write"])
        assert signing.token(WALLETS, scopes=("cards:write", "cards:read", "cards:read")) == token
        assert signing.token(WALLETS) != token


USER = EndUser(issuer="https://login.example.com/", subject="u1", expires_at=NOW + 3600)


@pytest.mark.parametrize(
    "change",
    [{"subject": "u2"}, {"issuer": "https://login.example.com"}, {"expires_at": NOW + 90}, {"acr": "urn:x"}],
    ids=lambda change: next(iter(change)),
)
def test_a_token_of_one_user_is_never_handed_out_for_another(change: dict[str, Any]) -> None:
    """Nor for the same one in another context, nor for none; and each of them is kept."""
    hand = Hand()
    other = msgspec.structs.replace(USER, **change)
    kept = [hand.token(user=user) for user in (None, USER, other)]
    assert len(set(kept)) == 3
    assert [hand.cached(user=user) for user in (None, USER, other)] == kept
    hand.signer.forget(WALLETS, None, user=USER)
    assert [hand.cached(user=user) for user in (None, USER, other)] == [kept[0], None, kept[2]]


def test_no_token_of_a_forgotten_audience_is_handed_out_again() -> None:
    """Whatever it asked for and whomever it carried; those of others are."""
    hand = Hand()
    wanted: list[dict[str, Any]] = [{}, {"scopes": READ}, {"user": USER}]
    for options in wanted:
        hand.mint(**options)
        hand.mint(audience=LEDGER, **options)
    hand.signer.forget_audience(WALLETS)
    assert [hand.cached(**options) for options in wanted] == [None] * 3
    assert None not in [hand.cached(audience=LEDGER, **options) for options in wanted]


def test_many_users_push_no_token_out_that_is_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for users is bounded by itself."""
    monkeypatch.setattr("s2s_mesh.signer._MAX_CACHED", 4)
    hand = Hand()
    own = hand.mint()
    for number in range(10):
        hand.mint(user=msgspec.structs.replace(USER, subject=f"u{number}"))
    assert hand.cached() == own
    assert len(hand.signer._user_tokens) <= 4


@pytest.mark.parametrize(("expires_at", "renewed_at"), [(NOW + 3600, NOW + LIFE / 2), (NOW + 30, NOW + 30)])
def test_a_token_for_a_user_leaves_the_next_service_half_its_life(
    expires_at: float, renewed_at: float
) -> None:
    """Unless the user expires before that: a new token would not live longer."""
    hand = Hand()
    user = msgspec.structs.replace(USER, expires_at=expires_at)
    token = hand.mint(user=user)
    assert hand.cached(renewed_at - 0.1, user=user) == token
    assert hand.cached(renewed_at, user=user) is None
