"""The error tree and the closed lists of reasons."""

from __future__ import annotations

import re

import pytest

from s2s_mesh.errors import (
    ConfigError,
    Forbidden,
    JWKSInvalid,
    JWKSUnavailable,
    KeyStoreError,
    MeshError,
    NoUser,
    Reason,
    StoreConflict,
    StoreReason,
    TokenRejected,
    UserExpired,
)

ISSUER = "https://wallets.example.com"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("bad"),
        KeyStoreError(StoreReason.TAMPERED, "bad"),
        StoreConflict(),
        JWKSInvalid("bad"),
        JWKSUnavailable(ISSUER, "bad"),
        TokenRejected(Reason.EXPIRED),
        Forbidden(Reason.MISSING_SCOPE),
        NoUser("nobody"),
        UserExpired("bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_root(error: Exception) -> None:
    """Whoever catches MeshError catches everything that this package raises on purpose."""
    assert isinstance(error, MeshError)


def test_unavailable_is_not_rejected() -> None:
    """That keys cannot be had now never counts as a verdict on the token."""
    assert not issubclass(JWKSUnavailable, TokenRejected)
    error = JWKSUnavailable(ISSUER, "timed out", retry_after=7)
    assert (error.reason, error.issuer, error.retry_after) == (Reason.JWKS_UNAVAILABLE, ISSUER, 7)
    assert str(error) == f"{ISSUER}: timed out"


def test_conflict_is_a_store_error() -> None:
    """A lost compare-and-set is a KeyStoreError that says to load again."""
    error = StoreConflict()
    assert isinstance(error, KeyStoreError)
    assert error.reason is StoreReason.CONFLICT
    assert "load again" in str(error)


def test_store_error_carries_its_reason() -> None:
    """A KeyStoreError has a reason for machines and a text for people."""
    error = KeyStoreError(StoreReason.WRONG_KEY_ENCRYPTION_KEY, "it does not open")
    assert error.reason is StoreReason.WRONG_KEY_ENCRYPTION_KEY
    assert str(error) == "it does not open"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TokenRejected(Reason.EXPIRED), "expired"),
        (TokenRejected(Reason.EXPIRED, "5 s ago"), "expired: 5 s ago"),
        (Forbidden(Reason.MISSING_SCOPE), "missing_scope"),
        (Forbidden(Reason.MISSING_SCOPE, "needs cards:write"), "missing_scope: needs cards:write"),
    ],
)
def test_text_of_a_refusal(error: TokenRejected | Forbidden, text: str) -> None:
    """The text of a refusal is its reason, then what was found."""
    assert str(error) == text
    assert text == ": ".join(filter(None, [error.reason.value, error.detail]))


def test_what_a_refusal_knows() -> None:
    """A rejection starts without a claimed issuer; a Forbidden names the scope that would be needed."""
    assert TokenRejected(Reason.EXPIRED).claimed_issuer is None
    assert Forbidden(Reason.MISSING_SCOPE).scope is None
    assert Forbidden(Reason.MISSING_SCOPE, scope="a b").scope == "a b"


@pytest.mark.parametrize("vocabulary", [Reason, StoreReason])
def test_reasons_are_stable_words(vocabulary: type[Reason] | type[StoreReason]) -> None:
    """Every reason is a lower-case word made from its own name, so that logs and metrics can rely on it."""
    for reason in vocabulary:
        assert reason.value == reason.name.lower()
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", reason.value)
