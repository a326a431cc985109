"""The JWKS document (RFC 7517 section 5), strict in both directions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from .errors import JWKSInvalid
from .keys import UnusableKey, VerificationKey
from .strict_json import NotStrictJSON, decode_object, encode

MAX_BODY = 64 * 1024
_MAX_PARSED, _MAX_USABLE = 100, 20


class JWKSet:
    """The usable public keys of one issuer. Immutable.

    Attributes:
        keys: by kid.
        ignored: why each of the other keys in the document is not used, for the operator.
    """

    __slots__ = ("ignored", "keys")

    def __init__(self, keys: Iterable[VerificationKey], *, ignored: Iterable[str] = ()) -> None:
        self.keys: Mapping[str, VerificationKey] = MappingProxyType({key.kid: key for key in keys})
        self.ignored: tuple[str, ...] = tuple(ignored)

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
        if len(body) > MAX_BODY:
            raise JWKSInvalid(f"more than {MAX_BODY} bytes")
        try:
            entries = decode_object(body).get("keys")
        except NotStrictJSON as why:
            raise JWKSInvalid(str(why)) from None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise JWKSInvalid('expected {"keys": [...]} with an object for each key')
        if len(entries) > _MAX_PARSED:
            raise JWKSInvalid(f"{len(entries)} keys; at most {_MAX_PARSED} are read")
        usable: dict[str, VerificationKey] = {}
        ignored: list[str] = []
        for position, entry in enumerate(entries):
            try:
                key = VerificationKey.parse(entry, assumed, eddsa=eddsa)
            except UnusableKey as why:
                ignored.append(f"keys[{position}]: {why}")
                continue
            twin = usable.setdefault(key.kid, key)
            if twin.material != key.material:
                raise JWKSInvalid(f"two different keys with the kid {key.kid}")
        if len(usable) > _MAX_USABLE:
            raise JWKSInvalid(f"{len(usable)} usable keys; at most {_MAX_USABLE} are kept")
        return cls(usable.values(), ignored=ignored)

    def to_bytes(self) -> bytes:
        """The document as served: sorted by kid, so that every replica serves identical bytes (I-J1)."""
        return encode({"keys": [self.keys[kid].public_jwk for kid in sorted(self.keys)]})
