"""The form of tokens, through the door: standards (e) rows 1 to 30."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, RSAPSSAlgorithm
from jwt.utils import raw_to_der_signature

from s2s_mesh.errors import Reason, TokenRejected
from s2s_mesh.jws import b64url_decode, b64url_encode

from .hostile import rows
from .receiver import Receiver
from .tokens import ABSENT, EDGE, LEDGER, claims, encode, frozen, good, header, key, sign

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


def header_text(**changes: Any) -> bytes:
    return json.dumps(header(key(), **changes)).encode()


def payload_text(**changes: Any) -> bytes:
    return json.dumps(claims(**changes)).encode()


ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def spelled_otherwise(unused: int) -> bytes:
    """The same 64 signature bytes, with the four unused bits of the last character set to this."""
    text = good()
    last = ALPHABET[ALPHABET.index(text[-1:]) + unused]
    return text[:-1] + bytes([last])


def header_spelled_otherwise() -> bytes:
    """A header whose bytes end within a character, with an unused bit set, and signed like that."""
    text = json.dumps(header(key())).encode()
    head = encode(text + b" " * ((1 - len(text)) % 3))
    head = head[:-1] + bytes([ALPHABET[ALPHABET.index(head[-1:]) + 1]])
    signing_input = head + b"." + encode(claims())
    return signing_input + b"." + b64url_encode(key().sign(signing_input))


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


def hmac_with(secret: bytes, alg: str = "HS256") -> bytes:
    signing_input = encode(header(key(), alg=alg)) + b"." + encode(claims())
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    return signing_input + b"." + b64url_encode(hmac.new(secret, signing_input, digest).digest())


def exported(encoding: Encoding, form: PublicFormat, alg: str = "ES256") -> bytes:
    """The public key, which everybody knows, in a form that a careless verifier takes for a secret."""
    algorithm = ECAlgorithm if alg == "ES256" else RSAAlgorithm
    public: Any = algorithm.from_jwk(dict(key(alg).public.public_jwk))
    text: bytes = public.public_bytes(encoding, form)
    return text


PEM = partial(exported, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(alg: Any, signature: bytes) -> bytes:
    return encode(header(key(), alg=alg)) + b"." + encode(claims()) + b"." + signature


def jwe(algorithm: str, inside: bytes) -> bytes:
    """A JWE for the service's public key, or with a key that the attacker chose."""
    point = {name: value for name, value in key().public.public_jwk.items() if name not in ("use", "alg")}
    secret = JWK.generate(kty="oct", size=256) if algorithm == "dir" else JWK(**point)
    made = JWE(inside, json.dumps({"alg": algorithm, "enc": "A256GCM", "cty": "JWT", "kid": key().kid}))
    made.add_recipient(secret)
    text: str = made.serialize(compact=True)
    return text.encode()


def ed448(alg: str) -> bytes:
    signing_input = encode(header(key("Ed25519"), alg=alg)) + b"." + encode(claims())
    return signing_input + b"." + b64url_encode(Ed448PrivateKey.generate().sign(signing_input))


def pss(alg: str) -> bytes:
    """The RSA key's signature with the padding of PS256."""
    pair = key("RS256")
    private = RSAPSSAlgorithm.from_jwk({**pair.public.public_jwk, **pair.private_members()})
    signing_input = encode(header(pair, alg=alg)) + b"." + encode(claims())
    made = RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256).sign(signing_input, private)  # type: ignore[arg-type]
    return signing_input + b"." + b64url_encode(made)


def rsa_signature(change: Callable[[bytes], bytes]) -> bytes:
    head, payload, signature = good(key("RS256")).split(b".")
    return joined(head, payload, b64url_encode(change(b64url_decode(signature))))


def attackers(**changes: Any) -> bytes:
    """Signed by an intruder who brings the key along."""
    return sign(header(key(), **changes), claims(), key(name="intruder"))


INTRUDER_JWK = dict(key(name="intruder").public.public_jwk)


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
    ("an unsigned token inside of a JWE", lambda: jwe("ECDH-ES", unsigned("none", b"")), R.NOT_A_COMPACT_JWS),
    ("a good token inside of a JWE", lambda: jwe("ECDH-ES", good()), R.NOT_A_COMPACT_JWS),
    ("a JWE without an encrypted key", lambda: jwe("dir", good()), R.NOT_A_COMPACT_JWS),
    ("a JWE cut to three parts", lambda: b".".join(jwe("dir", good()).split(b".")[::2]), R.HEADER_MEMBER),
    ("five dots", lambda: b".....", R.NOT_A_COMPACT_JWS),
    ("a dot behind", lambda: good() + b".", R.NOT_A_COMPACT_JWS),
    ("a dot before", lambda: b"." + good(), R.NOT_A_COMPACT_JWS),
    ("one dot", lambda: b".", R.NOT_A_COMPACT_JWS),
    ("five parts, a JWE", lambda: b".".join([*parts(), b"AAAA", b"AAAA"]), R.NOT_A_COMPACT_JWS),
    ("empty header", lambda: joined(b"", *parts()[1:]), R.NOT_A_COMPACT_JWS),
    ("empty payload", lambda: joined(parts()[0], b"", parts()[2]), R.NOT_A_COMPACT_JWS),
    ("stripped signature", lambda: joined(*parts()[:2], b""), R.NOT_A_COMPACT_JWS),
    ("padded signature", lambda: good() + b"==", R.BAD_BASE64),
    ("plus and slash in the payload", lambda: joined(parts()[0], b"+/+/", parts()[2]), R.BAD_BASE64),
    ("header not canonical", lambda: joined(parts()[0] + b"A", *parts()[1:]), R.BAD_BASE64),
    ("foreign character in the header", lambda: joined(b"ey~" + parts()[0], *parts()[1:]), R.BAD_BASE64),
    *[
        (f"spelling {unused} of the same signature", partial(spelled_otherwise, unused), R.BAD_BASE64)
        for unused in range(1, 16)
    ],
    ("other spelling of the header", header_spelled_otherwise, R.BAD_BASE64),
    ("a part of an impossible length", lambda: joined(*parts()[:2], b"A"), R.BAD_BASE64),
    ("signature in the other alphabet", lambda: joined(*parts()[:2], b"+/" * 43), R.BAD_BASE64),
    ("a tilde in the signature", lambda: good()[:-9] + b"~" + good()[-8:], R.BAD_BASE64),
    ("as large as it may be", lambda: good(x="y" * 5000), None),
    ("a byte over the limit", lambda: good().ljust(8193, b"A"), R.TOKEN_TOO_LARGE),
    ("header over its limit", lambda: with_header(typ="a" * 2000), R.TOKEN_TOO_LARGE),
    ("a token of 1 MB", lambda: good() + b"A" * 10**6, R.TOKEN_TOO_LARGE),
    ("a header of 4 KB", lambda: with_header(kid="k" * 4000), R.TOKEN_TOO_LARGE),
    ("100,000 brackets", lambda: raw_payload(b"[" * 100_000), R.TOKEN_TOO_LARGE),
    # JSON (rows 6, 9 to 11)
    ("2 KB of brackets in the header", lambda: raw_header(b"[" * 2048), R.BAD_JSON),
    ("2 KB of braces in the header", lambda: raw_header(b'{"a":' * 400), R.BAD_JSON),
    ("6 KB of brackets", lambda: raw_payload(b"[" * 5900), R.BAD_JSON),
    ("header with a byte order mark", lambda: raw_header(b"\xef\xbb\xbf" + header_text()), R.BAD_JSON),
    (
        "header in UTF-16 without a mark",
        lambda: raw_header(header_text().decode().encode("utf-16-le")),
        R.BAD_JSON,
    ),
    ("header in UTF-32", lambda: raw_header(header_text().decode().encode("utf-32")), R.BAD_JSON),
    ("payload in UTF-16", lambda: raw_payload(payload_text().decode().encode("utf-16")), R.BAD_JSON),
    (
        "header in invalid UTF-8",
        lambda: raw_header(header_text().replace(b"at+jwt", b"at+jwt\xff")),
        R.BAD_JSON,
    ),
    ("overlong slash", lambda: raw_payload(payload_text().replace(b"//edge", b"/\xc0\xafedge")), R.BAD_JSON),
    ("overlong NUL", lambda: raw_payload(payload_text()[:-1] + b',"x":"\xc0\x80"}'), R.BAD_JSON),
    ("surrogates as UTF-8", lambda: raw_payload(payload_text()[:-1] + b',"x":"\xed\xa0\x80"}'), R.BAD_JSON),
    ("beyond Unicode", lambda: raw_payload(payload_text()[:-1] + b',"x":"\xf4\x90\x80\x80"}'), R.BAD_JSON),
    ("NUL behind the payload", lambda: raw_payload(payload_text() + b"\0"), R.BAD_JSON),
    ("two payloads", lambda: raw_payload(payload_text() * 2), R.BAD_JSON),
    ("two headers", lambda: raw_header(header_text() * 2), R.BAD_JSON),
    ("alg twice, escaped", lambda: raw_header(header_text()[:-1] + b',"\\u0061lg":"none"}'), R.BAD_JSON),
    (
        "kid twice, the same",
        lambda: raw_header(header_text()[:-1] + b',"kid":"' + key().kid.encode() + b'"}'),
        R.BAD_JSON,
    ),
    ("aud twice", lambda: raw_payload(payload_text()[:-1] + b',"aud":"x"}'), R.BAD_JSON),
    ("a member twice, deeper", lambda: raw_payload(payload_text()[:-1] + b',"x":{"a":1,"a":1}}'), R.BAD_JSON),
    ("payload is a number", lambda: raw_payload(b"1"), R.BAD_JSON),
    ("payload is true", lambda: raw_payload(b"true"), R.BAD_JSON),
    ("header is null", lambda: raw_header(b"null"), R.BAD_JSON),
    ("header is a string", lambda: raw_header(b'"x"'), R.BAD_JSON),
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
    ("none without signature", lambda: unsigned("none", b""), R.NOT_A_COMPACT_JWS),
    ("none with some signature", lambda: unsigned("none", b"AAAA"), R.BAD_ALGORITHM),
    ("none, the signature in two parts", lambda: unsigned("none", b"."), R.NOT_A_COMPACT_JWS),
    ("HS256 with the PEM", lambda: hmac_with(PEM()), R.BAD_ALGORITHM),
    ("HS256 with the PEM, stripped", lambda: hmac_with(PEM().strip()), R.BAD_ALGORITHM),
    ("HS256 with the PEM of the RSA key", lambda: hmac_with(PEM("RS256")), R.BAD_ALGORITHM),
    (
        "HS256 with the PKCS #1 PEM of the RSA key",
        lambda: hmac_with(exported(Encoding.PEM, PublicFormat.PKCS1, "RS256")),
        R.BAD_ALGORITHM,
    ),
    (
        "HS256 with the DER",
        lambda: hmac_with(exported(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        R.BAD_ALGORITHM,
    ),
    (
        "HS256 with the point",
        lambda: hmac_with(exported(Encoding.X962, PublicFormat.UncompressedPoint)),
        R.BAD_ALGORITHM,
    ),
    ("HS256 with the JWK", lambda: hmac_with(key().public.material), R.BAD_ALGORITHM),
    ("HS256 with the kid", lambda: hmac_with(key().kid.encode()), R.BAD_ALGORITHM),
    ("HS256 with nothing", lambda: hmac_with(b""), R.BAD_ALGORITHM),
    ("HS384 with the PEM", lambda: hmac_with(PEM(), "HS384"), R.BAD_ALGORITHM),
    ("HS512 with the PEM", lambda: hmac_with(PEM(), "HS512"), R.BAD_ALGORITHM),
    (
        "an HMAC under ES256",
        lambda: joined(*parts()[:2], hmac_with(PEM(), "HS512").split(b".")[2]),
        R.BAD_SIGNATURE,
    ),
    ("Ed448 under EdDSA", lambda: ed448("EdDSA"), R.BAD_ALGORITHM),
    ("Ed448", lambda: ed448("Ed448"), R.BAD_ALGORITHM),
    ("Ed448 under Ed25519", lambda: ed448("Ed25519"), R.BAD_SIGNATURE),
    ("PS256, which this issuer may not use", lambda: pss("PS256"), R.BAD_ALGORITHM),
    ("the padding of PS256 under RS256", lambda: pss("RS256"), R.BAD_SIGNATURE),
    *[
        (f"{alg}, which nobody may use", partial(with_header, alg=alg), R.BAD_ALGORITHM)
        for alg in (
            "RS384",
            "RS512",
            "PS384",
            "PS512",
            "ES512",
            "ES256K",
            "RSA1_5",
            "RSA-OAEP",
            "dir",
            "ML-DSA-65",
        )
    ],
    ("alg that is an object", lambda: with_header(alg={"alg": "ES256"}), R.BAD_ALGORITHM),
    ("alg that is true", lambda: with_header(alg=True), R.BAD_ALGORITHM),
    ("ES256 with a Cyrillic letter", lambda: with_header(alg="\u0415S256"), R.BAD_ALGORITHM),
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
    ("r = s = n", lambda: ecdsa(P256_N, P256_N), R.BAD_SIGNATURE),
    ("r = 1, s = 0", lambda: ecdsa(1, 0), R.BAD_SIGNATURE),
    ("r and s all ones", lambda: ecdsa(2**256 - 1, 2**256 - 1), R.BAD_SIGNATURE),
    ("96 bytes, as of ES384", lambda: with_signature(b64url_decode(parts()[2]) + bytes(32)), R.BAD_SIGNATURE),
    ("the signature twice", lambda: with_signature(b64url_decode(parts()[2]) * 2), R.BAD_SIGNATURE),
    ("RSA, all zero", lambda: rsa_signature(lambda s: bytes(len(s))), R.BAD_SIGNATURE),
    ("RSA, all ones", lambda: rsa_signature(lambda s: b"\xff" * len(s)), R.BAD_SIGNATURE),
    ("RSA, one", lambda: rsa_signature(lambda s: bytes(len(s) - 1) + b"\1"), R.BAD_SIGNATURE),
    ("RSA, a byte short", lambda: rsa_signature(lambda s: s[:-1]), R.BAD_SIGNATURE),
    ("RSA, a byte long", lambda: rsa_signature(lambda s: b"\0" + s), R.BAD_SIGNATURE),
    ("RSA, 1 KB", lambda: rsa_signature(lambda s: s * 3), R.BAD_SIGNATURE),
    ("Ed25519, S + L", ed25519_plus_l, R.BAD_SIGNATURE),
    (
        "Ed25519, the identity and zero",
        lambda: joined(*good(key("Ed25519")).split(b".")[:2], b64url_encode(b"\1" + bytes(63))),
        R.BAD_SIGNATURE,
    ),
    ("another key, this kid", lambda: sign(header(key()), claims(), SECOND), R.BAD_SIGNATURE),
    (
        "payload changed",
        lambda: joined(parts()[0], good(jti="z").split(b".")[1], parts()[2]),
        R.BAD_SIGNATURE,
    ),
    # header injection (rows 21 to 27, 30)
    ("jwk", lambda: with_header(jwk=dict(key().public.public_jwk)), R.HEADER_MEMBER),
    ("jwk of an intruder", lambda: attackers(jwk=INTRUDER_JWK), R.HEADER_MEMBER),
    (
        "jwk of an intruder, with its kid",
        lambda: attackers(jwk=INTRUDER_JWK, kid=INTRUDER_JWK["kid"]),
        R.HEADER_MEMBER,
    ),
    ("a kid that is a key", lambda: attackers(kid=INTRUDER_JWK), R.BAD_KID),
    ("crit and b64", lambda: with_header(crit=["b64"], b64=False), R.HEADER_MEMBER),
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
            ("crit", "exp"),
            ("crit", ["alg"]),
            ("crit", ["x"]),
            ("crit", None),
            ("b64", False),
            ("b64", True),
            ("p2s", "AAAA"),
            ("epk", {}),
            ("iv", "AAAA"),
            ("tag", "AAAA"),
            ("iss", EDGE),
            ("", 1),
            ("Alg", "none"),
            ("KID", "x"),
            ("zip", "DEF"),
            ("p2c", 10**7),
            ("enc", "A256GCM"),
            ("cty", "JWT"),
            ("foo", 1),
        )
    ],
    *[
        (f"kid {str(kid)[:20]!r}", partial(with_header, kid=kid), R.BAD_KID)
        for kid in (
            "' OR 1=1",
            "a\n",
            "\na",
            "a b",
            "%00",
            "\0",
            "k\0",
            "x" * 201,
            "",
            " ",
            7,
            0,
            True,
            1.5,
            None,
            ABSENT,
            "ключ",
            "k\u0660",
            ["a"],
            {"a": 1},
            "a;b",
            "${jndi:ldap://x}",
            "<script>",
            "a\\b",
            "a@b",
        )
    ],
    ("kid that is a path", lambda: with_header(kid="../../dev/null"), R.UNKNOWN_KID),
    ("kid that is a URL", lambda: with_header(kid="https://evil.example/jwks"), R.UNKNOWN_KID),
    ("kid in another case", lambda: with_header(kid=key().kid.swapcase()), R.UNKNOWN_KID),
    ("the beginning of a kid", lambda: with_header(kid=key().kid[:-1]), R.UNKNOWN_KID),
    ("kid and more", lambda: with_header(kid=key().kid + "="), R.UNKNOWN_KID),
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
            "jwt",
            "id_token+jwt",
            "logout+jwt",
            "secevent+jwt",
            "application/jwt",
            "at+jwt; v=1",
            "at+jwt\n",
            "at+jwt\0",
            "at jwt",
            "application/",
            "at+\u212awt",
            ["at+jwt"],
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


@pytest.mark.parametrize(("token", "reason"), rows(ROWS))
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


ALGORITHMS = ["ES256", "ES384", "Ed25519", "PS256", "RS256"]
PAIRS: list[tuple[str, str, str, Reason | None]] = [
    *[(f"{alg} by its key", alg, alg, None) for alg in ALGORITHMS],
    *[
        (f"{said} in the header, {alg} key", said, alg, R.KEY_MISMATCH)
        for said, alg in itertools.permutations(ALGORITHMS, 2)
    ],
]


@pytest.fixture(scope="module")
def liberal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver that accepts every algorithm there is from edge, which has a key for each."""
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("liberal"), edge_keys=[*map(key, ALGORITHMS)], algorithms=ALGORITHMS
        )
        yield made
        made.close()


@pytest.mark.parametrize(("said", "alg", "reason"), rows(PAIRS))
def test_a_key_verifies_its_own_algorithm_and_no_other(
    liberal: Receiver, said: str, alg: str, reason: Reason | None
) -> None:
    """Row 14: where all algorithms are allowed, the header still cannot choose how a key is used."""
    verdict = liberal.call(sign(header(key(alg), alg=said), claims(), key(alg)))
    assert (verdict.status, verdict.reason) == ((200, None) if reason is None else (401, reason.value))


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
