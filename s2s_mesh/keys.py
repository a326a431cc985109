"""One key pair, one public key: generated, named by thumbprint, and checked as cryptography does not.

jwcrypto makes keys and thumbprints; PyJWT's algorithm objects load them and sign; pyca verifies. OpenSSL
loads 512-bit and even RSA moduli and verifies anything under a small-order Ed25519 key, so the checks of RFC
8725 section 3.4 are made here (standards (a)2 step 10).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import jwt.algorithms
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwcrypto import jwk as jwcrypto_jwk

from .errors import ConfigError, JWKSInvalid
from .jws import b64url_decode, b64url_encode, is_kid
from .strict_json import encode

# RFC 7517 section 8.1.1, class "Private", and RFC 9964
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_SHA256 = hashes.SHA256()
_SELF_TEST = b"s2s-mesh self-test"
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096
# OpenSSL reduces a coordinate beyond p, which would give one point two spellings
_P = {"P-256": 2**256 - 2**224 + 2**192 + 2**96 - 1, "P-384": 2**384 - 2**128 - 2**96 + 2**32 - 1}
_ED25519_P = 2**255 - 19
_ED25519_ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_ED25519_SMALL_ORDER_Y = {0, 1, _ED25519_P - 1, _ED25519_ORDER_8_Y, _ED25519_P - _ED25519_ORDER_8_Y}


class UnusableKey(ValueError):
    """This one key is ignored; the rest of its set may be used (RFC 7517 section 5)."""


class _Algorithm(NamedTuple):
    """A signature algorithm and the one key type that goes with it.

    Attributes:
        public: the members of its public JWK beside kty, in lexical order; `crv` first where there is one.
        field: octets of an EC or OKP coordinate, None for RSA.
        generate: arguments of jwcrypto's generator.
    """

    kty: str
    crv: str | None
    public: tuple[str, ...]
    field: int | None
    generate: Mapping[str, Any]
    implementation: jwt.algorithms.Algorithm


_PYJWT = jwt.algorithms.get_default_algorithms()
_EC, _RSA, _OKP = ("crv", "x", "y"), ("e", "n"), ("crv", "x")
_RSA_3072 = {"kty": "RSA", "size": 3072}
_ALGORITHMS: Mapping[str, _Algorithm] = {
    "ES256": _Algorithm("EC", "P-256", _EC, 32, {"kty": "EC", "crv": "P-256"}, _PYJWT["ES256"]),
    "ES384": _Algorithm("EC", "P-384", _EC, 48, {"kty": "EC", "crv": "P-384"}, _PYJWT["ES384"]),
    "RS256": _Algorithm("RSA", None, _RSA, None, _RSA_3072, _PYJWT["RS256"]),
    "PS256": _Algorithm("RSA", None, _RSA, None, _RSA_3072, _PYJWT["PS256"]),
    # the fully specified name of RFC 9864; PyJWT knows the curve's algorithm by its older name only
    "Ed25519": _Algorithm("OKP", "Ed25519", _OKP, 32, {"kty": "OKP", "crv": "Ed25519"}, _PYJWT["EdDSA"]),
}
ALGORITHMS = frozenset(_ALGORITHMS)
DEFAULT_ALGORITHM = "ES256"


def is_secret(members: Mapping[str, Any]) -> bool:
    """Whether a JWK is one that nobody may publish: symmetric, or with a private member."""
    return members.get("kty") == "oct" or not PRIVATE_MEMBERS.isdisjoint(members)


class VerificationKey:
    """A checked public key, bound to exactly one algorithm (RFC 8725 section 3.1).

    Attributes:
        kid: its id within its issuer.
        alg: the only algorithm it verifies.
        public_jwk: whitelisted public members, as served (I-J2), in a fixed order.
        material: the same as bytes; two keys are the same key if and only if these are equal.
    """

    __slots__ = ("_verify", "alg", "kid", "material", "public_jwk")

    def __init__(self, kid: str, alg: str, public_jwk: Mapping[str, str]) -> None:
        algorithm = _ALGORITHMS[alg]
        self.kid: str = kid
        self.alg: str = alg
        self.public_jwk: Mapping[str, str] = public_jwk
        self.material: bytes = encode(public_jwk)
        key: Any = algorithm.implementation.from_jwk(dict(public_jwk))
        self._verify = _verification(alg, key)

    @classmethod
    def parse(
        cls, members: Mapping[str, Any], assumed: Collection[str] = (), *, eddsa: bool = False
    ) -> VerificationKey:
        """Check one member of a JWKS.

        Args:
            members: the decoded JSON object.
            assumed: algorithms for one of which a key without `alg` (RFC 7517 section 4.4) may be: the only
                one that goes with its type. None: `alg` is required.
            eddsa: whether Ed25519 may be called by its older name, EdDSA (RFC 8037); the key has the new one.

        Raises:
            UnusableKey: ignore this key (RFC 7517 section 5): unknown type, wrong use, too weak, malformed.
            JWKSInvalid: refuse the whole set: it holds a private or symmetric key.
        """
        if is_secret(members):
            raise JWKSInvalid("the set holds private or symmetric key material: its issuer leaked a key")
        kid, alg = members.get("kid"), members["alg"] if "alg" in members else _only(members, assumed)
        if eddsa and alg == "EdDSA":
            alg = "Ed25519"  # and no other curve, see below
        if not isinstance(kid, str) or not is_kid(kid):
            raise UnusableKey("kid is missing or malformed")
        if not isinstance(alg, str) or alg not in _ALGORITHMS:
            raise UnusableKey("alg is missing or not one of ours")
        algorithm = _ALGORITHMS[alg]
        if members.get("kty") != algorithm.kty or members.get("crv") != algorithm.crv:
            raise UnusableKey(f"kty or crv does not go with {alg}")
        if members.get("use", "sig") != "sig":
            raise UnusableKey("use is not sig")
        operations = members.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            raise UnusableKey("key_ops does not allow verify")
        _check_material(algorithm, members)
        public = {"kty": algorithm.kty, **{name: members[name] for name in algorithm.public}}
        try:
            return cls(kid, alg, {**public, "kid": kid, "use": "sig", "alg": alg})
        except (ValueError, jwt.InvalidKeyError):
            raise UnusableKey("not a point on the curve, or not a key") from None

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signing_input`; other lengths never are."""
        return self._verify(signing_input, signature)

    def to_pem(self) -> str:
        """SubjectPublicKeyInfo as PEM (RFC 7468 section 13), for programs that read no JWKS."""
        return str(jwcrypto_jwk.JWK(**self.public_jwk).export_to_pem().decode())

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, alg={self.alg!r})"


class SigningKey:
    """A private key with its public half. Never printed, never pickled.

    Attributes:
        kid: RFC 7638 SHA-256 thumbprint of the public half.
        alg: the only algorithm it signs with.
        public: its public half.
    """

    __slots__ = ("_key", "_private_members", "alg", "kid", "public")

    def __init__(self, public: VerificationKey, private_members: Mapping[str, str]) -> None:
        self.public: VerificationKey = public
        self.kid: str = public.kid
        self.alg: str = public.alg
        self._private_members = private_members
        self._key: Any = None

    @classmethod
    def generate(cls, alg: str) -> SigningKey:
        """Make a new key pair (an RSA-3072 pair takes a fifth of a second and more).

        Raises:
            ConfigError: an algorithm we do not offer.
        """
        if alg not in _ALGORITHMS:
            raise ConfigError(
                f"algorithm {alg!r} is not offered; choose one of {', '.join(sorted(ALGORITHMS))}"
            )
        members = jwcrypto_jwk.JWK.generate(**_ALGORITHMS[alg].generate).export(as_dict=True)
        private = {name: members[name] for name in sorted(PRIVATE_MEMBERS & members.keys())}
        public = {name: value for name, value in members.items() if name not in PRIVATE_MEMBERS}
        return cls(VerificationKey.parse({**public, "alg": alg, "kid": thumbprint(public)}), private)

    def private_members(self) -> Mapping[str, str]:
        """The private JWK members, for the sealed document and nothing else."""
        return self._private_members

    def prepare(self) -> None:
        """Load the key and prove it once by signing and verifying (I-C10); RSA takes some 50 ms.

        Raises:
            ValueError: the halves do not belong together.
        """
        if self._key is None:
            implementation = _ALGORITHMS[self.alg].implementation
            try:
                key = implementation.from_jwk({**self.public.public_jwk, **self._private_members})
                fits = self.public.verify(_SELF_TEST, implementation.sign(_SELF_TEST, key))
            except (ValueError, TypeError, AttributeError, jwt.InvalidKeyError):
                fits = False
            if not fits:
                raise ValueError(f"the private half of key {self.kid} does not belong to its public half")
            self._key = key

    def sign(self, signing_input: bytes) -> bytes:
        """The raw JWS signature over `signing_input`."""
        self.prepare()
        return _ALGORITHMS[self.alg].implementation.sign(signing_input, self._key)

    def sign_compact(self, header: bytes, claims: Mapping[str, Any]) -> str:
        """A whole compact JWS (RFC 7515 section 7.1); `header` is its first segment, already encoded."""
        signing_input = header + b"." + b64url_encode(encode(claims))
        return (signing_input + b"." + b64url_encode(self.sign(signing_input))).decode("ascii")

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, alg={self.alg!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never pickled")


def _verification(alg: str, key: Any) -> Callable[[bytes, bytes], bool]:
    """The check of signatures by one key, with everything prepared that does not change.

    Straight from pyca: PyJWT's algorithm objects make new objects for each call, and an ECDSA signature's DER
    form (RFC 7518 section 3.4) by way of hexadecimal text, a twentieth of the whole verification.
    """
    algorithm = _ALGORITHMS[alg]
    size = algorithm.field or 0
    # PS256: salt as long as the digest (RFC 7518 section 3.5)
    scheme: tuple[Any, ...] = {
        "ES256": (ec.ECDSA(_SHA256),),
        "ES384": (ec.ECDSA(hashes.SHA384()),),
        "RS256": (padding.PKCS1v15(), _SHA256),
        "PS256": (padding.PSS(padding.MGF1(_SHA256), _SHA256.digest_size), _SHA256),
    }.get(alg, ())

    def verify(signing_input: bytes, signature: bytes) -> bool:
        try:
            if algorithm.kty == "EC":
                if len(signature) != 2 * size:
                    return False
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                signature = encode_dss_signature(r, s)
            key.verify(signature, signing_input, *scheme)
        except InvalidSignature:
            return False
        return True

    return verify


def _only(members: Mapping[str, Any], assumed: Collection[str]) -> str | None:
    """The one of these algorithms that goes with a key's type, so that it has exactly one."""
    wanted = (members.get("kty"), members.get("crv"))
    fitting = [name for name in assumed if (_ALGORITHMS[name].kty, _ALGORITHMS[name].crv) == wanted]
    return fitting[0] if len(fitting) == 1 else None


def thumbprint(public_jwk: Mapping[str, Any]) -> str:
    """RFC 7638 SHA-256 thumbprint of a public JWK, base64url, 43 characters."""
    return str(jwcrypto_jwk.JWK(**public_jwk).thumbprint())


def _check_material(algorithm: _Algorithm, members: Mapping[str, Any]) -> None:
    octets: dict[str, bytes] = {}
    for name in algorithm.public:
        value = members.get(name)
        if not isinstance(value, str) or not value.isascii():
            raise UnusableKey(f"{name} is missing or not a string")
        if name != "crv":
            try:
                octets[name] = b64url_decode(value.encode())
            except ValueError:
                raise UnusableKey(f"{name} is not canonical base64url") from None
    if algorithm.field is None:
        _check_rsa(octets)
    elif any(len(value) != algorithm.field for value in octets.values()):
        raise UnusableKey(f"a coordinate is not {algorithm.field} octets long (RFC 7518 section 6.2.1.2)")
    elif algorithm.kty == "OKP":
        y = int.from_bytes(octets["x"], "little") & (2**255 - 1)
        if y >= _ED25519_P or y in _ED25519_SMALL_ORDER_Y:
            raise UnusableKey("a small-order or non-canonical Ed25519 point")
    elif any(int.from_bytes(octets[name], "big") >= _P[str(algorithm.crv)] for name in ("x", "y")):
        raise UnusableKey("a coordinate beyond the field, so not a point on the curve")


def _check_rsa(octets: Mapping[str, bytes]) -> None:
    if any(value[:1] in (b"", b"\0") for value in octets.values()):
        raise UnusableKey("an RSA integer with a leading zero octet (RFC 7518 section 2)")
    modulus, exponent = int.from_bytes(octets["n"], "big"), int.from_bytes(octets["e"], "big")
    if not _MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS:
        raise UnusableKey(
            f"RSA of {modulus.bit_length()} bits; {_MIN_RSA_BITS} to {_MAX_RSA_BITS} are allowed"
        )
    if modulus % 2 == 0 or exponent not in (3, 65537):
        raise UnusableKey("an even RSA modulus, or an exponent other than 3 and 65537")
