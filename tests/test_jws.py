"""The form of tokens, through the door: standards (e) rows 1 to 30."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm
from jwt.utils import raw_to_der_signature

from s2s_mesh import jws
from s2s_mesh.errors import Reason, TokenRejected
from s2s_mesh.jws import b64url_decode, b64url_encode

from .receiver import Receiver
from .tokens import ABSENT, EDGE, LEDGER, claims, encode, good, header, key, sign

R = Reason
SECOND = key(name="second")


def parts() -> list[bytes]:
    return good().split(b".")


def joined(*pieces: bytes) -> bytes:
    return b".".join(pieces)


def with_header(**changes: Any) -> bytes:
    return sign(header(key(), **changes), claims(), key())


def raw_header(text: bytes) -> bytes:
    return sign(text, claims(), key())


def raw_payload(text: bytes) -> bytes:
    return sign(header(key()), text, key())


def with_signature(signature: bytes) -> bytes:
    head, payload, _ = parts()
    return joined(head, payload, b64url_encode(signature))


def payload_text(**changes: Any) -> bytes:
    return json.dumps(claims(**changes)).encode()


def spelled_otherwise() -> bytes:
    """The same 64 signature bytes, with unused bits set in the last character."""
    head, payload, signature = parts()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature[-1:]) + 1 : alphabet.index(signature[-1:]) + 2]
    return joined(head, payload, signature[:-1] + last)


def der_signature() -> bytes:
    head, payload, signature = parts()
    return joined(head, payload, b64url_encode(raw_to_der_signature(b64url_decode(signature), SECP256R1())))


P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_L = 2**252 + 27742317777372353535851937790883648493


def ecdsa(r: int, s: int) -> bytes:
    return with_signature(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def ed25519_plus_l() -> bytes:
    """S + L verifies in lax implementations (RFC 8032 section 5.1.7 forbids it)."""
    head, payload, signature = good(key("Ed25519")).split(b".")
    raw = b64url_decode(signature)
    s = int.from_bytes(raw[32:], "little") + ED25519_L
    return joined(head, payload, b64url_encode(raw[:32] + s.to_bytes(32, "little")))


def hmac_with(secret: bytes) -> bytes:
    signing_input = encode(header(key(), alg="HS256")) + b"." + encode(claims())
    return signing_input + b"." + b64url_encode(hmac.new(secret, signing_input, hashlib.sha256).digest())


def pem() -> bytes:
    public: Any = ECAlgorithm.from_jwk(dict(key().public.public_jwk))
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


ROWS: list[tuple[str, Callable[[], bytes], Reason | None]] = [
    ("a good token", good, None),
    ("a good token, RS256", lambda: good(key("RS256")), None),
    ("a good token, Ed25519", lambda: good(key("Ed25519")), None),
    ("typ in upper case", lambda: with_header(typ="AT+JWT"), None),
    ("typ with application/", lambda: with_header(typ="application/at+jwt"), None),
    ("payload in a loose spelling", lambda: raw_payload(json.dumps(claims(), indent=1).encode()), None),
    # form (rows 1 to 6)
    ("only dots", lambda: b"..", R.NOT_A_COMPACT_JWS),
    ("one part", lambda: parts()[0], R.NOT_A_COMPACT_JWS),
    ("two parts", lambda: b".".join(parts()[:2]), R.NOT_A_COMPACT_JWS),
    ("four parts", lambda: good() + b".AAAA", R.NOT_A_COMPACT_JWS),
    ("five parts, a JWE", lambda: b".".join([*parts(), b"AAAA", b"AAAA"]), R.NOT_A_COMPACT_JWS),
    ("empty header", lambda: joined(b"", *parts()[1:]), R.NOT_A_COMPACT_JWS),
    ("empty payload", lambda: joined(parts()[0], b"", parts()[2]), R.NOT_A_COMPACT_JWS),
    ("stripped signature", lambda: joined(*parts()[:2], b""), R.NOT_A_COMPACT_JWS),
    ("padded signature", lambda: good() + b"==", R.BAD_BASE64),
    ("plus and slash in the payload", lambda: joined(parts()[0], b"+/+/", parts()[2]), R.BAD_BASE64),
    ("header not canonical", lambda: joined(parts()[0] + b"A", *parts()[1:]), R.BAD_BASE64),
    ("foreign character in the header", lambda: joined(b"ey~" + parts()[0], *parts()[1:]), R.BAD_BASE64),
    ("other spelling of the same signature", spelled_otherwise, R.BAD_BASE64),
    ("as large as it may be", lambda: good(x="y" * 5000), None),
    ("a byte over the limit", lambda: good().ljust(8193, b"A"), R.TOKEN_TOO_LARGE),
    ("header over its limit", lambda: with_header(typ="a" * 2000), R.TOKEN_TOO_LARGE),
    # JSON (rows 6, 9 to 11)
    (
        "8 KB of nesting",
        lambda: raw_payload(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"[:0]),
        R.TOKEN_TOO_LARGE,
    ),
    ("6 KB of nesting", lambda: raw_payload(b'{"a":' + b"[" * 2900 + b"]" * 2900 + b"}"), R.BAD_JSON),
    ("nine levels", lambda: good(deep=json.loads("[" * 8 + "]" * 8)), R.BAD_JSON),
    ("header in UTF-16", lambda: raw_header(json.dumps(header(key())).encode("utf-16")), R.BAD_JSON),
    ("payload in UTF-32", lambda: raw_payload(payload_text().decode().encode("utf-32-le")), R.BAD_JSON),
    ("byte order mark", lambda: raw_payload(b"\xef\xbb\xbf" + payload_text()), R.BAD_JSON),
    ("invalid UTF-8", lambda: raw_payload(payload_text()[:-1] + b',"x":"\xff"}'), R.BAD_JSON),
    ("lone surrogate", lambda: raw_payload(payload_text()[:-1] + b',"x":"\\ud800"}'), R.BAD_JSON),
    ("exp twice", lambda: raw_payload(payload_text()[:-1] + b',"exp":1}'), R.BAD_JSON),
    ("exp twice, escaped", lambda: raw_payload(payload_text()[:-1] + b',"\\u0065xp":1}'), R.BAD_JSON),
    (
        "alg twice",
        lambda: raw_header(json.dumps(header(key())).encode()[:-1] + b',"alg":"none"}'),
        R.BAD_JSON,
    ),
    ("payload is an array", lambda: raw_payload(b"[]"), R.BAD_JSON),
    ("payload is a string", lambda: raw_payload(b'"x"'), R.BAD_JSON),
    ("payload is null", lambda: raw_payload(b"null"), R.BAD_JSON),
    ("payload is not JSON", lambda: raw_payload(b"{"), R.BAD_JSON),
    ("header is an array", lambda: raw_header(b"[]"), R.BAD_JSON),
    ("NaN", lambda: raw_payload(payload_text()[:-1] + b',"x":NaN}'), R.BAD_JSON),
    ("1e400", lambda: raw_payload(payload_text()[:-1] + b',"x":1e400}'), R.BAD_JSON),
    ("30 digits", lambda: raw_payload(payload_text()[:-1] + b',"x":' + b"9" * 30 + b"}"), R.BAD_JSON),
    # algorithm (rows 12 to 18, 20)
    *[
        (f"alg {alg!r}", partial(with_header, alg=alg), R.BAD_ALGORITHM)
        for alg in (
            "none",
            "None",
            "nOnE",
            "none ",
            "",
            ABSENT,
            None,
            1,
            ["ES256"],
            "es256",
            "ES256 ",
            "ES256\0",
        )
    ],
    ("a signature of one byte", lambda: joined(parts()[0], parts()[1], b"AA"), R.BAD_SIGNATURE),
    ("HS256 with the PEM", lambda: hmac_with(pem()), R.BAD_ALGORITHM),
    ("HS256 with the JWK", lambda: hmac_with(key().public.material), R.BAD_ALGORITHM),
    (
        "EdDSA where Ed25519 is allowed",
        lambda: sign(header(key("Ed25519"), alg="EdDSA"), claims(), key("Ed25519")),
        R.BAD_ALGORITHM,
    ),
    ("ES384, which this issuer may not use", lambda: good(key("ES384")), R.BAD_ALGORITHM),
    ("RS256 in the header, EC key", lambda: with_header(alg="RS256"), R.KEY_MISMATCH),
    (
        "ES256 in the header, RSA key",
        lambda: sign(header(key("RS256"), alg="ES256"), claims(), key("RS256")),
        R.KEY_MISMATCH,
    ),
    (
        "signature of another token",
        lambda: joined(*parts()[:2], good(jti="other").split(b".")[2]),
        R.BAD_SIGNATURE,
    ),
    ("63 bytes", lambda: with_signature(b64url_decode(parts()[2])[:63]), R.BAD_SIGNATURE),
    ("65 bytes", lambda: with_signature(b64url_decode(parts()[2]) + b"\0"), R.BAD_SIGNATURE),
    ("DER", der_signature, R.BAD_SIGNATURE),
    ("r = s = 0", lambda: ecdsa(0, 0), R.BAD_SIGNATURE),
    ("r = n", lambda: ecdsa(P256_N, 1), R.BAD_SIGNATURE),
    ("s = n", lambda: ecdsa(1, P256_N), R.BAD_SIGNATURE),
    ("r = 0, s = 1", lambda: ecdsa(0, 1), R.BAD_SIGNATURE),
    ("Ed25519, S + L", ed25519_plus_l, R.BAD_SIGNATURE),
    ("another key, this kid", lambda: sign(header(key()), claims(), SECOND), R.BAD_SIGNATURE),
    (
        "payload changed",
        lambda: joined(parts()[0], good(jti="z").split(b".")[1], parts()[2]),
        R.BAD_SIGNATURE,
    ),
    # header injection (rows 21 to 27, 30)
    ("jwk", lambda: with_header(jwk=dict(key().public.public_jwk)), R.HEADER_MEMBER),
    *[
        (
            f"{member} in the header",
            partial(with_header, **{member: value}),
            R.HEADER_MEMBER,
        )
        for member, value in (
            ("jku", "https://evil.example/jwks"),
            ("x5u", "https://evil.example/x"),
            ("x5c", ["MIIB"]),
            ("x5t", "AAAA"),
            ("x5t#S256", "AAAA"),
            ("crit", ["exp"]),
            ("crit", []),
            ("b64", False),
            ("zip", "DEF"),
            ("p2c", 10**7),
            ("enc", "A256GCM"),
            ("cty", "JWT"),
            ("foo", 1),
        )
    ],
    *[
        (f"kid {str(kid)[:20]!r}", partial(with_header, kid=kid), R.BAD_KID)
        for kid in ("' OR 1=1", "a\n", "a b", "%00", "\0", "x" * 201, "", 7, None, ABSENT, "ключ", ["a"])
    ],
    ("kid that is a path", lambda: with_header(kid="../../dev/null"), R.UNKNOWN_KID),
    ("kid nobody publishes", lambda: with_header(kid="nobody"), R.UNKNOWN_KID),
    ("key of another issuer", lambda: good(SECOND), R.UNKNOWN_KID),
    (
        "key of another issuer, as that issuer",
        lambda: good(SECOND, iss=LEDGER, sub=LEDGER, client_id=LEDGER),
        None,
    ),
    ("our key, as another issuer", lambda: good(iss=LEDGER, sub=LEDGER, client_id=LEDGER), R.UNKNOWN_KID),
    *[
        (f"typ {typ!r}", partial(with_header, typ=typ), R.BAD_TYPE)
        for typ in (
            "JWT",
            "wit+jwt",
            "wpt+jwt",
            "dpop+jwt",
            "txntoken+jwt",
            "client-authentication+jwt",
            "text/at+jwt",
            "application/application/at+jwt",
            "at+jwt ",
            "",
            "\uff41t+jwt",
            ABSENT,
            None,
            1,
        )
    ],
]


@pytest.mark.parametrize(("token", "reason"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_only_a_well_formed_token_with_the_right_signature_is_let_in(
    receiver: Receiver, token: Callable[[], bytes], reason: Reason | None
) -> None:
    """Each row is accepted, or refused with 401 and, in the log only, its one reason."""
    verdict = receiver.call(token())
    if reason is None:
        assert (verdict.status, verdict.reason) == (200, None)
        return
    assert (verdict.status, verdict.reason) == (401, reason.value)
    assert 'error="invalid_token"' in verdict.headers["www-authenticate"]
    assert reason.value not in json.dumps(verdict.body)


@pytest.mark.parametrize("character", [b"\r", b"\n", b" ", b"\0", "ü".encode(), b"=", b"+", b"/"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_part_may_hold_a_foreign_character(receiver: Receiver, part: int, character: bytes) -> None:
    """White space, padding, the other alphabet or Unicode inside any part refuses the token."""
    pieces = parts()
    pieces[part] = pieces[part][:8] + character + pieces[part][8:]
    with pytest.raises(TokenRejected) as refused:
        receiver.service.verify(b".".join(pieces))
    assert refused.value.reason is Reason.BAD_BASE64


def test_the_malleated_twin_of_a_signature_verifies_and_is_why_replay_is_keyed_on_jti(
    receiver: Receiver,
) -> None:
    """(r, n - s) is as good as (r, s) to every ECDSA library, so token text must never identify a use."""
    raw = b64url_decode(parts()[2])
    twin = ecdsa(int.from_bytes(raw[:32], "big"), P256_N - int.from_bytes(raw[32:], "big"))
    assert receiver.call(twin).status == 200


def test_what_is_written_is_what_is_read() -> None:
    """Encoding and strict decoding are inverse to each other for every length."""
    for length in range(70):
        data = bytes(range(length))
        assert b64url_decode(b64url_encode(data)) == data
        assert b64url_encode(data) == base64.urlsafe_b64encode(data).rstrip(b"=")


def test_the_examples_of_rfc_7515_come_apart_as_printed() -> None:
    """RFC 7515 appendix A.3 is well-formed, and refused only for the members that its header lacks."""
    token = (
        b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19"
        b"yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    with pytest.raises(TokenRejected) as refused:
        jws.decode(token)
    assert refused.value.reason is Reason.BAD_KID


def test_a_token_given_as_text_is_read_like_one_given_as_bytes(receiver: Receiver) -> None:
    """`verify` takes both, and text outside ASCII is refused like any foreign character."""
    assert receiver.service.verify(good().decode()).issuer == EDGE
    with pytest.raises(TokenRejected) as refused:
        receiver.service.verify("ü" + good().decode())
    assert refused.value.reason is Reason.BAD_BASE64


def test_no_refusal_repeats_any_of_the_token(receiver: Receiver) -> None:
    """The text of every refusal in the table is free of the token's own bytes."""
    for _, make, reason in ROWS:
        token = make()
        if reason is not None:
            with pytest.raises(TokenRejected) as refused:
                receiver.service.verify(token)
            assert not any(
                part.decode("latin-1") in str(refused.value) for part in token.split(b".") if len(part) > 8
            )
