"""A running service and what it finds in its store: refused with a reason, or merged, and never a new key."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from s2s_mesh import KeyStoreError, RotationSchedule, StoreReason
from s2s_mesh.jws import decode
from s2s_mesh.keyring import KeyRing
from s2s_mesh.store import Sealer, generate_key_encryption_key, open_store, parse_key_encryption_keys

from .servers import RedisServer, wait_until
from .tokens import LEDGER, NOW, WALLETS, Clock, key
from .web_replica import WebReplica

DEFAULT = RotationSchedule.DEFAULT
KEK, OTHER_KEK = generate_key_encryption_key(), generate_key_encryption_key()
Damage = Callable[[bytes, str], bytes]  # given the ring in plain and its issuer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that all tests of this module may write to."""
    with RedisServer() as started:
        yield started


@pytest.fixture
def issuer() -> str:
    """An issuer that no other test uses."""
    return f"https://{uuid.uuid4().hex}.example.com"


def seal(plain: bytes, issuer: str, kek: str = KEK) -> bytes:
    return Sealer(parse_key_encryption_keys(kek), issuer=issuer).seal(plain)


def changed(raw: bytes) -> bytes:
    """One character in the middle is another."""
    middle = len(raw) // 2
    return raw[:middle] + (b"B" if raw[middle : middle + 1] == b"A" else b"A") + raw[middle + 1 :]


def of_another(plain: bytes, issuer: str) -> bytes:
    return plain.replace(issuer.encode(), LEDGER.encode())


# reason, whether the service has a key-encryption key, and what is stored
DOCUMENTS: dict[str, tuple[StoreReason | None, str | None, Damage]] = {
    "sealed again": (None, KEK, seal),
    "tampered": (StoreReason.TAMPERED, KEK, lambda plain, issuer: changed(seal(plain, issuer))),
    "of another issuer": (
        StoreReason.OTHER_ISSUER,
        KEK,
        lambda plain, issuer: seal(of_another(plain, issuer), LEDGER),
    ),
    "of another issuer, sealed as ours": (
        StoreReason.OTHER_ISSUER,
        KEK,
        lambda plain, issuer: seal(of_another(plain, issuer), issuer),
    ),
    "sealed under another key": (
        StoreReason.WRONG_KEY_ENCRYPTION_KEY,
        KEK,
        lambda plain, issuer: seal(plain, issuer, OTHER_KEK),
    ),
    "sealed, without a key to open it": (StoreReason.MISSING_KEY_ENCRYPTION_KEY, None, seal),
    "plaintext": (StoreReason.PLAINTEXT, KEK, lambda plain, _issuer: plain),
    "truncated": (
        StoreReason.TRUNCATED,
        KEK,
        lambda plain, issuer: seal(plain, issuer)[: len(seal(plain, issuer)) // 2],
    ),
    "a truncated ring in an intact seal": (
        StoreReason.UNREADABLE,
        KEK,
        lambda plain, issuer: seal(plain[: len(plain) // 2], issuer),
    ),
}


class Replica(WebReplica):
    """One with the ring of `issuer`, on a clock of its own."""

    def __init__(self, server: RedisServer, issuer: str, kek: str | None) -> None:
        self.clock = Clock()
        super().__init__(issuer, server.url, kek, self.clock)

    def signs_with(self) -> str:
        """The kid of a token that is made now."""
        self.service.forget_token(WALLETS)
        return decode(self.service.token(WALLETS).encode()).header.kid

    def poll(self) -> None:
        """Have the housekeeper look at the store: it is overdue when it is used again."""
        self.clock.now += DEFAULT.poll_interval
        with suppress(KeyStoreError):
            self.service.token(WALLETS)


class Place:
    """The ring's place in the store, as whoever can write there sees it."""

    def __init__(self, server: RedisServer, issuer: str) -> None:
        self._server = server
        self._issuer = issuer

    def found(self, kek: str | None) -> tuple[bytes, bytes]:
        """Store a ring; its document, and what is in it."""
        keys = iter([key("ES256", "first"), key("ES256", "second")])
        plain = KeyRing(self._issuer, DEFAULT).advance(NOW, generate=lambda: next(keys)).written().to_bytes()
        document = plain if kek is None else seal(plain, self._issuer, kek)
        self.put(document)
        return document, plain

    def get(self) -> bytes | None:
        with closing(open_store(self._server.url, issuer=self._issuer)) as store:
            return store.load()

    def put(self, document: bytes) -> None:
        answer = self._server.command("SET", f"s2s-mesh:{{{self._issuer}}}:ring", document.decode())
        assert answer == b"+OK\r\n"


@pytest.mark.parametrize(("reason", "kek", "damage"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_service_goes_on_with_the_ring_that_it_holds(
    server: RedisServer,
    issuer: str,
    caplog: pytest.LogCaptureFixture,
    reason: StoreReason | None,
    kek: str | None,
    damage: Damage,
) -> None:
    """It logs the reason, stays ready, serves and signs as before, and leaves the document as it is."""
    caplog.set_level(logging.INFO, "s2s_mesh.keys")
    replica, place = Replica(server, issuer, kek), Place(server, issuer)
    held, plain = place.found(kek)
    with replica.service:
        served, signing = replica.jwks().content, replica.signs_with()
        document = damage(plain, issuer)
        place.put(document)
        replica.poll()
        if reason is not None:
            expected = f"key ring of {issuer}: {reason.value}: "
            wait_until(lambda: expected in caplog.text, what=expected)
        else:
            replica.service.running().manager.refresh()  # type: ignore[union-attr]
            assert not [record for record in caplog.records if record.levelno > logging.INFO]
        assert replica.service.ready
        assert replica.jwks().content == served
        assert replica.signs_with() == signing
        assert place.get() == document
        place.put(held)
        replica.poll()
        wait_until(lambda: reason is None or f"{issuer} is in order again" in caplog.text, what="in order")


@pytest.mark.parametrize(("reason", "kek", "damage"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_fresh_replica_makes_no_key_over_what_it_cannot_read(
    server: RedisServer, issuer: str, reason: StoreReason | None, kek: str | None, damage: Damage
) -> None:
    """It answers 503 and says why it is not ready; once the document is mended it takes the ring over."""
    place = Place(server, issuer)
    held, plain = place.found(kek)
    kids = set(KeyRing.parse(plain, issuer=issuer, schedule=DEFAULT).records)
    document = damage(plain, issuer)
    place.put(document)
    fresh = Replica(server, issuer, kek)
    with fresh.service:
        if reason is not None:
            assert fresh.jwks().status_code == 503
            assert not fresh.service.ready
            with pytest.raises(KeyStoreError) as refusal:
                fresh.service.token(WALLETS)
            assert refusal.value.reason is reason
            assert fresh.service.not_ready_reason == str(refusal.value)
            assert place.get() == document
            place.put(held)
            fresh.poll()
            wait_until(lambda: fresh.service.ready, what="ready again")
        assert fresh.published() == kids
        assert fresh.signs_with() in kids


def test_an_older_document_is_merged_and_a_revoked_key_stays_revoked(
    server: RedisServer, issuer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored backup is healed by a replica that runs; one that starts afterwards knows it too."""
    replica, place = Replica(server, issuer, KEK), Place(server, issuer)
    backup, _ = place.found(KEK)
    with replica.service:
        revoked = replica.signs_with()
        manager = replica.service.running().manager
        assert manager is not None
        manager.change(lambda ring, now: ring.compromise(revoked, now))
        served, current = replica.published(), place.get()
        place.put(backup)
        replica.poll()
        wait_until(lambda: place.get() not in (backup, current), what="the store healed")
        assert "healing it" in caplog.text
        assert replica.published() == served
        assert revoked not in served
        late = Replica(server, issuer, KEK)
        with late.service:
            assert late.published() == served
            assert late.signs_with() == replica.signs_with() != revoked
