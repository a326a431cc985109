"""The JWKS document, as served and as read."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from s2s_mesh.errors import JWKSInvalid
from s2s_mesh.jwks import MAX_BODY, JWKSet
from s2s_mesh.keys import SigningKey

from .tokens import key

EVERY = ["ES256", "ES384", "Ed25519", "PS256", "RS256"]
MEMBERS = {
    "ES256": ["kty", "crv", "x", "y", "kid", "use", "alg"],
    "ES384": ["kty", "crv", "x", "y", "kid", "use", "alg"],
    "Ed25519": ["kty", "crv", "x", "kid", "use", "alg"],
    "PS256": ["kty", "e", "n", "kid", "use", "alg"],
    "RS256": ["kty", "e", "n", "kid", "use", "alg"],
}
FIRST, SECOND = key("ES256"), key("ES256", "second")


def jwk(pair: SigningKey = FIRST, **changes: Any) -> dict[str, Any]:
    return {**pair.public.public_jwk, **changes}


def document(*entries: Any, **members: Any) -> bytes:
    return json.dumps({"keys": list(entries), **members}).encode()


# -- as served ------------------------------------------------------------------------------------------


def test_only_public_members_are_served() -> None:
    """Each key is served with its whitelisted public members and nothing else; `use` is always sig."""
    pairs = [key(alg) for alg in EVERY]
    served = json.loads(JWKSet(pair.public for pair in pairs).to_bytes())
    assert list(served) == ["keys"]
    for entry in served["keys"]:
        assert list(entry) == MEMBERS[entry["alg"]]
        assert entry["use"] == "sig"
    assert {entry["alg"] for entry in served["keys"]} == set(EVERY)


def test_no_private_value_is_served() -> None:
    """No byte of a private half stands in the document."""
    pairs = [key(alg) for alg in EVERY]
    served = JWKSet(pair.public for pair in pairs).to_bytes().decode()
    assert not [value for pair in pairs for value in pair.private_members().values() if value in served]


def test_identical_bytes_from_any_order() -> None:
    """The document is sorted by kid: the same keys give the same bytes, whoever serves them."""
    keys = [key(alg).public for alg in EVERY[:3]]
    served = {JWKSet(order).to_bytes() for order in itertools.permutations(keys)}
    assert len(served) == 1
    kids = [entry["kid"] for entry in json.loads(served.pop())["keys"]]
    assert kids == sorted(kids)


def test_what_is_served_is_read() -> None:
    """A document that we serve is read back whole, and served again as the same bytes."""
    pairs = {pair.kid: pair for pair in map(key, EVERY)}
    body = JWKSet(pair.public for pair in pairs.values()).to_bytes()
    read = JWKSet.parse(body)
    assert read.keys.keys() == pairs.keys()
    assert read.ignored == ()
    assert read.to_bytes() == body
    for kid, public in read.keys.items():
        assert public.verify(b"data", pairs[kid].sign(b"data"))


def test_the_empty_set() -> None:
    """A set without keys is a valid document; it means that everything is revoked."""
    assert JWKSet([]).to_bytes() == b'{"keys":[]}'
    read = JWKSet.parse(b'{"keys":[]}')
    assert dict(read.keys) == {}
    assert read.ignored == ()


def test_a_set_never_changes() -> None:
    """The keys of a set cannot be exchanged."""
    keys = JWKSet([FIRST.public]).keys
    with pytest.raises(TypeError):
        keys["evil"] = SECOND.public  # type: ignore[index]


# -- as read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kids", "ignored"),
    [
        pytest.param(document(jwk()), [FIRST.kid], [], id="one key"),
        pytest.param(document(jwk(), jwk(SECOND)), [FIRST.kid, SECOND.kid], [], id="two keys"),
        pytest.param(
            document(jwk(), issuer="https://x.example", spiffe_sequence=1), [FIRST.kid], [], id="more members"
        ),
        pytest.param(document(jwk(), jwk()), [FIRST.kid], [], id="the same key twice"),
        pytest.param(
            document(jwk(), jwk(x5c=["MII"])), [FIRST.kid], [], id="the same key, differently adorned"
        ),
        pytest.param(
            document(jwk(), jwk(kid="other")), [FIRST.kid, "other"], [], id="the same key under two kids"
        ),
        pytest.param(
            document({}, jwk()), [FIRST.kid], ["keys[0]: kid is missing"], id="an empty object beside"
        ),
        pytest.param(
            document(jwk(), jwk(SECOND, use="enc")), [FIRST.kid], ["keys[1]: use is not sig"], id="use enc"
        ),
        pytest.param(
            document(jwk(), jwk(SECOND, kid=FIRST.kid, use="enc")),
            [FIRST.kid],
            ["keys[1]: use"],
            id="an unusable key with the kid of a usable one",
        ),
        pytest.param(
            document({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "pq"}, jwk()),
            [FIRST.kid],
            ["keys[0]: alg"],
            id="a key type of tomorrow",
        ),
        pytest.param(document(jwk(use="enc")), [], ["keys[0]: use"], id="nothing usable"),
        pytest.param(document(*[{}] * 100), [], ["kid"] * 100, id="100 keys"),
        pytest.param(
            document(*(jwk(kid=f"k{n}") for n in range(20))), [f"k{n}" for n in range(20)], [], id="20 usable"
        ),
        pytest.param(document(jwk()).ljust(MAX_BODY), [FIRST.kid], [], id="64 KiB"),
    ],
)
def test_keys_that_are_read(body: bytes, kids: list[str], ignored: list[str]) -> None:
    """The usable keys of a document are read; each other one is left out and said why."""
    read = JWKSet.parse(body)
    assert sorted(read.keys) == sorted(kids)
    assert len(read.ignored) == len(ignored)
    assert all(why in found for why, found in zip(ignored, read.ignored, strict=True))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(document(jwk()), None, id="accepted"),
        # not a key set
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"<html>503 Service Unavailable</html>", "not JSON", id="HTML"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b"[]", "not a JSON object", id="an array"),
        pytest.param(b"{}", '"keys"', id="no keys"),
        pytest.param(b'{"keys":{}}', '"keys"', id="keys an object"),
        pytest.param(b'{"keys":null}', '"keys"', id="keys null"),
        pytest.param(b'{"keys":"[]"}', '"keys"', id="keys a string"),
        pytest.param(b'{"Keys":[]}', '"keys"', id="keys in another case"),
        pytest.param(document(jwk(), "x"), "an object for each key", id="a string among the keys"),
        pytest.param(document([jwk()]), "an object for each key", id="a list among the keys"),
        pytest.param(document(None), "an object for each key", id="null among the keys"),
        # not strict
        pytest.param(b'{"keys":[],"keys":[]}', "stands twice", id="keys twice"),
        pytest.param(document(jwk())[:-3] + b',"kid":"x"}]}', "stands twice", id="kid twice in a key"),
        pytest.param(b"\xef\xbb\xbf" + document(jwk()), "not JSON", id="byte order mark"),
        pytest.param(document(jwk()).decode().encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(document(jwk(exp=10**20)), "16 digits", id="a long number"),
        pytest.param(document(jwk(), x=[[[[[[[[1]]]]]]]]), "deeper than 8", id="depth 9"),
        pytest.param(document(jwk())[:-1], "not JSON", id="cut off"),
        # too much
        pytest.param(document(jwk()).ljust(MAX_BODY + 1), "more than 65536 bytes", id="64 KiB + 1"),
        pytest.param(document(*[{}] * 101), "101 keys; at most 100", id="101 keys"),
        pytest.param(document(*[{}] * 10_000), "10000 keys; at most 100", id="10,000 keys"),
        pytest.param(
            document(*(jwk(kid=f"k{n}") for n in range(21))), "21 usable keys; at most 20", id="21 usable"
        ),
        # a key that was leaked
        pytest.param(document(jwk(), {"kty": "oct", "kid": "s"}), "leaked", id="symmetric key"),
        pytest.param(document(jwk(), jwk(SECOND, d="AQ")), "leaked", id="private key"),
        pytest.param(document(jwk(), {"kty": "new", "priv": "AQ"}), "leaked", id="private key of tomorrow"),
        # who is who
        pytest.param(
            document(jwk(), jwk(SECOND, kid=FIRST.kid)), "two different keys", id="two keys, one kid"
        ),
        pytest.param(
            document(jwk(), {**jwk(key("Ed25519")), "kid": FIRST.kid}),
            "two different keys",
            id="one kid, other alg",
        ),
    ],
)
def test_documents_refused_whole(body: bytes, why: str | None) -> None:
    """A document that is not strict, too large, ambiguous or leaks a key is refused whole, with a reason."""
    found = None
    try:
        JWKSet.parse(body)
    except JWKSInvalid as error:
        found = str(error)
    assert found is None if why is None else found is not None and why in found


@pytest.mark.parametrize("leak", [jwk(d="c2VjcmV0"), {"kty": "oct", "k": "c2VjcmV0"}])
def test_a_leaked_key_is_not_repeated(leak: dict[str, Any]) -> None:
    """The refusal of a leaked private key does not leak it further."""
    with pytest.raises(JWKSInvalid) as refused:
        JWKSet.parse(document(leak))
    assert "c2VjcmV0" not in str(refused.value)
