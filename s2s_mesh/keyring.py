"""The key ring of one issuer: an immutable set of key records that only time, revocation and merging change.

Why merging always converges: key material, `publish_at` and `remove_at` never change; `sign_from`,
`sign_until` and `revoked_at` only ever decrease, and a private half that is gone stays gone. Taking the
minimum of each is commutative, associative and idempotent, so replicas may exchange rings in any order, lose
writes, or find an old backup, and still end with one ring (design: keyring.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from .errors import ConfigError, JWKSInvalid, KeyStoreError, StoreReason
from .jwks import JWKSet
from .keyrecord import KeyRecord
from .keys import SigningKey, UnusableKey
from .rotation import RotationSchedule
from .strict_json import NotStrictJSON, decode_object, encode

_FORMAT = 1
MAX_PUBLISHED_PER_ALGORITHM = 4


class KeyRing:
    """All keys of one issuer. Immutable: every change returns another ring.

    Two rings are equal when their records are; `version` only counts writes.

    Attributes:
        issuer: whose keys these are.
        schedule: the rotation times.
        records: by kid, in the order of kid.
        version: number of writes behind this ring, for the operator.
        removed_until: the latest `remove_at` (Unix seconds) of all records that are forgotten, 0 for none.
    """

    __slots__ = ("_facts", "issuer", "records", "removed_until", "schedule", "version")

    def __init__(
        self,
        issuer: str,
        schedule: RotationSchedule,
        records: Iterable[KeyRecord] = (),
        *,
        version: int = 0,
        removed_until: float = 0.0,
    ) -> None:
        self.issuer: str = issuer
        self.schedule: RotationSchedule = schedule
        self.records: Mapping[str, KeyRecord] = {r.kid: r for r in sorted(records, key=lambda r: r.kid)}
        self.version: int = version
        self.removed_until: float = removed_until
        self._facts = encode([record.facts() for record in self.records.values()])

    # -- the document ---------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The document to seal and store. Holds private keys."""
        head = {
            "v": _FORMAT,
            "issuer": self.issuer,
            "version": self.version,
            "removed_until": self.removed_until,
        }
        return encode({**head, "keys": msgspec.Raw(self._facts)})

    @classmethod
    def parse(cls, data: bytes, *, issuer: str, schedule: RotationSchedule) -> KeyRing:
        """Read a document that was sealed by a replica of the same issuer.

        Raises:
            KeyStoreError: `OTHER_ISSUER`, or `UNREADABLE` for anything that no replica writes. The text
                holds nothing of the document.
        """
        try:
            document = decode_object(data)
            if document["issuer"] != issuer:
                raise KeyStoreError(
                    StoreReason.OTHER_ISSUER,
                    f"the stored ring belongs to another issuer than {issuer}; check S2S_MESH_ISSUER",
                )
            if document["v"] != _FORMAT or type(document["keys"]) is not list:
                raise ValueError("format")
            records = [KeyRecord.parse(entry) for entry in document["keys"]]
            if len({record.kid for record in records}) != len(records):
                raise ValueError("a kid stands twice")
            # older versions know no `removed_until`
            removed_until = float(document.get("removed_until", 0.0))
            version = int(document["version"])
            return cls(issuer, schedule, records, version=version, removed_until=removed_until)
        except (NotStrictJSON, UnusableKey, JWKSInvalid, KeyError, TypeError, ValueError, AttributeError):
            raise KeyStoreError(
                StoreReason.UNREADABLE,
                f"the stored ring of {issuer} opened but is not a ring of format {_FORMAT}; a newer version "
                "of s2s-mesh, or something else, wrote it. No new key is made over it.",
            ) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyRing):
            return NotImplemented
        theirs = (other.issuer, other.removed_until, other._facts)
        return (self.issuer, self.removed_until, self._facts) == theirs

    def __repr__(self) -> str:
        return f"KeyRing(issuer={self.issuer!r}, version={self.version}, kids={list(self.records)!r})"

    # -- what it says at an instant -------------------------------------------------------------------

    def signing_record(self, now: float, *, published_before: float | None = None) -> KeyRecord | None:
        """The record that signs at `now`, or None.

        Among the active ones the oldest, so that replicas agree; if none is active, the one that would be
        next, so that a clock that is behind never leaves a replica without a key.

        Args:
            now: Unix seconds.
            published_before: only keys published at or before this instant, for processes that do not serve
                the JWKS themselves.
        """
        able = [
            record
            for record in self.records.values()
            if now < record.may_sign_until()
            and (published_before is None or record.publish_at <= published_before)
        ]
        active = [record for record in able if record.sign_from <= now]
        if active:
            return min(active, key=lambda r: (r.publish_at, r.kid))
        return min(able, key=lambda r: (r.sign_from, r.publish_at, r.kid), default=None)

    def signing_key(self, now: float, *, published_before: float | None = None) -> SigningKey | None:
        """The key that signs at `now`, or None; see `signing_record`."""
        record = self.signing_record(now, published_before=published_before)
        return None if record is None else record.private

    def next_change(self, now: float) -> float:
        """The first instant after `now` at which anything this ring says may differ."""
        times = [
            at
            for record in self.records.values()
            for at in (record.sign_from, record.sign_until, record.remove_at)
            if at > now
        ]
        return min(times, default=now + self.schedule.replica_lag)

    def jwks(self, now: float) -> JWKSet:
        """The public keys to serve at `now`."""
        return JWKSet(record.public for record in self.records.values() if record.published(now))

    def expired(self, now: float) -> bool:
        """Whether time alone has left it without a key to sign with: an outage, not a revocation (I-K5).

        Its key set must not be served any more: replicas that still reach the store sign with newer keys.
        """
        return all(now >= record.sign_until for record in self.records.values())

    # -- change ---------------------------------------------------------------------------------------

    def advance(self, now: float, *, generate: Callable[[], SigningKey]) -> KeyRing:
        """What time demands: erase, remove, and create the successor. Returns `self` when nothing is due.

        Args:
            now: Unix seconds.
            generate: makes a key of the algorithm configured; called once for each key that is missing, at
                most twice (a first ring gets its successor at once, so that it can be revoked at once).
        """
        ring = self._replaced(self._after_erasing(now))
        current = ring.signing_record(now)
        if current is None:
            # sign_from lies back so that a replica with a slow clock can use the first key as well (I-K3)
            ring, current = ring._with_key(
                generate(), now, sign_from=now - 2 * self.schedule.max_skew, start=now
            )
        if ring._lacks_successor(now, current):
            start = max(current.sign_until, now + self.schedule.lead)
            ring, _ = ring._with_key(generate(), now, sign_from=start, start=start)
        return self if ring == self else ring

    def compromise(self, kid: str, now: float) -> KeyRing:
        """Revoke a key: unpublished at once, private half erased, the successor signs at once (I-K4).

        Raises:
            ConfigError: no such kid in the ring.
        """
        if kid not in self.records:
            raise ConfigError(
                f"no key {kid!r} in the ring of {self.issuer}; its keys: {', '.join(self.records)}"
            )
        record = self.records[kid]
        revoked_at = now if record.revoked_at is None else min(now, record.revoked_at)
        ring = self._with(msgspec.structs.replace(record, revoked_at=revoked_at, private=None))
        signing = ring.signing_record(now)
        if signing is None or signing.sign_from <= now:
            return ring
        able = [r for r in ring.records.values() if now < r.may_sign_until()]
        # the one that most caches have; during a change of algorithm there are two
        successor = min(able, key=lambda r: (r.publish_at, r.kid))
        return ring._with(msgspec.structs.replace(successor, sign_from=now))

    def successor(self, now: float) -> KeyRecord | None:
        """The record that signs after the present one, or None."""
        current = self.signing_record(now)
        if current is None:
            return None
        later = [r for r in self.records.values() if r.may_sign_until() > current.sign_until]
        return min(later, key=lambda r: (r.sign_from, r.publish_at, r.kid), default=None)

    def ripe_at(self, now: float) -> float | None:
        """When the successor may sign at the earliest: every receiver has it by then. None without one."""
        successor = self.successor(now)
        return None if successor is None else successor.publish_at + self.schedule.lead

    def hand_over(self, now: float, at: float) -> KeyRing:
        """The present key signs until `at`, its successor from `at` on; nothing is unpublished.

        Args:
            now: Unix seconds.
            at: when, not before the successor is ripe.

        Raises:
            ConfigError: there is no successor, it is not ripe at `at`, or so many keys are published that its
                own successor could not be.
        """
        current, successor, ripe_at = self.signing_record(now), self.successor(now), self.ripe_at(now)
        if current is None or successor is None or ripe_at is None:
            raise ConfigError(f"the ring of {self.issuer} holds no key that could take over")
        if at < ripe_at:
            raise ConfigError(
                f"the next key of {self.issuer} is published for too short a time: caches of receivers may "
                f"lack it for another {ripe_at - at:.0f} s"
            )
        self._refuse_if_full(now)
        return self._with(
            msgspec.structs.replace(current, sign_until=min(current.sign_until, at)),
            msgspec.structs.replace(
                successor,
                sign_from=min(successor.sign_from, at),
                sign_until=min(successor.sign_until, at + self.schedule.period),
            ),
        )

    def replace_successor(self, now: float, key: SigningKey) -> KeyRing:
        """`key`, published at once, takes over as soon as it is ripe, instead of the present successor.

        For a change of algorithm. Until then every key signs as it would have: should the present one be
        revoked meanwhile, the former successor, which receivers have, steps in.

        Args:
            now: Unix seconds.
            key: a new key.

        Raises:
            ConfigError: so many keys are published that no other could be.
        """
        self._refuse_if_full(now)
        start = now + self.schedule.lead
        ring, _ = self._replaced(
            msgspec.structs.replace(record, sign_until=min(record.sign_until, start))
            for record in self.records.values()
        )._with_key(key, now, sign_from=start, start=start)
        return ring

    def merge(self, other: KeyRing) -> KeyRing:
        """Both rings in one; see the module's first paragraph. Revocation wins.

        Raises:
            ConfigError: the rings belong to different issuers.
        """
        if other.issuer != self.issuer:
            raise ConfigError(f"rings of {self.issuer} and {other.issuer} are never merged")
        records = dict(self.records)
        for kid, record in other.records.items():
            records[kid] = records[kid].merge(record) if kid in records else record
        merged = KeyRing(
            self.issuer,
            self.schedule,
            records.values(),
            version=max(self.version, other.version),
            removed_until=max(self.removed_until, other.removed_until),
        )
        return self if merged == self and merged.version == self.version else merged

    def written(self) -> KeyRing:
        """The same ring, counted as one more write."""
        return self._replaced(self.records.values(), version=self.version + 1)

    def _replaced(self, records: Iterable[KeyRecord], *, version: int | None = None) -> KeyRing:
        """These records in place of ours; when those that are missing were removed is remembered."""
        kept = {record.kid: record for record in records}
        forgotten = [record.remove_at for kid, record in self.records.items() if kid not in kept]
        return KeyRing(
            self.issuer,
            self.schedule,
            kept.values(),
            version=self.version if version is None else version,
            removed_until=max([self.removed_until, *forgotten]),
        )

    def _with(self, *records: KeyRecord) -> KeyRing:
        return self._replaced({**self.records, **{record.kid: record for record in records}}.values())

    def _after_erasing(self, now: float) -> list[KeyRecord]:
        """Without private halves past `sign_until`, without records past `remove_at` and twice the skew.

        A tombstone pruned earlier would let a late replica bring the revoked key back.
        """
        return [
            msgspec.structs.replace(record, private=None) if now >= record.sign_until else record
            for record in self.records.values()
            if now < record.remove_at + 2 * self.schedule.max_skew
        ]

    def _with_key(
        self, key: SigningKey, now: float, *, sign_from: float, start: float
    ) -> tuple[KeyRing, KeyRecord]:
        sign_until = start + self.schedule.period
        record = KeyRecord(
            public=key.public,
            private=key,
            created=now,
            publish_at=now,
            sign_from=sign_from,
            sign_until=sign_until,
            remove_at=sign_until + self.schedule.drain,
        )
        return self._with(record), record

    def _lacks_successor(self, now: float, current: KeyRecord) -> bool:
        if any(record.may_sign_until() > current.sign_until for record in self.records.values()):
            return False
        return not self._is_full(now)

    def _refuse_if_full(self, now: float) -> None:
        if self._is_full(now):
            first = min(r.remove_at for r in self._published_somewhere(now)) + 2 * self.schedule.max_skew
            raise ConfigError(
                f"{MAX_PUBLISHED_PER_ALGORITHM} keys of one algorithm are published already, and a rotation "
                f"adds one; there is room again in {first - now:.0f} s"
            )

    def _is_full(self, now: float) -> bool:
        published = [record.public.alg for record in self._published_somewhere(now)]
        return any(published.count(alg) >= MAX_PUBLISHED_PER_ALGORITHM for alg in set(published))

    def _published_somewhere(self, now: float) -> list[KeyRecord]:
        """What replicas publish whose clocks are behind ours."""
        return [r for r in self.records.values() if r.published(now - 2 * self.schedule.max_skew)]
