"""Spans and metrics in OpenTelemetry's own SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from s2s_mesh import ConfigError
from s2s_mesh.integrations.opentelemetry import OpenTelemetry
from s2s_mesh.metrics import METRICS
from s2s_mesh.observer import JWKSFetched

from .receiver import Receiver
from .test_metrics import STATE, shown
from .test_observer import EVENTS
from .test_service import service
from .tokens import EDGE, NOW, WALLETS, frozen, good, key

SECOND = 1_000_000_000


class Telemetry:
    """An observer on an SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=MeterProvider([self._reader])
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == f"s2s_mesh.{name}"]

    def points(self) -> dict[tuple[Any, ...], float]:
        """Name and values of the attributes, and what was measured."""
        data = self._reader.get_metrics_data()
        found = data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []
        return {
            (metric.name, *(point.attributes or {}).values()): point.value  # type: ignore[union-attr]
            for metric in found
            for point in metric.data.data_points
        }


def test_the_same_metrics_under_dotted_names() -> None:
    """Each counter and gauge of the table is there, with the value that Prometheus would show."""
    telemetry = Telemetry()
    telemetry.observer.watch(lambda: STATE)
    for event, _ in EVENTS:
        telemetry.observer.observe(event)
    points = telemetry.points()
    assert {name for name, *_ in points} == {metric.name for metric in METRICS}
    assert points["s2s_mesh.verifications", EDGE, "expired", "false"] == 1
    by_prometheus = {metric.name: metric.prometheus for metric in METRICS}
    read = {(by_prometheus[name], *labels): value for (name, *labels), value in points.items()}
    assert shown(STATE).items() <= read.items()


def test_a_call_is_one_span_the_first_time(tmp_path: Path) -> None:
    """It stands below the request's span and begins when the call came; a token from memory makes none."""
    telemetry = Telemetry()
    token = good()
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], observers=[telemetry.observer])
        with telemetry.tracers.get_tracer("app").start_as_current_span("PUT /card") as request:
            receiver.call(token)
            receiver.call(token)
            receiver.call(None)
        receiver.close()
    (verified,) = telemetry.spans("verify")
    assert verified.parent is not None
    assert verified.parent.span_id == request.get_span_context().span_id
    assert verified.attributes == {"s2s_mesh.issuer": EDGE}
    assert (verified.kind, verified.status.status_code) == (SpanKind.INTERNAL, StatusCode.UNSET)
    assert verified.start_time == NOW * SECOND
    fetched = [span for span in telemetry.spans("jwks.fetch") if span.attributes["s2s_mesh.issuer"] == EDGE]  # type: ignore[index]
    attributes = dict(fetched[0].attributes or {})
    assert attributes.pop("s2s_mesh.why") in ("cold", "refresh")  # the housekeeper may have been first
    assert attributes == {"s2s_mesh.issuer": EDGE, "s2s_mesh.result": "fetched"}
    assert fetched[0].kind is SpanKind.CLIENT


def test_a_refusal_is_an_error_with_its_reason(tmp_path: Path) -> None:
    """The reason stands where OpenTelemetry's conventions want the kind of an error."""
    telemetry = Telemetry()
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], observers=[telemetry.observer])
        receiver.call(good(iat=NOW - 300, exp=NOW - 200))
        receiver.close()
    (refused,) = telemetry.spans("verify")
    assert refused.attributes == {"s2s_mesh.issuer": EDGE, "error.type": "expired"}
    assert refused.status.status_code is StatusCode.ERROR


def test_a_failed_fetch_is_an_error() -> None:
    """It lasts as long as it took."""
    telemetry = Telemetry()
    telemetry.observer.observe(JWKSFetched(issuer=EDGE, why="refresh", result="failed", at=NOW, seconds=2.5))
    (span,) = telemetry.spans("jwks.fetch")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "jwks_not_refreshed"
    assert (span.start_time, span.end_time) == (NOW * SECOND, NOW * SECOND + 2.5 * SECOND)


def test_minting_is_a_span() -> None:
    """Handing the token out again is none."""
    telemetry = Telemetry()
    with service(observers=[telemetry.observer]) as made:
        made.token(WALLETS)
        made.token(WALLETS)
    (span,) = telemetry.spans("mint")
    assert span.attributes == {"s2s_mesh.kind": "at+jwt", "s2s_mesh.audience": WALLETS}
    points = telemetry.points()
    assert points["s2s_mesh.tokens", "at+jwt", "minted"] == points["s2s_mesh.tokens", "at+jwt", "kept"] == 1


def test_without_the_sdk_nothing_happens() -> None:
    """The API alone does nothing, and disturbs nothing."""
    observer = OpenTelemetry()
    with service(observers=[observer]) as made:
        assert made.token(WALLETS)


def test_one_observer_for_one_service() -> None:
    """Two services would write over each other's gauges."""
    observer = OpenTelemetry()
    service(observers=[observer])
    with pytest.raises(ConfigError, match="observes another service already"):
        service(observers=[observer])
