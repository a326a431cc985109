"""Keys: generated, named, checked, and used with one algorithm each."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from collections.abc import Callable, Collection
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_mesh.errors import ConfigError, JWKSInvalid
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.keys import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    PRIVATE_MEMBERS,
    SigningKey,
    UnusableKey,
    VerificationKey,
    thumbprint,
)

from .test_rfc_vectors import RFC_7515_A2_PUBLIC
from .tokens import ABSENT, key

DATA = b"eyJhbGciOiJFUzI1NiJ9.e30"
SIZES = {"ES256": 64, "ES384": 96, "Ed25519": 64, "RS256": 384, "PS256": 384}
EVERY = sorted(ALGORITHMS)

RFC_7515_N = RFC_7515_A2_PUBLIC["n"]
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_L = 2**252 + 27742317777372353535851937790883648493


def b64(data: bytes) -> str:
    return b64url_encode(data).decode()


def number(value: int, size: int | None = None) -> str:
    """Base64urlUInt (RFC 7518 section 2), or with a fixed size."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(alg: str = "ES256", /, **changes: Any) -> dict[str, Any]:
    """A good public JWK; `ABSENT` removes a member."""
    members = {**key(alg).public.public_jwk, **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


def rsa(n: int | str = RFC_7515_N, e: str = "AQAB") -> dict[str, Any]:
    modulus = n if isinstance(n, str) else number(n)
    return {"kty": "RSA", "n": modulus, "e": e, "kid": "k1", "use": "sig", "alg": "RS256"}


def ec(x: str, y: str, **changes: str) -> dict[str, Any]:
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1", "use": "sig", "alg": "ES256", **changes}


def okp(x: bytes) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(x), "kid": "k1", "use": "sig", "alg": "Ed25519"}


N = int.from_bytes(b64url_decode(RFC_7515_N.encode()), "big")
X, Y = (b64url_decode(key("ES256").public.public_jwk[name].encode()) for name in "xy")


# -- what is accepted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", EVERY)
def test_every_algorithm(alg: str) -> None:
    """Each algorithm generates keys named by their thumbprint, and signs in the size that RFC 7518 gives."""
    pair = key(alg)
    assert pair.alg == pair.public.alg == alg
    assert pair.kid == pair.public.kid == thumbprint(pair.public.public_jwk)
    assert len(pair.kid) == 43
    signature = pair.sign(DATA)
    assert len(signature) == SIZES[alg]
    assert pair.public.verify(DATA, signature)
    assert VerificationKey.parse(pair.public.public_jwk).verify(DATA, signature)


@pytest.mark.parametrize("alg", EVERY)
def test_only_its_own_signatures(alg: str) -> None:
    """A key refuses another input, another key's signature, and a signature of any other length."""
    pair = key(alg)
    signature = pair.sign(DATA)
    verify = pair.public.verify
    assert verify(DATA, signature)
    assert not verify(DATA + b"x", signature)
    assert not verify(b"", signature)
    assert not key(alg, "second").public.verify(DATA, signature)
    for other in (
        b"",
        signature[:-1],
        signature + b"\0",
        b"\0" + signature,
        signature * 2,
        signature[: len(signature) // 2],
    ):
        assert not verify(DATA, other)
    for filling in (b"\0", b"\xff"):
        assert not verify(DATA, filling * len(signature))


def test_default_algorithm() -> None:
    """ES256, which every consumer of a JWKS understands, is the default."""
    assert DEFAULT_ALGORITHM == "ES256"
    assert DEFAULT_ALGORITHM in ALGORITHMS


def test_no_other_algorithm_is_made() -> None:
    """A key of an algorithm we do not offer is never generated; the refusal lists what is offered."""
    for alg in ("none", "HS256", "EdDSA", "es256", ""):
        with pytest.raises(ConfigError, match="ES256, ES384, Ed25519, PS256, RS256"):
            SigningKey.generate(alg)


def test_one_algorithm_per_key() -> None:
    """The same RSA key under another algorithm verifies nothing that the first one signed."""
    pair = key("RS256")
    twin = VerificationKey.parse({**pair.public.public_jwk, "alg": "PS256"})
    assert pair.public.verify(DATA, pair.sign(DATA))
    assert not twin.verify(DATA, pair.sign(DATA))
    assert twin.material != pair.public.material


def fixed(value: int) -> bytes:
    return value.to_bytes(32, "big")


def halves(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


@pytest.mark.parametrize(
    ("forge", "verdict"),
    [
        pytest.param(lambda s: s, True, id="accepted"),
        pytest.param(lambda _: bytes(64), False, id="r = s = 0 (CVE-2022-21449)"),
        pytest.param(lambda _: bytes(32) + fixed(1), False, id="r = 0, s = 1"),
        pytest.param(lambda _: fixed(1) + bytes(32), False, id="r = 1, s = 0"),
        pytest.param(lambda s: fixed(P256_N) + s[32:], False, id="r = n"),
        pytest.param(lambda s: s[:32] + fixed(P256_N), False, id="s = n"),
        pytest.param(lambda _: fixed(P256_N) * 2, False, id="r = s = n"),
        pytest.param(lambda s: s[32:] + s[:32], False, id="halves exchanged"),
        pytest.param(lambda s: s[:63], False, id="63 octets"),
        pytest.param(lambda s: s + b"\0", False, id="65 octets"),
        pytest.param(lambda s: encode_dss_signature(*halves(s)), False, id="DER"),
    ],
)
def test_forged_ecdsa_signatures(forge: Callable[[bytes], bytes], verdict: bool) -> None:
    """Values out of range and other encodings of an ECDSA signature are refused."""
    pair = key("ES256")
    assert pair.public.verify(DATA, forge(pair.sign(DATA))) is verdict


def test_ed25519_s_beyond_the_order() -> None:
    """An Ed25519 signature with S + L in place of S is refused (RFC 8032 section 5.1.7)."""
    pair = key("Ed25519")
    signature = pair.sign(DATA)
    s = int.from_bytes(signature[32:], "little") + ED25519_L
    assert not pair.public.verify(DATA, signature[:32] + s.to_bytes(32, "little"))


@settings(deadline=None, max_examples=50)
@given(alg=st.sampled_from(["ES256", "Ed25519"]), data=st.binary(max_size=40), bit=st.integers(0, 511))
def test_any_changed_bit_is_refused(alg: str, data: bytes, bit: int) -> None:
    """A signature verifies for whatever input, and no more after one of its bits or the input changed."""
    pair = key(alg)
    signature = bytearray(pair.sign(data))
    assert pair.public.verify(data, bytes(signature))
    assert not pair.public.verify(data + b"\0", bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not pair.public.verify(data, bytes(signature))


# -- what is refused ------------------------------------------------------------------------------------


def verdict(members: dict[str, Any]) -> str | None:
    """Why a JWK is not used, or None. `ValueError` is the base of UnusableKey: one key is ignored."""
    try:
        VerificationKey.parse(members)
    except JWKSInvalid as error:
        return f"whole set: {error}"
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("members", "why"),
    [
        pytest.param(jwk(), None, id="accepted"),
        # optional members
        pytest.param(jwk(use=ABSENT), None, id="no use"),
        pytest.param(jwk(key_ops=["verify"]), None, id="key_ops verify"),
        pytest.param(jwk(key_ops=["sign", "verify"]), None, id="key_ops sign and verify"),
        pytest.param(jwk(x5c=["MII"], x5u="https://evil.example", ext=True), None, id="members we ignore"),
        pytest.param(jwk(use="enc"), "use is not sig", id="use enc"),
        pytest.param(jwk(use="jwt-svid"), "use is not sig", id="use jwt-svid"),
        pytest.param(jwk(use=None), "use is not sig", id="use null"),
        pytest.param(jwk(use=["sig"]), "use is not sig", id="use in a list"),
        pytest.param(jwk(key_ops=[]), "key_ops", id="no operation"),
        pytest.param(jwk(key_ops=["sign"]), "key_ops", id="key_ops sign"),
        pytest.param(jwk(key_ops=["encrypt", "wrapKey"]), "key_ops", id="key_ops encrypt"),
        pytest.param(jwk(key_ops="verify"), "key_ops", id="key_ops a string"),
        pytest.param(jwk(key_ops={"verify": 1}), "key_ops", id="key_ops an object"),
        pytest.param(jwk(key_ops=None), "key_ops", id="key_ops null"),
        # alg
        pytest.param(jwk(alg=ABSENT), "alg is missing", id="no alg"),
        pytest.param(jwk(alg=None), "alg is missing", id="alg null"),
        pytest.param(jwk(alg=["ES256"]), "alg is missing", id="alg in a list"),
        pytest.param(jwk(alg="none"), "not one of ours", id="alg none"),
        pytest.param(jwk(alg="HS256"), "not one of ours", id="alg HS256"),
        pytest.param(jwk(alg="RSA-OAEP"), "not one of ours", id="alg RSA-OAEP"),
        pytest.param(jwk(alg="ES512"), "not one of ours", id="alg ES512"),
        pytest.param(jwk(alg="es256"), "not one of ours", id="alg in lower case"),
        pytest.param(jwk("Ed25519", alg="EdDSA"), "not one of ours", id="alg EdDSA"),
        # kid
        pytest.param(jwk(kid="a" * 200), None, id="kid of 200"),
        pytest.param(jwk(kid="2011-04-29_a.b~c+d/e=f:g"), None, id="every character of a kid"),
        pytest.param(jwk(kid=ABSENT), "kid", id="no kid"),
        pytest.param(jwk(kid=""), "kid", id="empty kid"),
        pytest.param(jwk(kid=1), "kid", id="kid a number"),
        pytest.param(jwk(kid=None), "kid", id="kid null"),
        pytest.param(jwk(kid="a" * 201), "kid", id="kid of 201"),
        pytest.param(jwk(kid="a\n"), "kid", id="kid with a newline"),
        pytest.param(jwk(kid="' OR 1=1"), "kid", id="kid with spaces"),
        pytest.param(jwk(kid="k\u00e9"), "kid", id="kid outside ASCII"),
        # kty and crv
        pytest.param(jwk(kty=ABSENT), "kty or crv", id="no kty"),
        pytest.param(jwk(kty="RSA"), "kty or crv", id="kty of another algorithm"),
        pytest.param(jwk(kty="ec"), "kty or crv", id="kty in lower case"),
        pytest.param(jwk(kty=["EC"]), "kty or crv", id="kty in a list"),
        pytest.param(jwk(kty="AKP"), "kty or crv", id="kty unknown to us"),
        pytest.param(jwk(crv=ABSENT), "kty or crv", id="no crv"),
        pytest.param(jwk(crv="P-384"), "kty or crv", id="crv of another algorithm"),
        pytest.param(jwk(crv="secp256k1"), "kty or crv", id="secp256k1"),
        pytest.param(jwk(alg="ES384"), "kty or crv", id="P-256 with ES384"),
        pytest.param(jwk("Ed25519", crv="Ed448"), "kty or crv", id="Ed448"),
        pytest.param(jwk("Ed25519", crv="X25519"), "kty or crv", id="X25519"),
        pytest.param({**rsa(), "crv": "P-256"}, "kty or crv", id="RSA with a crv"),
        # the form of its numbers
        pytest.param(jwk(x=ABSENT), "x is missing", id="no x"),
        pytest.param(jwk(x=1), "x is missing or not a string", id="x a number"),
        pytest.param(jwk(x="\u0661" * 43), "x is missing or not a string", id="x outside ASCII"),
        pytest.param(jwk(x=b64(X) + "="), "canonical base64url", id="padding"),
        pytest.param(jwk(x=b64(X) + "\n"), "canonical base64url", id="newline after x"),
        pytest.param(jwk(x="+" + b64(X)[1:]), "canonical base64url", id="other alphabet"),
        pytest.param(jwk(x="A" * 42 + "B"), "canonical base64url", id="unused bits"),
        pytest.param(jwk(x="A" * 41), "canonical base64url", id="impossible length"),
        # EC points
        pytest.param(jwk(x=""), "32 octets", id="empty x"),
        pytest.param(jwk(x=b64(X[1:])), "32 octets", id="short x"),
        pytest.param(jwk(x=b64(b"\0" + X)), "32 octets", id="long x"),
        pytest.param(jwk(y=b64(Y[:31])), "32 octets", id="short y"),
        pytest.param(jwk("ES384", x=b64(X), y=b64(Y)), "48 octets", id="P-256 point as P-384"),
        pytest.param(jwk(y=b64(Y[:-1] + bytes([Y[-1] ^ 1]))), "point on the curve", id="off the curve"),
        pytest.param(jwk(x=b64(Y), y=b64(X)), "point on the curve", id="coordinates exchanged"),
        pytest.param(
            ec(b64(bytes(32)), b64(bytes(32))), "point on the curve", id="zero, the point at infinity"
        ),
        pytest.param(ec(number(P256), number(P256)), "point on the curve", id="x = y = p"),
        pytest.param(ec(b64(b"\xff" * 32), b64(b"\xff" * 32)), "point on the curve", id="all ones"),
        pytest.param(
            ec(b64(bytes(32)), "ZkhceA4vg9ckM71dhKBrtlQcKvMdrocXKL-FahdPk_Q"), None, id="the point with x = 0"
        ),
        pytest.param(
            ec(number(P256), "ZkhceA4vg9ckM71dhKBrtlQcKvMdrocXKL-FahdPk_Q"),
            "point on the curve",
            id="the same point written as x = p",
        ),
        # RSA
        pytest.param(rsa(), None, id="RSA of 2048 bits"),
        pytest.param(rsa(e="Aw"), None, id="e = 3"),
        pytest.param(rsa(2**4095 + 1), None, id="RSA of 4096 bits"),
        pytest.param(rsa(2**511 + 1), "RSA of 512 bits", id="RSA of 512 bits"),
        pytest.param(rsa(2**1023 + 1), "RSA of 1024 bits", id="RSA of 1024 bits"),
        pytest.param(rsa(2**2046 + 1), "RSA of 2047 bits", id="RSA of 2047 bits"),
        pytest.param(rsa(2**4096 + 1), "RSA of 4097 bits", id="RSA of 4097 bits"),
        pytest.param(rsa(2**65535 + 1), "RSA of 65536 bits", id="RSA of 65536 bits"),
        pytest.param(rsa(N - 1), "even RSA modulus", id="even modulus"),
        pytest.param(
            rsa(b64(b"\0" + b64url_decode(RFC_7515_N.encode()))), "leading zero", id="leading zero in n"
        ),
        pytest.param(rsa(""), "leading zero", id="empty n"),
        pytest.param(rsa(e="AAEAAQ"), "leading zero", id="leading zero in e"),
        pytest.param(rsa(e=""), "leading zero", id="empty e"),
        pytest.param(rsa(e="AA"), "leading zero", id="e = 0"),
        pytest.param(rsa(e="AQ"), "exponent other than 3 and 65537", id="e = 1"),
        pytest.param(rsa(e="Ag"), "exponent other than 3 and 65537", id="e = 2"),
        pytest.param(rsa(e="AQAA"), "exponent other than 3 and 65537", id="even e"),
        pytest.param(rsa(e="BQ"), "exponent other than 3 and 65537", id="e = 5"),
        pytest.param(rsa(e=number(2**2000 + 1)), "exponent other than 3 and 65537", id="e of 2001 bits"),
        # Ed25519
        pytest.param(jwk("Ed25519"), None, id="Ed25519"),
        pytest.param(jwk("Ed25519", y="AQ"), None, id="Ed25519 with a y that we ignore"),
        pytest.param(okp(bytes(31)), "32 octets", id="Ed25519 of 31 octets"),
        pytest.param(okp(bytes(33)), "32 octets", id="Ed25519 of 33 octets"),
        # private material
        pytest.param(
            {"kty": "oct", "k": "AAAA", "kid": "k1", "alg": "HS256"}, "whole set", id="symmetric key"
        ),
        pytest.param({"kty": "oct", "kid": "k1"}, "whole set", id="symmetric key without its value"),
        pytest.param(
            {"kty": "AKP", "pub": "AAAA", "priv": "AAAA"}, "whole set", id="private key we do not know"
        ),
        *(
            pytest.param(jwk(**{name: "AQ"}), "whole set", id=f"member {name}")
            for name in sorted(PRIVATE_MEMBERS)
        ),
        pytest.param(jwk(d=None), "whole set", id="member d, null"),
        pytest.param({"d": "AQ"}, "whole set", id="nothing but d"),
    ],
)
def test_which_keys_are_used(members: dict[str, Any], why: str | None) -> None:
    """A weak, odd or foreign key is ignored with its reason; private material refuses the whole set."""
    found = verdict(members)
    assert found is None if why is None else found is not None and why in found
    assert found is None or found.startswith("whole set") is (why is not None and why.startswith("whole set"))


def test_all_private_members_are_known() -> None:
    """The members that betray a private key are those of RFC 7517, RFC 7518 and RFC 9964."""
    assert {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} == PRIVATE_MEMBERS


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(
            "0100000000000000000000000000000000000000000000000000000000000000", id="order 1, the identity"
        ),
        pytest.param("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", id="order 2"),
        pytest.param("0000000000000000000000000000000000000000000000000000000000000000", id="order 4"),
        pytest.param(
            "0000000000000000000000000000000000000000000000000000000000000080", id="order 4, other sign"
        ),
        pytest.param("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", id="order 8"),
        pytest.param(
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", id="order 8, other sign"
        ),
        pytest.param(
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", id="order 8, other y"
        ),
        pytest.param(
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", id="order 8, other y, sign"
        ),
        # and in spellings that RFC 8032 does not allow
        pytest.param(
            "0100000000000000000000000000000000000000000000000000000000000080", id="identity, other sign"
        ),
        pytest.param(
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", id="order 2, other sign"
        ),
        pytest.param("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", id="y = p"),
        pytest.param(
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", id="y = p, other sign"
        ),
        pytest.param("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", id="y = p + 1"),
        pytest.param("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", id="y = p + 3"),
        pytest.param("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", id="y = 2^255 - 1"),
        pytest.param("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", id="all ones"),
    ],
)
def test_small_order_points(encoded: str) -> None:
    """None of the eight small-order Ed25519 points is used, under which one signature fits any message."""
    assert verdict(okp(bytes.fromhex(encoded))) == "a small-order or non-canonical Ed25519 point"


def test_only_public_members_are_kept() -> None:
    """Of a foreign key exactly the members that we serve are kept, in the order in which we serve them."""
    kept = VerificationKey.parse(jwk(x5c=["MII"], key_ops=["verify"], use=ABSENT, extra=1)).public_jwk
    assert list(kept) == ["kty", "crv", "x", "y", "kid", "use", "alg"]
    assert kept == key("ES256").public.public_jwk


def test_what_makes_two_keys_the_same() -> None:
    """Two keys are the same exactly when kid, algorithm and public members are."""
    public = key("ES256").public
    assert VerificationKey.parse(jwk(x5c=["MII"])).material == public.material
    assert VerificationKey.parse(jwk(kid="other")).material != public.material
    assert key("ES256", "second").public.material != public.material
    assert repr(public) == f"VerificationKey(kid={public.kid!r}, alg='ES256')"


# -- private keys ---------------------------------------------------------------------------------------


def secrets_of(pair: SigningKey) -> list[str]:
    found = [value for value in pair.private_members().values() if isinstance(value, str)]
    assert found
    return found


@pytest.mark.parametrize("alg", EVERY)
def test_private_keys_are_never_shown(alg: str) -> None:
    """Whatever prints a private key shows its name and algorithm only, also inside other objects."""
    pair = key(alg)
    shown = [
        repr(pair),
        str(pair),
        f"{pair}",
        f"{pair!r:>200}",
        repr([pair]),
        repr({"key": pair}),
        repr(pair.public),
    ]
    shown.append(json.dumps(pair.public.public_jwk))
    for secret in secrets_of(pair):
        assert not any(secret in text for text in shown)
    assert pair.kid in repr(pair)
    assert not hasattr(pair, "__dict__")


@pytest.mark.parametrize("alg", EVERY)
def test_private_keys_never_travel(alg: str) -> None:
    """A private key is neither pickled, copied nor written as JSON, and the refusals do not show it."""
    pair = key(alg)
    ways: list[Callable[[], object]] = [
        *(lambda p=protocol: pickle.dumps(pair, p) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        lambda: pickle.dumps({"key": pair}),
        lambda: copy.copy(pair),
        lambda: copy.deepcopy([pair]),
        lambda: json.dumps(pair),
        lambda: msgspec.json.encode(pair),
        lambda: msgspec.to_builtins(pair),
    ]
    for way in ways:
        with pytest.raises((TypeError, NotImplementedError)) as refused:
            way()
        text = "".join(traceback.format_exception(refused.value))
        assert not any(secret in text for secret in secrets_of(pair))


@pytest.mark.parametrize("alg", EVERY)
def test_halves_that_do_not_belong_together(alg: str) -> None:
    """A private half under another key's public half is found out before it signs anything."""
    mixed = SigningKey(key(alg).public, key(alg, "second").private_members())
    for use in (mixed.prepare, lambda: mixed.sign(DATA)):
        with pytest.raises(ValueError, match=f"private half of key {mixed.kid} does not belong") as refused:
            use()
        text = "".join(traceback.format_exception(refused.value))
        assert not any(secret in text for secret in secrets_of(mixed))


@pytest.mark.parametrize("alg", EVERY)
@pytest.mark.parametrize(
    "members",
    [{}, {"d": ""}, {"d": "AQ"}, {"d": "!"}, {"d": 1}, {"d": None}, {"k": "AQ"}, {"kty": "oct"}],
    ids=str,
)
def test_no_private_half(alg: str, members: Any) -> None:
    """Something else where a private half should be is found out before it signs anything."""
    with pytest.raises(ValueError, match="does not belong"):
        SigningKey(key(alg).public, members).prepare()


def test_preparing_again_changes_nothing() -> None:
    """A key may be prepared as often as one likes, and signs the same way before and after."""
    pair = SigningKey.generate("ES256")
    assert pair.public.verify(DATA, pair.sign(DATA))
    pair.prepare()
    pair.prepare()
    assert pair.public.verify(DATA, pair.sign(DATA))


def test_every_generated_key_is_new() -> None:
    """Two generated keys have nothing in common."""
    one, other = SigningKey.generate("ES256"), SigningKey.generate("ES256")
    assert one.kid != other.kid
    assert set(secrets_of(one)).isdisjoint(secrets_of(other))


@pytest.mark.parametrize(
    ("assumed", "alg"),
    [
        ({"RS256", "ES256"}, "RS256"),
        ({"PS256"}, "PS256"),
        ({"RS256", "PS256"}, None),
        ({"ES256"}, None),
        ((), None),
    ],
)
def test_a_key_without_alg(assumed: Collection[str], alg: str | None) -> None:
    """It is for the one assumed algorithm that goes with its type; where there are two, it is for none."""
    members = {name: value for name, value in key("RS256").public.public_jwk.items() if name != "alg"}
    if alg is None:
        with pytest.raises(UnusableKey, match="alg is missing"):
            VerificationKey.parse(members, assumed)
    else:
        assert VerificationKey.parse(members, assumed).alg == alg


def test_an_assumed_algorithm_is_not_put_in_place_of_a_named_one() -> None:
    """A key that names an algorithm is for that and no other."""
    members = key("RS256").public.public_jwk
    assert VerificationKey.parse(members, {"PS256"}).alg == "RS256"
    with pytest.raises(UnusableKey, match="alg is missing"):
        VerificationKey.parse({**members, "alg": None}, {"RS256"})
