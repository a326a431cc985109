"""What verification rests on besides the token: keys, time, the trust file, and the memory of verdicts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import JWKSUnavailable, Service, TokenRejected, TrustConfig
from s2s_mesh.effects import Answer, Effect, FetchJWKS
from s2s_mesh.errors import Reason
from s2s_mesh.jwks import JWKSet
from s2s_mesh.keys import SigningKey, VerificationKey
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver, Why
from s2s_mesh.verifier import Verifier

from .receiver import TRUST, Receiver
from .tokens import EDGE, LEDGER, NOW, WALLETS, frozen, good, key

TEXT = TRUST.format(
    edge=EDGE, wallets=WALLETS, ledger=LEDGER, algorithms='["ES256", "RS256"]', may_act_for=[]
)


TOKEN = good()  # one token, because every ECDSA signature is another


class Hand:
    """A verifier whose flow is driven by hand; the "network" is what `publish` says."""

    def __init__(self, *, cache_size: int = 100) -> None:
        self.resolver = KeyResolver(JWKSCacheLimits())
        self.trust = TrustConfig.parse(TEXT)
        self.verifier = Verifier(
            audiences={WALLETS}, trust=self.trust, resolver=self.resolver, cache_size=cache_size
        )

    def publish(self, *keys: SigningKey, at: float = NOW, issuer: str = EDGE) -> None:
        self.resolver.succeeded(issuer, JWKSet(k.public for k in keys), at)

    def verify(self, token: bytes, now: float = NOW, *answers: SigningKey) -> tuple[Any, list[Effect]]:
        """The outcome, and what was asked for; `answers` are published at the first question."""
        asked: list[Effect] = []
        flow = self.verifier.verify(token, now)
        try:
            asked.append(next(flow))
            if answers:
                self.publish(*answers, at=now)
            while True:
                asked.append(flow.send(Answer(now)))
        except StopIteration as done:
            return done.value, asked
        except (TokenRejected, JWKSUnavailable) as refused:
            return refused.reason, asked


def test_nothing_is_asked_for_before_the_issuer_is_known() -> None:
    """A token of an unknown issuer, or with bad claims, causes no fetch at all (standards (a)2 step 8)."""
    hand = Hand()
    assert hand.verify(good(iss="https://intruder.example.com")) == (Reason.UNKNOWN_ISSUER, [])
    assert hand.verify(good(aud=LEDGER)) == (Reason.WRONG_AUDIENCE, [])
    assert hand.verify(good(exp=NOW - 100, iat=NOW - 200)) == (Reason.EXPIRED, [])


def test_a_key_that_is_not_at_hand_is_asked_for_by_issuer_and_kid() -> None:
    """The effect names what the trust file lists and the key id, and no URL."""
    outcome, asked = Hand().verify(good(), NOW, key())
    assert outcome.issuer == EDGE
    assert asked == [FetchJWKS(issuer=EDGE, kid=key().kid)]


def test_a_known_key_is_used_without_asking() -> None:
    """No effect is yielded while the key is at hand."""
    hand = Hand()
    hand.publish(key())
    assert hand.verify(good())[1] == []


def test_a_fetch_that_began_before_the_key_was_published_is_followed_by_one_more() -> None:
    """Whoever joined an older fetch may ask once again; then the kid is unknown."""
    hand = Hand()
    hand.publish(key(name="second"))
    outcome, asked = hand.verify(good())
    assert (outcome, len(asked)) == (Reason.UNKNOWN_KID, 2)


def test_without_any_keys_the_token_is_not_judged() -> None:
    """An issuer whose keys cannot be had is 503's business, not 401's."""
    assert Hand().verify(good())[0] is Reason.JWKS_UNAVAILABLE


def test_an_empty_set_means_revoked() -> None:
    """`{"keys":[]}` with 200 refuses every token of that issuer, and is not an outage."""
    hand = Hand()
    hand.publish()
    assert hand.verify(good())[0] is Reason.UNKNOWN_KID


def test_two_issuers_with_the_same_kid_never_share_a_key() -> None:
    """Keys are found by issuer and kid: ledger's set says nothing about edge's tokens."""
    hand = Hand()
    hand.publish(key(), issuer=LEDGER)
    hand.publish(key(name="second"), issuer=EDGE)
    assert hand.verify(good())[0] is Reason.UNKNOWN_KID


def test_a_key_listed_by_two_issuers_still_makes_the_caller_the_one_that_iss_names() -> None:
    """Row 65: claiming somebody else's public key gains nothing."""
    hand = Hand()
    hand.publish(key(), issuer=LEDGER)
    hand.publish(key(), issuer=EDGE)
    assert hand.verify(good())[0].issuer == EDGE


@pytest.fixture
def warm() -> Hand:
    hand = Hand()
    hand.publish(key())
    hand.verify(TOKEN)
    assert hand.verifier.cached(TOKEN, NOW) is not None
    return hand


def test_a_token_seen_before_is_the_same_principal_without_cryptography(warm: Hand) -> None:
    """A hit returns the very object of the first verification."""
    assert warm.verifier.cached(TOKEN, NOW) is warm.verifier.cached(TOKEN, NOW + 1)


def test_another_token_is_no_hit(warm: Hand) -> None:
    """One changed byte anywhere is another token."""
    token = TOKEN
    for position in (0, len(token) // 2, len(token) - 1):
        changed = token[:position] + bytes([token[position] ^ 1]) + token[position + 1 :]
        assert warm.verifier.cached(changed, NOW) is None


@pytest.mark.parametrize(
    ("at", "hit"), [(NOW + 149, True), (NOW + 150, False), (NOW - 30, True), (NOW - 31, False)]
)
def test_a_hit_ends_with_the_token_and_begins_with_it(warm: Hand, at: float, hit: bool) -> None:
    """Expiry plus leeway, and a clock that jumped back before `iat` minus leeway, are no hits."""
    assert (warm.verifier.cached(TOKEN, at) is not None) is hit


def test_a_hit_ends_when_the_key_is_no_longer_published(warm: Hand) -> None:
    """A refreshed set without the key refuses the token from that moment."""
    warm.publish(key(name="second"))
    assert warm.verifier.cached(TOKEN, NOW) is None


def test_a_hit_survives_a_refresh_that_changes_nothing(warm: Hand) -> None:
    """An unchanged key is the same object after every refresh."""
    warm.publish(key(), at=NOW + 60)
    assert warm.verifier.cached(TOKEN, NOW + 60) is not None


def test_a_hit_ends_with_the_stale_bound(warm: Hand) -> None:
    """Beyond max-age and grace nothing verifies, remembered or not."""
    warm.resolver.forget_except([])
    assert warm.verifier.cached(TOKEN, NOW) is None


def test_a_hit_ends_with_the_trust_file_it_rests_on(warm: Hand) -> None:
    """A reloaded trust file, be it equal, makes every token be judged anew."""
    warm.verifier.trust = TrustConfig.parse(TEXT)
    assert warm.verifier.cached(TOKEN, NOW) is None


def test_a_cache_that_is_full_forgets_and_a_cache_of_size_zero_never_remembers() -> None:
    """Forgetting costs a verification, nothing else."""
    hand = Hand(cache_size=2)
    hand.publish(key())
    tokens = [good(jti=str(n)) for n in range(10)]
    for token in tokens:
        hand.verify(token)
    hits = [hand.verifier.cached(token, NOW) for token in tokens]
    assert hits[0] is None
    assert hits[-1] is not None
    assert sum(hit is not None for hit in hits) <= 4
    none = Hand(cache_size=0)
    none.publish(key())
    none.verify(good())
    assert none.verifier.cached(good(), NOW) is None


def test_a_refused_token_is_never_remembered() -> None:
    """Only what verified is cached."""
    hand = Hand()
    hand.publish(key())
    forged = good()[:-4] + b"AAAA"
    assert hand.verify(forged)[0] is Reason.BAD_SIGNATURE
    assert hand.verifier.cached(forged, NOW) is None


def test_a_key_replaced_under_the_same_kid_is_another_key() -> None:
    """Standards (a)2: the entry's key is compared by identity, so a swapped key verifies nothing old."""
    hand = Hand()
    imposter = SigningKey.generate("ES256")
    hand.publish(key())
    hand.verify(TOKEN)
    twin = VerificationKey.parse({**imposter.public.public_jwk, "kid": key().kid})
    hand.resolver.succeeded(EDGE, JWKSet([twin]), NOW)
    assert hand.verifier.cached(TOKEN, NOW) is None
    assert hand.verify(TOKEN)[0] is Reason.BAD_SIGNATURE


def test_a_warm_fetch_budget_never_stands_before_a_known_key() -> None:
    """A known kid verifies while the unknown-kid budget is spent."""
    hand = Hand()
    hand.publish(key())
    hand.resolver.begin(EDGE, Why.UNKNOWN_KID, NOW)
    assert hand.verify(good())[0].kid == key().kid


def test_a_removed_grant_refuses_a_cached_token_and_a_removed_issuer_too(tmp_path: Path) -> None:
    """The trust file is the last word, at once after its reload."""
    with frozen() as clock:
        receiver = Receiver(tmp_path, edge_keys=[key()])
        assert receiver.call(TOKEN).status == 200
        text = (tmp_path / "trust.toml").read_text()
        clock.tick(1)
        (tmp_path / "trust.toml").write_text(text.replace('"cards:read", "cards:write"', '"cards:read"'))
        receiver.reload_trust()
        assert receiver.call(TOKEN).body["scopes"] == ["cards:read"]
        (tmp_path / "trust.toml").write_text(text.replace(EDGE, "https://other.example.com"))
        receiver.reload_trust()
        assert receiver.call(TOKEN).reason == Reason.UNKNOWN_ISSUER.value
        receiver.close()


def test_verify_and_verify_async_agree(receiver: Receiver) -> None:
    """The same principal, and the same refusal, from both."""
    service: Service = receiver.service
    token = good(jti="both")
    assert asyncio.run(service.verify_async(token)) == service.verify(token)
    for way in (service.verify, lambda bad: asyncio.run(service.verify_async(bad))):
        with pytest.raises(TokenRejected) as refused:
            way(good(aud=LEDGER))
        assert refused.value.reason is Reason.WRONG_AUDIENCE
        assert refused.value.claimed_issuer == EDGE


def test_a_principal_says_who_calls_and_cannot_be_changed(receiver: Receiver) -> None:
    """Every public attribute, and deeply immutable claims: one Principal may serve many requests."""
    principal: Any = receiver.service.verify(good(extra={"list": [1, {"a": 2}]}))
    assert principal.issuer == principal.subject == principal.display_name == principal.identity == EDGE
    assert (principal.audience, principal.kid, principal.expires_at) == (WALLETS, key().kid, NOW + 120)
    assert principal.scopes == frozenset({"cards:read", "cards:write"})
    assert principal.user is None
    assert principal.is_authenticated
    assert principal.claims["extra"]["list"][1]["a"] == 2
    for change in (
        lambda: principal.claims.__setitem__("iss", "x"),
        lambda: principal.claims["extra"].__setitem__("x", 1),
        lambda: setattr(principal, "issuer", "x"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()
