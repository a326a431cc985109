"""The proof key of a process: how long it is used, and with which WIT."""

from __future__ import annotations

import pickle

import pytest

from s2s_mesh.claims import Confirmation
from s2s_mesh.jws import decode
from s2s_mesh.keyring import KeyRing
from s2s_mesh.prover import HeldProof, Prover
from s2s_mesh.signer import Signer, TokenKind
from s2s_mesh.wit import LIFE

from .test_signer import FIRST, SCHEDULE, SECOND, ring_at
from .tokens import EDGE, NOW, WALLETS


class Hand:
    """A prover with its ring."""

    def __init__(self) -> None:
        self.ring: KeyRing = ring_at()
        self.signer = Signer(EDGE, life=120)
        self.prover = Prover(self.signer)

    def held(self, now: float = NOW) -> HeldProof:
        return self.prover.current(self.ring, now)


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_one_key_serves_until_well_before_its_wit_expires(hand: Hand) -> None:
    """Then there is a new key, because a WIT is for one key and a key for one WIT."""
    first = hand.held()
    assert hand.held(NOW + LIFE * 0.49) is first
    second = hand.held(NOW + LIFE * 0.81)
    assert second is not first
    assert second.key.kid != first.key.kid
    assert first.renew_at <= NOW + LIFE * 0.8
    claims = decode(first.wit.encode()).claims
    assert claims["exp"] - claims["iat"] == LIFE == 3600
    assert claims["cnf"]["jwk"]["x"] == first.key.public.public_jwk["x"]


def test_a_clock_that_went_back_brings_a_new_one(hand: Hand) -> None:
    """The WIT at hand would be from the future."""
    first = hand.held()
    assert hand.held(NOW - 5) is not first


def test_as_soon_as_another_key_signs_there_is_a_new_wit(hand: Hand) -> None:
    """Receivers forget a retired key sooner than an hour after its last signature."""
    assert SCHEDULE.drain < LIFE
    first = hand.held()
    assert decode(first.wit.encode()).header.kid == FIRST.kid
    hand.ring = hand.ring.compromise(FIRST.kid, NOW + 1)
    second = hand.held(NOW + 1)
    assert decode(second.wit.encode()).header.kid == SECOND.kid
    assert second.key.kid != first.key.kid


def test_the_private_half_is_never_shown_or_stored(hand: Hand) -> None:
    """Neither in a repr, nor in a pickle."""
    held = hand.held()
    private = held.key.private_members()["d"]
    assert private not in repr(held) + repr(vars(hand.prover))
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(held)


def test_tokens_are_kept_by_the_key_that_they_are_bound_to(hand: Hand) -> None:
    """A plain one, and one for each proof key: none is handed out for another."""
    mint, ring = hand.signer.mint, hand.ring
    plain = mint(ring, TokenKind.SERVICE, WALLETS, None, NOW)
    bound = mint(ring, TokenKind.SERVICE, WALLETS, None, NOW, confirmation=Confirmation("jkt", "x"))
    assert hand.signer.cached(ring, WALLETS, None, NOW) == plain
    assert hand.signer.cached(ring, WALLETS, None, NOW, Confirmation("jkt", "x")) == bound
    assert hand.signer.cached(ring, WALLETS, None, NOW, Confirmation("jkt", "y")) is None
    assert hand.signer.cached(ring, WALLETS, None, NOW, Confirmation("x5t#S256", "x")) is None
    assert decode(bound.encode()).claims["cnf"] == {"jkt": "x"}
    hand.signer.forget(WALLETS, None, Confirmation("jkt", "x"))
    assert hand.signer.cached(ring, WALLETS, None, NOW, Confirmation("jkt", "x")) is None
    assert hand.signer.cached(ring, WALLETS, None, NOW) == plain
