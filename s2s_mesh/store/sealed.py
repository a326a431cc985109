"""Documents at rest: each one compact JWE (RFC 7516), `dir` with A256GCM, bound to its issuer and purpose.

The document is sealed as a whole, so that whoever can write to the store can neither read a private key nor
edit a time, drop a tombstone or add a public key: what is left to them is deleting it or putting back an
older one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto.common import JWException
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from ..errors import ConfigError, KeyStoreError, StoreReason
from ..jws import b64url_decode, b64url_encode
from ..strict_json import NotStrictJSON, decode_object, encode
from .key_encryption import KEY_LENGTH

if TYPE_CHECKING:
    from . import KeyStore

MAX_DOCUMENT = 256 * 1024  # bytes, sealed; a ring takes a few thousand
_ALGORITHMS = {"alg": "dir", "enc": "A256GCM"}
_NONCE, _TAG = 12, 16  # bytes, RFC 7518 section 5.3
_KEK_ID = 9  # bytes of a key-encryption key's id
_ENVIRONMENT = "S2S_MESH_KEY_ENCRYPTION_KEY"


class Document(msgspec.Struct, frozen=True):
    """A document as it is stored, and what it says. `repr` shows neither: it holds private keys.

    Attributes:
        plain: the content.
        raw: the bytes in the store, for the next compare-and-set.
        kek_id: id of the key-encryption key that sealed it; None if it is not sealed.
    """

    plain: bytes
    raw: bytes
    kek_id: str | None

    def __repr__(self) -> str:
        return f"<Document of {len(self.plain)} bytes, sealed by {self.kek_id}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's own would show every field in a traceback drawn by rich
        return [("size", len(self.plain)), ("kek_id", self.kek_id)]


class Sealer:
    """Seals and opens the documents of one issuer and one purpose. No I/O."""

    def __init__(self, key_encryption_keys: Sequence[bytes], *, issuer: str, purpose: str = "ring") -> None:
        """Derive the content keys.

        Args:
            key_encryption_keys: 32 bytes each; all of them open, the first one seals new documents.
            issuer: whose documents; part of the derived keys and of the header (RFC 7519 section 5.3).
            purpose: what kind of document, so that one kind cannot be put in the place of another.

        Raises:
            ConfigError: no key, or one of another length.
        """
        if not key_encryption_keys:
            raise ConfigError(
                "no key-encryption key; expected at least one of 32 bytes, as `s2s-mesh init` prints"
            )
        self._keys: dict[str, Any] = {}
        for number, kek in enumerate(key_encryption_keys, start=1):
            if len(kek) != KEY_LENGTH:
                raise ConfigError(f"key-encryption key {number} has {len(kek)} bytes; expected {KEY_LENGTH}")
            kek_id = b64url_encode(_derive(kek, "kek-id")[:_KEK_ID]).decode("ascii")
            content_key = b64url_encode(_derive(kek, f"{purpose}|{issuer}")).decode("ascii")
            self._keys.setdefault(kek_id, JWK(kty="oct", k=content_key))
        self._issuer = issuer
        self._type = f"s2s-mesh-{purpose}+jwe"

    @property
    def kek_ids(self) -> tuple[str, ...]:
        """The ids of the keys held, the sealing one first."""
        return tuple(self._keys)

    def seal(self, plain: bytes, *, kek_id: str | None = None) -> bytes:
        """Return `plain` as a compact JWE.

        Args:
            plain: the content, not empty.
            kek_id: which key-encryption key seals; None for the first one.

        Raises:
            KeyStoreError: that key is not held (WRONG_KEY_ENCRYPTION_KEY), or the content is empty or so
                long that the result could not be opened again (UNREADABLE).
        """
        kek_id = self.kek_ids[0] if kek_id is None else kek_id
        key = self._key(kek_id)
        header = encode(self._header(kek_id)).decode("utf-8")
        jwe = JWE(plain, protected=header, algs=list(_ALGORITHMS.values()), recipient=key)
        raw: bytes = jwe.serialize(compact=True).encode("ascii")
        if not plain or len(raw) > MAX_DOCUMENT:
            raise KeyStoreError(
                StoreReason.UNREADABLE,
                f"a document of {len(plain)} bytes cannot be sealed: it would take {len(raw)} bytes, and"
                f" 1 byte of content to {MAX_DOCUMENT} bytes sealed are allowed",
            )
        return raw

    def open(self, raw: bytes) -> Document:
        """Open a stored document.

        Everything in the header is compared before a key is used, so the header chooses among our own keys
        and nothing else (RFC 8725 section 3.1).

        Raises:
            KeyStoreError: PLAINTEXT, TRUNCATED, OTHER_ISSUER, WRONG_KEY_ENCRYPTION_KEY, TAMPERED, or
                UNREADABLE for its size.
        """
        if len(raw) > MAX_DOCUMENT:
            raise KeyStoreError(
                StoreReason.UNREADABLE,
                f"the stored document has {len(raw)} bytes; at most {MAX_DOCUMENT} are read. Something else"
                " writes under this name; restore the document from a backup or delete it",
            )
        if raw.lstrip().startswith(b"{"):
            raise KeyStoreError(
                StoreReason.PLAINTEXT,
                "the stored document is not sealed, so whoever could read the store may hold its private"
                " keys. Expected a document sealed with a key-encryption key; delete this one and let a new"
                f" one be made, or, if no key was ever meant to seal it, unset {_ENVIRONMENT}",
            )
        header, encrypted_key, nonce, tag = _take_apart(raw)
        kek_id = self._check_header(header)
        key = self._key(kek_id)
        if encrypted_key or len(nonce) != _NONCE or len(tag) != _TAG:
            raise _tampered("its parts do not have the lengths of dir and A256GCM")
        jwe = JWE(algs=list(_ALGORITHMS.values()))
        try:
            jwe.deserialize(raw.decode("ascii"))
            jwe.decrypt(key)
        except JWException:
            # from None: jwcrypto's error holds a log of what was tried
            raise _tampered("the authentication tag does not match") from None
        return Document(plain=jwe.payload, raw=raw, kek_id=kek_id)

    def _header(self, kek_id: str) -> dict[str, str]:
        return {**_ALGORITHMS, "kid": kek_id, "iss": self._issuer, "typ": self._type}

    def _check_header(self, header: dict[str, Any]) -> str:
        """Return the key id of a header that is ours in every other respect."""
        kek_id = header.get("kid")
        expected = self._header(str(kek_id))
        if header.keys() != expected.keys() or any(header[name] != _ALGORITHMS[name] for name in _ALGORITHMS):
            raise _tampered("its header holds something else than alg dir, enc A256GCM, kid, iss and typ")
        if header["iss"] != expected["iss"] or header["typ"] != expected["typ"]:
            raise KeyStoreError(
                StoreReason.OTHER_ISSUER,
                f"the stored document is {_shown(header['typ'])} of {_shown(header['iss'])}; expected"
                f" {expected['typ']!r} of {expected['iss']!r}. Check that each service has a key store or an"
                " issuer of its own, then put this service's own document back or delete this one",
            )
        return str(kek_id)

    def _key(self, kek_id: str) -> Any:
        try:
            return self._keys[kek_id]
        except KeyError:
            held = ", ".join(map(repr, self._keys))
            raise KeyStoreError(
                StoreReason.WRONG_KEY_ENCRYPTION_KEY,
                f"the document is sealed with key-encryption key {_shown(kek_id)}, and {_ENVIRONMENT} holds"
                f" {held}. Add the key that sealed it, separated by a comma; if that key is lost, delete"
                " the document and let a new one be made",
            ) from None


class SealedStore:
    """Any store, with every document sealed on the way in and opened on the way out."""

    def __init__(self, store: KeyStore, sealer: Sealer | None) -> None:
        """Wrap `store`, which is then closed by this object.

        Args:
            store: where the sealed bytes go.
            sealer: None leaves documents unsealed, for stores that no other process can read.
        """
        self.store = store
        self._sealer = sealer

    @property
    def sealing_key_id(self) -> str | None:
        """Id of the key-encryption key that seals new documents; None where nothing is sealed."""
        return None if self._sealer is None else self._sealer.kek_ids[0]

    def load(self) -> Document | None:
        """Return the stored document, opened, or None where there is none.

        Raises:
            KeyStoreError: it cannot be read, or not be opened: see `Sealer.open`; with no sealer,
                MISSING_KEY_ENCRYPTION_KEY if it is sealed.
        """
        raw = self.store.load()
        if raw is None:
            return None
        if self._sealer is not None:
            return self._sealer.open(raw)
        if raw.startswith(b"eyJ") and raw.count(b".") == 4:
            raise KeyStoreError(
                StoreReason.MISSING_KEY_ENCRYPTION_KEY,
                f"the stored document is sealed, and there is no key-encryption key: set {_ENVIRONMENT} to"
                " the one that the other processes of this service use",
            )
        return Document(plain=raw, raw=raw, kek_id=None)

    def swap(self, expected: Document | None, plain: bytes, *, rewrap: bool = False) -> Document:
        """Seal `plain` and store it in place of `expected`.

        It is sealed under the key that `expected` used, so that replicas which hold the keys in another
        order, or not yet the newest, do not undo each other.

        Args:
            expected: what was loaded, or None if there was nothing.
            plain: the new content.
            rewrap: seal under the first key instead, as a new document is.

        Returns:
            the document now stored.

        Raises:
            StoreConflict: the store holds something else by now; nothing was written.
            KeyStoreError: see `KeyStore.swap` and `Sealer.seal`.
        """
        kek_id = None if expected is None or rewrap else expected.kek_id
        raw = plain if self._sealer is None else self._sealer.seal(plain, kek_id=kek_id)
        expected_raw = None if expected is None else expected.raw
        try:
            self.store.swap(expected_raw, raw)
        except KeyStoreError as error:
            if error.reason is not StoreReason.UNREACHABLE:
                raise
            # The answer may have been lost after the write. The same bytes again, not a second sealing of
            # them: only then does the store recognise its own content as success.
            self.store.swap(expected_raw, raw)
        if self._sealer is None:
            return Document(plain=plain, raw=raw, kek_id=None)
        return Document(plain=plain, raw=raw, kek_id=kek_id or self.sealing_key_id)

    def close(self) -> None:
        """Close the store underneath."""
        self.store.close()


def _derive(kek: bytes, info: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt: the input is a uniformly random key already (section 3.1)."""
    return HKDF(SHA256(), length=KEY_LENGTH, salt=None, info=f"s2s-mesh/v1|{info}".encode()).derive(kek)


def _take_apart(raw: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Return header, encrypted key, nonce and tag of a compact JWE that is complete and canonical.

    Raises:
        KeyStoreError: TRUNCATED.
    """
    try:
        header, encrypted_key, nonce, _, tag = map(b64url_decode, raw.split(b"."))
        members = decode_object(header)
    except (ValueError, NotStrictJSON):
        complete = False
    else:
        complete = len(tag) >= _TAG
    if not complete:
        raise KeyStoreError(
            StoreReason.TRUNCATED,
            f"the stored document is incomplete: {len(raw)} bytes that are not five base64url parts with a"
            " JSON header and a 16-byte tag. Restore it from a backup, or delete it and let a new one be"
            " made",
        )
    return members, encrypted_key, nonce, tag


def _tampered(problem: str) -> KeyStoreError:
    return KeyStoreError(
        StoreReason.TAMPERED,
        f"the stored document was changed outside of this program: {problem}. Find out who can write to the"
        " store; then restore the document from a backup, or delete it and let a new one be made",
    )


def _shown(value: object) -> str:
    # foreign text: quoted, on one line, bounded
    return repr(value)[:200]
