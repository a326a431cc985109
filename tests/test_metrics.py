"""The table of metrics, and what events and snapshots make of it."""

from __future__ import annotations

import re

import msgspec

from s2s_mesh.metrics import COUNTERS, GAUGES, METRICS, gauges
from s2s_mesh.observer import Event, JWKSState, Snapshot

from .test_observer import EVENTS
from .tokens import EDGE, LEDGER, NOW

STATE = Snapshot(
    now=NOW,
    ready=True,
    jwks=(
        JWKSState(issuer=EDGE, fetched_at=NOW - 40, stale_until=NOW + 3860, keys=2),
        JWKSState(issuer=LEDGER, fetched_at=None, stale_until=0, keys=0),
    ),
    deny_list_known=True,
    key_store_failed=False,
    rotated_at=NOW - 86400,
    next_rotation_at=NOW + 29 * 86400,
    rotation_period=30 * 86400,
)


def shown(state: Snapshot | None) -> dict[tuple[str, ...], float]:
    return {(sample.metric.prometheus, *sample.labels): sample.value for sample in gauges(state)}


def test_each_event_counts_for_one_metric_with_its_labels() -> None:
    """Every kind of event has a counter, with as many labels as the event has values."""
    assert set(COUNTERS) == set(Event.__subclasses__())
    for event, values in EVENTS:
        metric = COUNTERS[type(event)]
        assert metric.counts
        assert len(metric.labels) == len(values)


def test_names_are_those_of_the_two_systems() -> None:
    """Dotted ones begin with the package; those of Prometheus end with the unit, and counters with total."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"s2s_mesh(\.[a-z_]+)+", metric.name)
        assert metric.prometheus.endswith("_total") == metric.counts
        assert metric.prometheus.endswith("_seconds") == (metric.unit == "s")


def test_no_label_can_be_chosen_by_a_stranger() -> None:
    """Labels are issuers of the trust file, and words of closed lists."""
    assert {name for metric in METRICS for name in metric.labels} == {
        *("issuer", "reason", "cached", "why", "result", "kind", "source")
    }


def test_gauges_of_a_running_service() -> None:
    """Ages and times left count from now; an issuer that never answered has no age."""
    assert shown(STATE) == {
        ("s2s_mesh_ready",): 1,
        ("s2s_mesh_jwks_age_seconds", EDGE): 40,
        ("s2s_mesh_jwks_remaining_seconds", EDGE): 3860,
        ("s2s_mesh_jwks_keys", EDGE): 2,
        ("s2s_mesh_jwks_remaining_seconds", LEDGER): 0,
        ("s2s_mesh_jwks_keys", LEDGER): 0,
        ("s2s_mesh_deny_list_known",): 1,
        ("s2s_mesh_key_store_ok",): 1,
        ("s2s_mesh_key_ring_age_seconds",): 86400,
        ("s2s_mesh_key_ring_next_rotation_seconds",): 29 * 86400,
        ("s2s_mesh_key_ring_rotation_period_seconds",): 30 * 86400,
    }
    assert {sample.metric for sample in gauges(STATE)} == set(GAUGES)


def test_gauges_of_what_is_not_there() -> None:
    """A service that only verifies has none about keys of its own, one that does not run none at all."""
    bare = msgspec.structs.replace(
        STATE,
        ready=False,
        jwks=(),
        deny_list_known=None,
        key_store_failed=None,
        rotated_at=None,
        next_rotation_at=None,
        rotation_period=None,
    )
    assert shown(bare) == {("s2s_mesh_ready",): 0}
    assert shown(None) == {}
