"""The bounded memory of verified tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_mesh.verified_cache import Digest, VerifiedCache, digest_of


def token(number: int) -> bytes:
    return b"header.payload.%d" % number


def digest(number: int) -> Digest:
    return digest_of(token(number))


def test_exactly_these_bytes() -> None:
    """What was remembered is found for exactly the same bytes and for no others."""
    cache: VerifiedCache[str] = VerifiedCache(4)
    cache.put(digest(1), "one")
    assert cache.get(digest_of(bytes(bytearray(token(1))))) == "one"
    for other in (b"", token(2), token(1)[:-1], token(1) + b"\0", token(1).upper(), token(11)):
        assert cache.get(digest_of(other)) is None


def test_the_latest_entry_holds() -> None:
    """Remembering something else for the same bytes replaces it."""
    cache: VerifiedCache[str] = VerifiedCache(4)
    cache.put(digest(1), "one")
    cache.put(digest(1), "other")
    assert cache.get(digest(1)) == "other"
    assert len(cache) == 1


def test_what_is_used_stays() -> None:
    """An entry that is looked at now and then survives any number of new ones."""
    cache: VerifiedCache[int] = VerifiedCache(4)
    cache.put(digest(0), 0)
    for number in range(1, 100):
        cache.put(digest(number), number)
        if number % 2:
            assert cache.get(digest(0)) == 0


def test_what_is_not_used_goes() -> None:
    """An entry that nobody looks at is gone after at most twice the size of new ones."""
    cache: VerifiedCache[int] = VerifiedCache(4)
    for number in range(9):
        cache.put(digest(number), number)
    assert cache.get(digest(0)) is None


def test_size_zero_remembers_nothing() -> None:
    """A size of 0 switches the memory off."""
    cache: VerifiedCache[int] = VerifiedCache(0)
    cache.put(digest(1), 1)
    assert cache.get(digest(1)) is None
    assert len(cache) == 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_no_token_is_kept(size: int) -> None:
    """The memory holds no credential: the bytes of a token are nowhere in it."""
    cache: VerifiedCache[int] = VerifiedCache(size)
    for number in range(3):
        cache.put(digest(number), number)
        cache.get(digest(number))
    slots = [getattr(cache, name) for name in cache.__slots__]
    assert b"header" not in repr(slots).encode()


@settings(deadline=None, max_examples=100)
@given(
    size=st.integers(1, 5),
    uses=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=80),
)
def test_bounds(size: int, uses: list[tuple[bool, int]]) -> None:
    """The latest `size` entries used are always kept, at most twice `size` are, and none is ever wrong."""
    cache: VerifiedCache[int] = VerifiedCache(size)
    latest: list[int] = []
    for put, number in uses:
        if put:
            cache.put(digest(number), number)
        found = cache.get(digest(number))
        assert found in (None, number)
        if number in latest[-size:]:
            assert found == number
        if found is not None:
            latest = [other for other in latest if other != number] + [number]
        assert len(cache) <= 2 * size
