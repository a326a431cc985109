"""Our keys as a SPIFFE bundle, for those who fetch it from us (SPIFFE Trust Domain and Bundle, section 4).

A document of its own: there the `use` of a key is `jwt-svid`, and entries with any other are ignored. `alg`
stays, although SPIRE writes none: a key is for one algorithm (RFC 8725 section 3.1).
"""

from __future__ import annotations

import math

from .jwks import SVID_USE
from .keyrecord import KeyRecord
from .keyring import KeyRing
from .rotation import RotationSchedule
from .strict_json import encode
from .svid import ALGORITHMS, HINTS_IN_LEAD

DOCUMENT = "/.well-known/spiffe-bundle.json"
_STEP = 2048  # between two instants, in milliseconds: with it sequences stay below 2**53 until 2109


def refresh_hint(schedule: RotationSchedule) -> int:
    """Seconds after which consumers should look again: as often as our JWKS expires, thrice in a lead."""
    return max(int(min(schedule.served_max_age, schedule.lead / HINTS_IN_LEAD)), 1)


def to_bytes(ring: KeyRing, now: float) -> bytes:
    """The document at `now`: sorted by kid, identical wherever the ring is.

    Args:
        ring: whose keys; those of an algorithm that no validator knows are left out.
        now: Unix seconds.
    """
    keys = ring.jwks(now).keys
    known = [kid for kid in sorted(keys) if keys[kid].alg in ALGORITHMS]
    return encode(
        {
            "keys": [{**keys[kid].public_jwk, "use": SVID_USE} for kid in known],
            "spiffe_sequence": sequence(ring, now),
            "spiffe_refresh_hint": refresh_hint(ring.schedule),
        }
    )


def sequence(ring: KeyRing, now: float) -> int:
    """The number of the bundle at `now`: greater after every change of its keys, wherever it is computed.

    It is the latest instant at which a key was published or removed, and below that what no instant tells:
    keys that were published or revoked since. So no counter has to be kept, replicas with one ring agree, a
    ring that knows more has the greater number, and a ring that is made anew goes on above the lost one.

    Args:
        ring: any ring; the more it has merged, the greater its number.
        now: Unix seconds.
    """
    records = ring.records.values()
    latest = max(
        ring.removed_until,
        *(record.publish_at for record in records),
        *(record.remove_at for record in records if record.remove_at <= now),
        0.0,
    )
    instant = math.floor(latest * 1000)
    return instant * _STEP + sum(_since(record, instant, now) for record in records)


def _since(record: KeyRecord, instant: int, now: float) -> int:
    """What a record adds to the number of an instant (milliseconds): more the further its life has gone.

    A record whose removal the instant covers is forgotten sooner or later, so it ends at nothing.
    """
    if math.floor(record.remove_at * 1000) <= instant:
        return -1 if record.published(now) else 0
    return 1 if record.published(now) else 2
