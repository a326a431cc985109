"""Sealed documents: what opens, what does not and why, and which key seals."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from s2s_mesh.errors import ConfigError, KeyStoreError, StoreConflict, StoreReason
from s2s_mesh.store import (
    Document,
    KeyStore,
    SealedStore,
    Sealer,
    generate_key_encryption_key,
    open_store,
    parse_key_encryption_keys,
)
from s2s_mesh.testing import KeyStoreConformance

ISSUER = "https://wallets.example.com"
KEK, OTHER_KEK = b"k" * 32, b"o" * 32
PLAIN = b'{"version":1}'


def sealer(*keks: bytes, issuer: str = ISSUER, purpose: str = "ring") -> Sealer:
    """Return a sealer with these keys, or with `KEK`."""
    return Sealer(keks or (KEK,), issuer=issuer, purpose=purpose)


def memory() -> KeyStore:
    """Return an empty store."""
    return open_store("memory://", issuer=ISSUER)


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header_of(raw: bytes) -> dict[str, Any]:
    """Return the protected header of a compact JWE."""
    segment = raw.split(b".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4)))
    return header


def content_key(kek: bytes = KEK, info: str = f"s2s-mesh/v1|ring|{ISSUER}") -> bytes:
    """Derive a content key as the specification says, without the package."""
    return HKDF(SHA256(), length=32, salt=None, info=info.encode()).derive(kek)


def forged(key: bytes | None = None, **changes: Any) -> bytes:
    """Return a document sealed with the right key and a header changed in these members (None: left out)."""
    header = {**header_of(sealer().seal(PLAIN)), **changes}
    header = {name: value for name, value in header.items() if value is not None}
    algorithms = [header.get("alg", "dir"), header.get("enc", "A256GCM")]
    jwe = JWE(PLAIN, protected=json.dumps(header), algs=algorithms)
    jwe.add_recipient(JWK(kty="oct", k=b64(key or content_key())))
    return str(jwe.serialize(compact=True)).encode()


def changed(number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return `GOOD` with one of its five parts changed, as decoded bytes."""
    parts = GOOD.split(b".")
    decoded = base64.urlsafe_b64decode(parts[number] + b"=" * (-len(parts[number]) % 4))
    parts[number] = b64(change(decoded)).encode()
    return b".".join(parts)


def flip(data: bytes) -> bytes:
    """Flip one bit."""
    return bytes([data[0] ^ 1]) + data[1:]


GOOD = sealer().seal(PLAIN)
OTHER = "https://ledger.example.com"
BAD = {
    "plaintext": (PLAIN, StoreReason.PLAINTEXT),
    "plaintext after spaces": (b" \n" + PLAIN, StoreReason.PLAINTEXT),
    "another key": (sealer(OTHER_KEK).seal(PLAIN), StoreReason.WRONG_KEY_ENCRYPTION_KEY),
    "a long key id": (forged(kid="x" * 5000), StoreReason.WRONG_KEY_ENCRYPTION_KEY),
    "a key id that is a number": (forged(kid=7), StoreReason.WRONG_KEY_ENCRYPTION_KEY),
    "another issuer": (sealer(issuer=OTHER).seal(PLAIN), StoreReason.OTHER_ISSUER),
    "another issuer and key": (sealer(OTHER_KEK, issuer=OTHER).seal(PLAIN), StoreReason.OTHER_ISSUER),
    "another purpose": (sealer(purpose="deny").seal(PLAIN), StoreReason.OTHER_ISSUER),
    "an issuer that is a list": (forged(iss=[ISSUER]), StoreReason.OTHER_ISSUER),
    "nothing": (b"", StoreReason.TRUNCATED),
    "the first half": (GOOD[: len(GOOD) // 2], StoreReason.TRUNCATED),
    "all but the last character": (GOOD[:-1], StoreReason.TRUNCATED),
    "all but four characters": (GOOD[:-4], StoreReason.TRUNCATED),
    "all but the first ten": (GOOD[10:], StoreReason.TRUNCATED),
    "four parts": (GOOD.rpartition(b".")[0], StoreReason.TRUNCATED),
    "six parts": (GOOD + b".AAAA", StoreReason.TRUNCATED),
    "padding": (GOOD + b"=", StoreReason.TRUNCATED),
    "a line end": (GOOD + b"\n", StoreReason.TRUNCATED),
    "a foreign character": (GOOD.replace(b"..", b".\xff."), StoreReason.TRUNCATED),
    "a header that is no JSON": (changed(0, lambda header: header[1:]), StoreReason.TRUNCATED),
    "a header that is no object": (changed(0, lambda header: b"[%s]" % header), StoreReason.TRUNCATED),
    "a space in the header": (changed(0, lambda header: header + b" "), StoreReason.TAMPERED),
    "an encrypted key": (changed(1, lambda key: key + bytes(32)), StoreReason.TAMPERED),
    "another nonce": (changed(2, flip), StoreReason.TAMPERED),
    "a longer nonce": (changed(2, lambda nonce: nonce + b"\0"), StoreReason.TAMPERED),
    "other content": (changed(3, flip), StoreReason.TAMPERED),
    "shorter content": (changed(3, lambda content: content[:-1]), StoreReason.TAMPERED),
    "another tag": (changed(4, flip), StoreReason.TAMPERED),
    "a longer tag": (changed(4, lambda tag: tag + b"\0"), StoreReason.TAMPERED),
    "compression": (forged(zip="DEF"), StoreReason.TAMPERED),
    "a further member": (forged(cty="JWT"), StoreReason.TAMPERED),
    "another key management": (forged(alg="A256KW"), StoreReason.TAMPERED),
    "another cipher": (forged(content_key()[:16], enc="A128GCM"), StoreReason.TAMPERED),
    "no key id": (forged(kid=None), StoreReason.TAMPERED),
    "no issuer": (forged(iss=None), StoreReason.TAMPERED),
    "no type": (forged(typ=None), StoreReason.TAMPERED),
    "the key of another purpose": (
        forged(content_key(info=f"s2s-mesh/v1|deny|{ISSUER}")),
        StoreReason.TAMPERED,
    ),
    "too many bytes": (GOOD + b"A" * 256 * 1024, StoreReason.UNREADABLE),
}


class SealedAsBytes:
    """A `SealedStore` seen as a `KeyStore` of plain bytes, so that the suite can test what is inside."""

    shared = False

    def __init__(self, store: KeyStore, *keks: bytes) -> None:
        self._sealed = SealedStore(store, sealer(*keks))

    def load(self) -> bytes | None:
        document = self._sealed.load()
        return None if document is None else document.plain

    def swap(self, expected: bytes | None, new: bytes) -> None:
        document = self._sealed.load()
        held = None if document is None else document.plain
        if held == new:
            return
        if held != expected:
            raise StoreConflict
        self._sealed.swap(document, new)

    def close(self) -> None:
        self._sealed.close()


class TestSealedStore(KeyStoreConformance):
    """The conformance suite on sealed documents in memory."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.inner = memory()

    def make_store(self) -> KeyStore:
        return SealedAsBytes(self.inner)


def test_a_sealed_document_is_a_plain_jwe() -> None:
    """Any JOSE library opens a document with the derived key; the header names issuer, purpose and key."""
    raw = sealer().seal(PLAIN)
    kek_id = b64(content_key(info="s2s-mesh/v1|kek-id")[:9])
    assert header_of(raw) == {
        "alg": "dir",
        "enc": "A256GCM",
        "kid": kek_id,
        "iss": ISSUER,
        "typ": "s2s-mesh-ring+jwe",
    }
    jwe = JWE()
    jwe.deserialize(raw.decode(), JWK(kty="oct", k=b64(content_key())))
    assert jwe.payload == PLAIN
    assert PLAIN not in raw


def test_equal_documents_are_sealed_differently() -> None:
    """Each sealing has a nonce of its own."""
    assert sealer().seal(PLAIN) != sealer().seal(PLAIN)


@pytest.mark.parametrize("raw", [GOOD, forged()], ids=["sealed here", "sealed by hand"])
def test_an_intact_document_opens(raw: bytes) -> None:
    """The content comes back, with the bytes to compare and the id of the key that sealed it."""
    assert sealer().open(raw) == Document(plain=PLAIN, raw=raw, kek_id=sealer().kek_ids[0])


@pytest.mark.parametrize(("raw", "reason"), BAD.values(), ids=BAD)
def test_every_bad_document_is_refused_for_its_own_reason(raw: bytes, reason: StoreReason) -> None:
    """With one thing changed a document is refused, and the reason says what kind of thing."""
    with pytest.raises(KeyStoreError) as refusal:
        sealer().open(raw)
    assert refusal.value.reason is reason
    assert len(str(refusal.value)) < 1000


def test_no_single_character_can_be_changed() -> None:
    """A document with any one of its characters replaced or removed does not open."""
    for position, character in enumerate(GOOD):
        for other in (b"A" if character != ord("A") else b"B", b"", b"."):
            bad = GOOD[:position] + other + GOOD[position + 1 :]
            if bad != GOOD:
                with pytest.raises(KeyStoreError):
                    sealer().open(bad)


def test_a_document_that_could_not_be_opened_again_is_not_sealed() -> None:
    """Empty and oversized contents are refused before they reach the store."""
    assert len(sealer().seal(b"x" * 190_000)) <= 256 * 1024
    for plain in (b"", b"x" * 200_000):
        with pytest.raises(KeyStoreError) as refusal:
            sealer().seal(plain)
        assert refusal.value.reason is StoreReason.UNREADABLE


def test_the_error_names_the_missing_key_and_the_held_ones() -> None:
    """Who configured the wrong key-encryption key reads the ids of the right one and of those held."""
    with pytest.raises(KeyStoreError) as refusal:
        sealer().open(sealer(OTHER_KEK).seal(PLAIN))
    assert sealer().kek_ids[0] in str(refusal.value)
    assert sealer(OTHER_KEK).kek_ids[0] in str(refusal.value)
    with pytest.raises(KeyStoreError) as refusal:
        sealer().seal(PLAIN, kek_id="unknown")
    assert refusal.value.reason is StoreReason.WRONG_KEY_ENCRYPTION_KEY


def test_key_encryption_keys_are_rotated_without_downtime() -> None:
    """All keys open; a change keeps the key that was used, a rewrap takes the first one."""
    old_id, new_id = sealer(OTHER_KEK, KEK).kek_ids[::-1]
    place = memory()
    old = SealedStore(place, sealer(KEK))
    both = SealedStore(place, sealer(OTHER_KEK, KEK))
    new = SealedStore(place, sealer(OTHER_KEK))

    assert old.swap(None, b"1").kek_id == old_id
    document = both.load()
    assert document is not None
    assert document.kek_id == old_id

    document = both.swap(document, b"2")  # not yet: a replica with the old key only still opens this
    assert document.kek_id == old_id
    assert old.load() == document

    document = both.swap(document, b"3", rewrap=True)
    assert document.kek_id == new_id
    assert both.load() == new.load() == document
    with pytest.raises(KeyStoreError) as refusal:
        old.load()
    assert refusal.value.reason is StoreReason.WRONG_KEY_ENCRYPTION_KEY


def test_a_new_document_is_sealed_with_the_first_key() -> None:
    """Bootstrap chooses the first key of the list."""
    store = SealedStore(memory(), sealer(OTHER_KEK, KEK))
    assert store.swap(None, PLAIN).kek_id == sealer(OTHER_KEK).kek_ids[0]


def test_a_store_without_keys_keeps_documents_as_they_are() -> None:
    """Unsealed, for memory and development: bytes go in and come out."""
    place = memory()
    store = SealedStore(place, None)
    assert store.load() is None
    document = store.swap(None, PLAIN)
    assert document == Document(plain=PLAIN, raw=PLAIN, kek_id=None)
    assert store.load() == document
    assert place.load() == PLAIN
    with pytest.raises(StoreConflict):
        store.swap(None, b"{}")
    store.close()


def test_a_sealed_document_without_keys_asks_for_the_key() -> None:
    """A process that was not given the key says so, and does not take the document for another one."""
    place = memory()
    SealedStore(place, sealer()).swap(None, PLAIN)
    with pytest.raises(KeyStoreError, match="S2S_MESH_KEY_ENCRYPTION_KEY") as refusal:
        SealedStore(place, None).load()
    assert refusal.value.reason is StoreReason.MISSING_KEY_ENCRYPTION_KEY


class LostAnswers:
    """A store whose writes arrive and whose answers get lost, as often as told."""

    shared = False

    def __init__(self, lost: int, reason: StoreReason = StoreReason.UNREACHABLE) -> None:
        self._inner = memory()
        self._lost = lost
        self._reason = reason

    def load(self) -> bytes | None:
        return self._inner.load()

    def swap(self, expected: bytes | None, new: bytes) -> None:
        self._inner.swap(expected, new)
        if self._lost:
            self._lost -= 1
            raise KeyStoreError(self._reason, "the answer was lost")

    def close(self) -> None:
        self._inner.close()


def test_a_lost_answer_is_not_a_conflict() -> None:
    """A write that arrived without an answer is repeated once, and recognised."""
    store = SealedStore(LostAnswers(1), sealer())
    document = store.swap(None, PLAIN)
    assert store.load() == document


@pytest.mark.parametrize(
    ("lost", "reason"),
    [(2, StoreReason.UNREACHABLE), (1, StoreReason.PERMISSIONS), (1, StoreReason.CONFLICT)],
)
def test_only_one_failure_to_reach_the_store_is_repeated(lost: int, reason: StoreReason) -> None:
    """A second failure, or one of another kind, is the caller's to handle."""
    with pytest.raises(KeyStoreError) as failure:
        SealedStore(LostAnswers(lost, reason), sealer()).swap(None, PLAIN)
    assert failure.value.reason is reason


# --- configuration


def test_a_generated_key_can_be_configured() -> None:
    """What `generate_key_encryption_key` prints is 32 bytes, new each time, and parses."""
    one, other = generate_key_encryption_key(), generate_key_encryption_key()
    assert one != other
    keys = parse_key_encryption_keys(f" {one} ,{other}=\n")
    assert [len(key) for key in keys] == [32, 32]
    assert [b64(key) for key in keys] == [one, other]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "number 1 of 1 is empty"),
        (f"{b64(KEK)},", "number 2 of 2 is empty"),
        (f"{b64(KEK)},{b64(b'short-secret')}", "number 2 of 2 decodes to 12 bytes"),
        (f"{b64(KEK)}{b64(OTHER_KEK)}", "number 1 of 1 is not base64url"),
        (b64(KEK + b"!!!"), "decodes to 35 bytes"),
        (b64(KEK)[:-1], "is not base64url"),
        (b64(KEK)[:-1] + "t", "is not base64url"),
        (base64.b64encode(b"\xfb" * 32).decode(), "uses - and _ where base64 uses"),
        (b64(KEK)[:-1] + "é", "characters that base64url does not have"),
        (b64(KEK)[:-1] + "!", "is not base64url"),
        (f"{b64(KEK)} {b64(OTHER_KEK)}", "is not base64url"),
        ("6b" * 32, "decodes to 48 bytes"),
    ],
)
def test_a_bad_key_encryption_key_is_explained_and_not_shown(text: str, says: str) -> None:
    """The error says which key is wrong, how, and how to make one; it never repeats it."""
    with pytest.raises(ConfigError) as refusal:
        parse_key_encryption_keys(text)
    assert says in str(refusal.value)
    assert "s2s-mesh init" in str(refusal.value)
    for piece in text.split(","):
        assert not piece.strip() or piece.strip() not in str(refusal.value)


@pytest.mark.parametrize("keys", [(), (b"short",), (KEK, KEK + b"x")])
def test_a_sealer_needs_keys_of_32_bytes(keys: tuple[bytes, ...]) -> None:
    """No key, or one of another length, is a configuration error."""
    with pytest.raises(ConfigError, match="32"):
        Sealer(keys, issuer=ISSUER)


def test_no_key_and_no_content_shows_in_texts() -> None:
    """Neither key nor content appears in `repr`, in an error, in a traceback or in rich's rendering."""
    document = sealer().open(sealer().seal(b'{"d":"private-half"}'))
    store = SealedStore(memory(), sealer())
    texts = [repr(each) + str(each) for each in (document, sealer(), store, document.__rich_repr__())]
    for raw in (PLAIN, forged(content_key(OTHER_KEK)), sealer(OTHER_KEK).seal(PLAIN)):
        with pytest.raises(KeyStoreError) as refusal:
            sealer().open(raw)
        texts += traceback.format_exception(refusal.value)
    secrets = [b'{"d":"private-half"}', KEK, OTHER_KEK, content_key(), content_key(OTHER_KEK)]
    for text in texts:
        for secret in secrets:
            for shown in (secret.decode("latin-1"), b64(secret), secret.hex(), repr(secret)[2:-1]):
                assert shown not in text
