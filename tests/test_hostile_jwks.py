"""What whoever presents a token gets, when its issuer publishes something hostile.

Standards (e) rows 20 to 23, 36 and 52 to 57. Where the published key can sign, it signed the token
(RSA 1024, e = 1, foreign curves, wrong use); elsewhere only the reason tells an ignored key from a bad one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from jwcrypto.jwk import JWK
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from s2s_mesh.errors import JWKSUnavailable, Reason, TokenRejected
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.keys import ALGORITHMS

from .hostile import rows
from .jwks_servers import Clock, JWKSServer, Wallets, answer, jwks
from .tokens import ABSENT, EDGE, claims, encode, good, header, key, sign

R = Reason
CLAIMS = claims()
Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return b64url_encode(data).decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def entry(alg: str = "ES256", /, **changes: Any) -> dict[str, Any]:
    """The good key as a member of a set; `ABSENT` removes a member."""
    members = {**key(alg).public.public_jwk, **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


def token(alg: str, kid: str, sign_: Sign) -> bytes:
    """A token with this header, signed in whatever way."""
    signing_input = encode({"alg": alg, "kid": kid, "typ": "at+jwt"}) + b"." + encode(CLAIMS)
    return signing_input + b"." + b64url_encode(sign_(signing_input))


GOOD = good()
GOOD_ED25519 = good(key("Ed25519"))


# -- keys that are too weak to be used, and what their owners, or anybody, can sign with them ---------------


def weak_rsa(bits: int) -> tuple[dict[str, Any], bytes]:
    """A small RSA key and a token that it signed."""
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    public = {"kty": "RSA", "n": number(numbers.n), "e": "AQAB", "kid": "k1", "use": "sig", "alg": "RS256"}
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    return public, token("RS256", "k1", lambda data: algorithm.sign(data, private))


def padded(data: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 of RFC 8017 section 9.2, which is the signature where the exponent is 1."""
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(data).digest()
    return b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info


def rsa_with(n: int, e: int) -> dict[str, Any]:
    return {"kty": "RSA", "n": number(n), "e": number(e), "kid": "k1", "use": "sig", "alg": "RS256"}


N = int.from_bytes(b64url_decode(key("RS256").public.public_jwk["n"].encode()), "big")
UNPADDED = token("RS256", "k1", lambda data: padded(data, 384))
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
FITS_ANYTHING = token("Ed25519", "k1", lambda _: b"\1" + bytes(63))


def okp(x: bytes, **changes: Any) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(x), "kid": "k1", "alg": "Ed25519", **changes}


def on_another_curve(curve: ec.EllipticCurve, crv: str) -> tuple[dict[str, Any], bytes]:
    """A key on a curve that ES256 is not for, and a token that it signed all the same."""
    private = ec.generate_private_key(curve)
    public = {**ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": "k1", "alg": "ES256"}
    assert public["crv"] == crv
    algorithm = ECAlgorithm(ECAlgorithm.SHA256)
    return public, token("ES256", "k1", lambda data: algorithm.sign(data, private))


def ed448() -> tuple[dict[str, Any], bytes]:
    private = Ed448PrivateKey.generate()
    x = private.public_key().public_bytes_raw()
    return okp(x, crv="Ed448"), token("Ed25519", "k1", private.sign)


X, Y = (key().public.public_jwk[name] for name in "xy")
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
SECRET = JWK.generate(kty="oct", size=256).export(as_dict=True)
OTHER = key(name="second")


def document(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def foreign(name: str, made: tuple[dict[str, Any], bytes]) -> tuple[str, bytes, bytes, Reason | None]:
    """A key that is none of ours, published alone, and its token."""
    return name, document(made[0]), made[1], R.UNKNOWN_KID


UNFIT: list[dict[str, Any]] = [
    {"use": "enc"},
    {"use": "jwt-svid"},
    {"use": None},
    {"key_ops": []},
    {"key_ops": ["sign"]},
    {"key_ops": ["encrypt"]},
    {"key_ops": "verify"},
    {"alg": ABSENT},
    {"alg": "none"},
    {"alg": "RSA-OAEP"},
    {"alg": "HS256"},
    {"alg": ["ES256"]},
    {"alg": "es256"},
    {"kty": "RSA"},
    {"kty": "ec"},
    {"kty": ABSENT},
    {"kid": ABSENT},
    {"kid": ""},
    {"kid": 1},
]
ROWS: list[tuple[str, bytes, bytes, Reason | None]] = [
    ("the good key", document(entry()), GOOD, None),
    ("the good Ed25519 key", document(entry("Ed25519")), GOOD_ED25519, None),
    (
        "members that nobody needs",
        document(entry(x5c=["MIIB"], x5u="https://evil.example", foo=1)),
        GOOD,
        None,
    ),
    ("the good key twice, to the byte", document(entry(), entry()), GOOD, None),
    # weak keys (row 52): each is ignored, so that its kid is unknown
    *[foreign(f"RSA of {bits} bits", weak_rsa(bits)) for bits in (1024, 2040)],
    ("RSA of 512 bits", document(rsa_with(2**511 + 1, 65537)), UNPADDED, R.UNKNOWN_KID),
    ("RSA of 32,768 bits", document(rsa_with(2**32767 + 1, 65537)), UNPADDED, R.UNKNOWN_KID),
    ("RSA of 65,536 bits", document(rsa_with(2**65535 + 1, 65537)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with an even modulus", document(rsa_with(N - 1, 65537)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with e = 1, under which anybody signs", document(rsa_with(N, 1)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with e = 2", document(rsa_with(N, 2)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with an even e", document(rsa_with(N, 65536)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with e of 2000 bits", document(rsa_with(N, 2**1999 + 1)), UNPADDED, R.UNKNOWN_KID),
    ("RSA with n = 0", document({**rsa_with(N, 65537), "n": "AA"}), UNPADDED, R.UNKNOWN_KID),
    # points (rows 20 and 53)
    *[
        (
            f"Ed25519 of small order, {point[:4]}{point[-4:]}",
            document(okp(bytes.fromhex(point))),
            FITS_ANYTHING,
            R.UNKNOWN_KID,
        )
        for point in SMALL_ORDER
    ],
    ("Ed25519 of 31 octets", document(okp(bytes(31))), FITS_ANYTHING, R.UNKNOWN_KID),
    foreign("Ed448 as Ed25519", ed448()),
    foreign("secp256k1", on_another_curve(ec.SECP256K1(), "secp256k1")),
    foreign("P-384 as ES256", on_another_curve(ec.SECP384R1(), "P-384")),
    foreign("P-521 as ES256", on_another_curve(ec.SECP521R1(), "P-521")),
    ("P-256 as ES384", document(entry(alg="ES384")), GOOD, R.UNKNOWN_KID),
    ("a point off the curve", document(entry(x=Y, y=X)), GOOD, R.UNKNOWN_KID),
    ("the point at infinity", document(entry(x=b64(bytes(32)), y=b64(bytes(32)))), GOOD, R.UNKNOWN_KID),
    ("x = p", document(entry(x=number(P256))), GOOD, R.UNKNOWN_KID),
    ("a short x", document(entry(x=b64(b64url_decode(X.encode())[1:]))), GOOD, R.UNKNOWN_KID),
    ("a long y", document(entry(y=b64(b"\0" + b64url_decode(Y.encode())))), GOOD, R.UNKNOWN_KID),
    ("x with padding", document(entry(x=X + "=")), GOOD, R.UNKNOWN_KID),
    ("no y", document(entry(y=ABSENT)), GOOD, R.UNKNOWN_KID),
    # what a key is for (row 54)
    *[
        (
            f"{next(iter(changes))} {next(iter(changes.values()))!s:.30}",
            document(entry(**changes)),
            GOOD,
            R.UNKNOWN_KID,
        )
        for changes in UNFIT
    ],
    ("kid and a newline", document(entry(kid=key().kid + "\n")), GOOD, R.UNKNOWN_KID),
    ("use sig and key_ops encrypt", document(entry(use="sig", key_ops=["encrypt"])), GOOD, R.UNKNOWN_KID),
    # a set that is revoked, or that says nothing of this key (row 57)
    ("an empty set", document(), GOOD, R.UNKNOWN_KID),
    ("another key", jwks(OTHER), GOOD, R.UNKNOWN_KID),
    (
        "another key under this kid",
        document({**OTHER.public.public_jwk, "kid": key().kid}),
        GOOD,
        R.BAD_SIGNATURE,
    ),
    ("another kind of key under this kid", document(entry("Ed25519", kid=key().kid)), GOOD, R.KEY_MISMATCH),
    # a set that is refused whole (rows 54 to 57): none is at hand, so nothing is said about the token
    *[
        (name, body, GOOD, R.JWKS_UNAVAILABLE)
        for name, body in (
            (
                "a private key beside",
                document(entry(), {**OTHER.public.public_jwk, **OTHER.private_members()}),
            ),
            ("the good key, private", document({**entry(), **key().private_members()})),
            ("a shared secret beside", document(entry(), {**SECRET, "kid": "s", "alg": "HS256"})),
            ("a private member, null", document(entry(d=None))),
            ("two keys with one kid", document(entry(), {**OTHER.public.public_jwk, "kid": key().kid})),
            (
                "one key, two algorithms",
                document(entry("RS256", kid="k"), entry("RS256", kid="k", alg="PS256"), entry()),
            ),
            ("21 keys", document(*(entry(kid=f"k{n}") for n in range(20)), entry())),
            ("101 keys", document(entry(), *[{}] * 100)),
            ("10,000 keys", document(entry(), *[{}] * 10_000)),
            ("10,000 good keys", document(*(entry(kid=f"k{n}") for n in range(10_000)))),
            ("64 KiB and more", document(entry()).ljust(64 * 1024 + 1)),
            ("keys twice", document(entry())[:-1] + b',"keys":[]}'),
            ("kid twice", document(entry()).replace(b'"kid"', b'"kid":"x","kid"')),
            ("keys is an object", b'{"keys":{}}'),
            ("keys is null", b'{"keys":null}'),
            ("keys in another case", document(entry()).replace(b"keys", b"Keys")),
            ("no keys", b"{}"),
            ("a bare key", json.dumps(entry()).encode()),
            ("a bare array", json.dumps([entry()]).encode()),
            ("an array of arrays", document([entry()])),
            ("a text among the keys", document(entry(), "x")),
            ("HTML", b"<html>maintenance</html>"),
            ("nothing", b""),
            ("a byte order mark", b"\xef\xbb\xbf" + document(entry())),
            ("UTF-16", document(entry()).decode().encode("utf-16")),
            ("NaN", document(entry())[:-1] + b',"x":NaN}'),
            ("100,000 brackets", b'{"keys":' + b"[" * 60_000),
            ("a member that is nested too deep", document(entry(), {"a": json.loads("[" * 9 + "]" * 9)})),
        )
    ],
]


@pytest.fixture(scope="module")
def server() -> Iterator[JWKSServer]:
    with JWKSServer(Clock()) as made:
        yield made


def outcome(wallets: Wallets, presented: bytes) -> Reason | None:
    """The reason for which a token is refused, or None."""
    try:
        wallets.verify(presented)
    except (TokenRejected, JWKSUnavailable) as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize(("body", "presented", "reason"), rows(ROWS))
def test_a_token_is_worth_what_its_issuer_publishes(
    server: JWKSServer, body: bytes, presented: bytes, reason: Reason | None
) -> None:
    """An unusable key does not exist; a set that is refused whole is an outage and no verdict on a token."""
    edge = server.endpoint("edge")
    edge.instead = answer(body)
    with Wallets(Clock(), {EDGE: edge.url}, algorithms=sorted(ALGORITHMS)) as wallets:
        assert outcome(wallets, presented) is reason
    assert len(edge.asked) == (2 if reason is R.UNKNOWN_KID else 1)  # once more, past caches


ANSWERS: list[tuple[str, bytes, Reason | None]] = [
    ("a good answer", answer(jwks(key())), None),
    *[
        (name, said, R.JWKS_UNAVAILABLE)
        for name, said in (
            ("200 with HTML", answer(b"<html>", kind="text/html")),
            ("204", answer(status="204 No Content")),
            ("206", answer(jwks(key()), status="206 Partial Content")),
            ("301 to the same place", answer(jwks(key()), "Location: /edge", status="301 Moved")),
            ("302 to metadata", answer(b"", "Location: http://169.254.169.254/", status="302 Found")),
            ("304 to a question without conditions", answer(status="304 Not Modified")),
            ("401", answer(jwks(key()), status="401 Unauthorized")),
            ("404", answer(jwks(key()), status="404 Not Found")),
            ("500", answer(jwks(key()), status="500 Oops")),
            ("503 for a day", answer(b"", "Retry-After: 86400", status="503 Busy")),
            ("gzip", answer(jwks(key()), "Content-Encoding: gzip")),
            ("a body cut short", answer(jwks(key()))[:-1]),
            ("hanging up", b""),
        )
    ],
]


@pytest.mark.parametrize(("said", "reason"), rows(ANSWERS))
def test_an_issuer_that_does_not_answer_well_is_no_verdict_on_a_token(
    server: JWKSServer, said: bytes, reason: Reason | None
) -> None:
    """Without keys the answer is 503; the issuer was asked once, and nobody else was."""
    edge = server.endpoint("edge")
    edge.instead = said
    with Wallets(Clock(), {EDGE: edge.url}) as wallets:
        assert outcome(wallets, GOOD) is reason
        assert len(edge.asked) == 1


# -- places that a token names (rows 21 to 23 and 36) -------------------------------------------------------

INTRUDER = key(name="intruder")


def luring(url: str) -> Sequence[tuple[str, bytes, Reason | None]]:
    """Tokens that name a place of their own, where a good set with their key waits."""
    own = {"iss": url, "sub": url, "client_id": url}
    return [
        ("nothing", GOOD, None),
        *[
            (
                member,
                sign(header(INTRUDER, kid=key().kid, **{member: value}), CLAIMS, INTRUDER),
                R.HEADER_MEMBER,
            )
            for member, value in (
                ("jku", url),
                ("x5u", url),
                ("jwk", dict(INTRUDER.public.public_jwk)),
                ("jwks_uri", url),
                ("iss", url),
            )
        ],
        ("kid", sign(header(INTRUDER, kid=url), CLAIMS, INTRUDER), R.UNKNOWN_KID),
        ("iss", sign(header(INTRUDER), claims(**own), INTRUDER), R.UNKNOWN_ISSUER),
        ("iss and more", sign(header(INTRUDER), claims(iss=f"{EDGE}@{url}"), INTRUDER), R.UNKNOWN_ISSUER),
        ("claims", sign(header(INTRUDER), claims(jku=url, jwks_uri=url, iss=EDGE), INTRUDER), R.UNKNOWN_KID),
    ]


LURES = luring("PLACE")


@pytest.mark.parametrize(
    ("position", "reason"), rows([(name, n, why) for n, (name, _, why) in enumerate(LURES)])
)
def test_no_place_that_a_token_names_is_ever_asked(
    server: JWKSServer, position: int, reason: Reason | None
) -> None:
    """The issuer in the trust file is asked and nobody else, whatever header or claims say."""
    edge, evil = server.endpoint("edge", key()), server.endpoint("evil", INTRUDER)
    _, presented, _ = luring(evil.url)[position]
    with Wallets(Clock(), {EDGE: edge.url}) as wallets:
        assert outcome(wallets, presented) is reason
    assert not evil.asked
