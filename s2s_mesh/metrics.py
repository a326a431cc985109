"""The metrics: one table for every system that collects them, and how events and snapshots fill it.

Names are OpenTelemetry's, with dots; `Metric.prometheus` is what Prometheus, and OpenTelemetry's own exporter
for it, make of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .observer import (
    CoolingDown,
    Event,
    JWKSFetched,
    Kept,
    Minted,
    Recalled,
    Refused,
    Snapshot,
    StaleServed,
    Verified,
)


class Metric(NamedTuple):
    """One metric.

    Attributes:
        name: with dots.
        labels: names of its labels.
        help: one line.
        unit: "s" for seconds, empty for a number of things or a yes or no (1 or 0).
        counts: whether it only ever goes up.
    """

    name: str
    labels: tuple[str, ...]
    help: str
    unit: str = ""
    counts: bool = False

    @property
    def prometheus(self) -> str:
        """The name in Prometheus."""
        return self.name.replace(".", "_") + ("_seconds" if self.unit == "s" else "") + "_total" * self.counts


class Sample(NamedTuple):
    """The value of a gauge.

    Attributes:
        metric: which.
        labels: the values of its labels, in their order.
        value: now.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float


VERIFICATIONS = Metric(
    "s2s_mesh.verifications",
    ("issuer", "reason", "cached"),
    "Requests and tokens decided about; reason is accepted, or why not.",
    counts=True,
)
STALE_SERVED = Metric(
    "s2s_mesh.jwks.stale_served",
    ("issuer",),
    "Tokens accepted by a key whose set is stale, because the issuer does not answer.",
    counts=True,
)
FETCHES = Metric(
    "s2s_mesh.jwks.fetches",
    ("issuer", "why", "result"),
    "Attempts to get an issuer's JWKS; result is fetched, not_modified, shared or failed.",
    counts=True,
)
COOLDOWN_HITS = Metric(
    "s2s_mesh.jwks.cooldown_hits",
    ("issuer", "why"),
    "Times that a key was wanted and its issuer not asked, because it was asked just before.",
    counts=True,
)
TOKENS = Metric(
    "s2s_mesh.tokens",
    ("kind", "source"),
    "Tokens of our own handed out; source is minted, or kept for one from memory.",
    counts=True,
)
READY = Metric("s2s_mesh.ready", (), "Whether this process holds its key ring, or needs none.")
JWKS_AGE = Metric("s2s_mesh.jwks.age", ("issuer",), "Since the issuer last answered with its JWKS.", "s")
JWKS_REMAINING = Metric(
    "s2s_mesh.jwks.remaining",
    ("issuer",),
    "Until the issuer's keys are used no more, should it not answer; 0 without any.",
    "s",
)
JWKS_KEYS = Metric("s2s_mesh.jwks.keys", ("issuer",), "Keys known of the issuer.")
DENY_LIST_KNOWN = Metric("s2s_mesh.deny_list.known", (), "Whether this process has read the deny list.")
KEY_STORE_OK = Metric("s2s_mesh.key_store.ok", (), "Whether the last look at the key ring succeeded.")
RING_AGE = Metric("s2s_mesh.key_ring.age", (), "Since a key of our own took over last.", "s")
NEXT_ROTATION = Metric("s2s_mesh.key_ring.next_rotation", (), "Until the key that signs now hands over.", "s")
ROTATION_PERIOD = Metric("s2s_mesh.key_ring.rotation_period", (), "How long one key signs.", "s")

COUNTERS: Mapping[type[Event], Metric] = {
    Recalled: VERIFICATIONS,
    Verified: VERIFICATIONS,
    Refused: VERIFICATIONS,
    StaleServed: STALE_SERVED,
    JWKSFetched: FETCHES,
    CoolingDown: COOLDOWN_HITS,
    Minted: TOKENS,
    Kept: TOKENS,
}
GAUGES = (
    READY,
    JWKS_AGE,
    JWKS_REMAINING,
    JWKS_KEYS,
    DENY_LIST_KNOWN,
    KEY_STORE_OK,
    RING_AGE,
    NEXT_ROTATION,
    ROTATION_PERIOD,
)
METRICS = (*dict.fromkeys(COUNTERS.values()), *GAUGES)


def gauges(state: Snapshot | None) -> Iterator[Sample]:
    """The values of the gauges; none for what does not run, or is not there."""
    if state is None:
        return
    yield Sample(READY, (), state.ready)
    for known in state.jwks:
        of = (known.issuer,)
        if known.fetched_at is not None:
            yield Sample(JWKS_AGE, of, max(state.now - known.fetched_at, 0.0))
        yield Sample(JWKS_REMAINING, of, max(known.stale_until - state.now, 0.0))
        yield Sample(JWKS_KEYS, of, known.keys)
    if state.deny_list_known is not None:
        yield Sample(DENY_LIST_KNOWN, (), state.deny_list_known)
    if state.key_store_failed is not None:
        yield Sample(KEY_STORE_OK, (), not state.key_store_failed)
    if state.rotated_at is not None:
        yield Sample(RING_AGE, (), state.now - state.rotated_at)
    if state.next_rotation_at is not None:
        yield Sample(NEXT_ROTATION, (), state.next_rotation_at - state.now)
    if state.rotation_period is not None:
        yield Sample(ROTATION_PERIOD, (), state.rotation_period)
