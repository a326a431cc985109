"""The JWKS document (RFC 7517 section 5), strict in both directions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .errors import JWKSInvalid
from .keys import UnusableKey, VerificationKey, is_secret
from .strict_json import NotStrictJSON, decode_object, encode

MAX_BODY = 64 * 1024
SVID_USE = "jwt-svid"
_MAX_PARSED, _MAX_USABLE = 100, 20


class Order(NamedTuple):
    """What a SPIFFE bundle says of itself.

    Attributes:
        sequence: greater than that of each bundle before it; None where it does not say.
        refresh_hint: seconds after which to look again; None where it does not say.
    """

    sequence: int | None
    refresh_hint: int | None


class JWKSet:
    """The usable public keys of one issuer. Immutable.

    Attributes:
        keys: by kid.
        ignored: why each of the other keys in the document is not used, for the operator.
        order: where it stands among those of its issuer; None for all but SPIFFE bundles.
    """

    __slots__ = ("ignored", "keys", "order")

    def __init__(
        self, keys: Iterable[VerificationKey], *, ignored: Iterable[str] = (), order: Order | None = None
    ) -> None:
        self.keys: Mapping[str, VerificationKey] = MappingProxyType({key.kid: key for key in keys})
        self.ignored: tuple[str, ...] = tuple(ignored)
        self.order: Order | None = order

    @classmethod
    def parse(cls, body: bytes, *, assumed: Collection[str] = (), eddsa: bool = False) -> JWKSet:
        """Read a document that somebody serves.

        A document without any usable key is valid: it means revoked (standards R10).

        Args:
            body: as served.
            assumed, eddsa: see `VerificationKey.parse`.

        Raises:
            JWKSInvalid: not strict JSON, too large, `keys` is not a list of objects, private or symmetric key
                material, or two usable keys with one kid. The caller keeps the last good set (R9).
        """
        document = _document(body)
        keys, ignored = _usable(document, lambda entry: VerificationKey.parse(entry, assumed, eddsa=eddsa))
        return cls(keys, ignored=ignored)

    @classmethod
    def parse_bundle(cls, body: bytes, *, assumed: Collection[str] = ()) -> JWKSet:
        """Read a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4): its keys for JWT-SVIDs.

        Args:
            body: as served.
            assumed: see `VerificationKey.parse`; SPIRE writes no `alg`.

        Raises:
            JWKSInvalid: as `parse`; or sequence or refresh hint is there and no whole number.
        """
        document = _document(body)
        order = Order(_whole(document, "spiffe_sequence"), _whole(document, "spiffe_refresh_hint") or None)
        keys, ignored = _usable(document, lambda entry: _svid_key(entry, assumed))
        return cls(keys, ignored=ignored, order=order)

    def to_bytes(self) -> bytes:
        """The document as served: sorted by kid, so that every replica serves identical bytes (I-J1)."""
        return encode({"keys": [self.keys[kid].public_jwk for kid in sorted(self.keys)]})


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise JWKSInvalid(f"more than {MAX_BODY} bytes")
    try:
        return decode_object(body)
    except NotStrictJSON as why:
        raise JWKSInvalid(str(why)) from None


def _whole(document: Mapping[str, Any], name: str) -> int | None:
    if name not in document:
        return None
    number = document[name]
    # type() and not isinstance(): True is an int in Python
    if type(number) is not int or number < 0:
        raise JWKSInvalid(f"{name} is not a whole number")
    return number


def _usable(
    document: Mapping[str, Any], read: Callable[[dict[str, Any]], VerificationKey]
) -> tuple[Collection[VerificationKey], list[str]]:
    """The keys that are of use, and why the others are not."""
    entries = document.get("keys")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise JWKSInvalid('expected {"keys": [...]} with an object for each key')
    if len(entries) > _MAX_PARSED:
        raise JWKSInvalid(f"{len(entries)} keys; at most {_MAX_PARSED} are read")
    usable: dict[str, VerificationKey] = {}
    ignored: list[str] = []
    for position, entry in enumerate(entries):
        try:
            key = read(entry)
        except UnusableKey as why:
            ignored.append(f"keys[{position}]: {why}")
            continue
        twin = usable.setdefault(key.kid, key)
        if twin.material != key.material:
            raise JWKSInvalid(f"two different keys with the kid {key.kid}")
    if len(usable) > _MAX_USABLE:
        raise JWKSInvalid(f"{len(usable)} usable keys; at most {_MAX_USABLE} are kept")
    return usable.values(), ignored


def _svid_key(entry: dict[str, Any], assumed: Collection[str]) -> VerificationKey:
    # what is not for JWT-SVIDs is passed over (section 4.2.2), but not what nobody may publish
    if entry.get("use") != SVID_USE and not is_secret(entry):
        raise UnusableKey(f"use is not {SVID_USE}")
    return VerificationKey.parse({**entry, "use": "sig"}, assumed)
