"""Spans and metrics for OpenTelemetry (extra `otel`: its API; the SDK and its exporters are yours)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from .._version import __version__
from ..errors import ConfigError, Reason
from ..metrics import COUNTERS, METRICS, Metric, gauges
from ..observer import Event, JWKSFetched, Look, Minted, Refused, Verified

_NANO = 1_000_000_000


class OpenTelemetry:
    """The metrics of docs/telemetry.md under their dotted names, and spans of what takes time.

    A span is made when its work has ended, so nothing becomes a child of it:

    - `s2s_mesh.verify`, below the request's own span: each credential that was verified, or refused, and had
      not been verified before; with `s2s_mesh.issuer`, and `error.type`, the reason, where it was refused.
    - `s2s_mesh.jwks.fetch`, of its own: each attempt to get an issuer's keys; with `s2s_mesh.issuer`,
      `s2s_mesh.why`, `s2s_mesh.result`, and `error.type` where it failed.
    - `s2s_mesh.mint`, below what needed the token: with `s2s_mesh.kind` and `s2s_mesh.audience`.

    Args:
        tracer_provider, meter_provider: the SDK's; left out, those that are set for the process.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._look: Look | None = None
        self._tracer = get_tracer("s2s_mesh", __version__, tracer_provider)
        meter = get_meter("s2s_mesh", __version__, meter_provider)
        # counted here and read when metrics are collected: the SDK takes ten times as long to add one
        self._counts: dict[Metric, dict[tuple[str, ...], int]] = {}
        self._lock = threading.Lock()
        for metric in METRICS:
            if metric.counts:
                self._counts[metric] = {}
                meter.create_observable_counter(
                    metric.name, [self._counted(metric)], metric.unit, metric.help
                )
            else:
                meter.create_observable_gauge(metric.name, [self._measured(metric)], metric.unit, metric.help)

    def watch(self, look: Look) -> None:
        """See `Observer.watch`.

        Raises:
            ConfigError: this one observes a service already.
        """
        if self._look is not None:
            raise ConfigError("this OpenTelemetry observes another service already; make one for each")
        self._look = look

    def observe(self, event: Event) -> None:
        """See `Observer.observe`."""
        counts, labels = self._counts[COUNTERS[type(event)]], event.labels
        with self._lock:
            counts[labels] = counts.get(labels, 0) + 1
        if isinstance(event, (Verified, Refused)):
            self._verified(event)
        elif isinstance(event, JWKSFetched):
            error = "jwks_not_refreshed" if event.result == "failed" else None
            about = {"issuer": event.issuer, "why": event.why, "result": event.result}
            self._span("jwks.fetch", event.at, event.seconds, about, error=error, kind=SpanKind.CLIENT)
        elif isinstance(event, Minted):
            about = {"kind": event.kind, "audience": event.audience}
            self._span("mint", event.at, event.seconds, about)

    def _verified(self, event: Verified | Refused) -> None:
        error = None
        if isinstance(event, Refused):
            if event.cached or event.reason is Reason.NO_CREDENTIAL:
                return
            error = event.reason.value
        self._span("verify", event.at, event.seconds, {"issuer": event.issuer}, error=error)

    def _span(
        self,
        name: str,
        at: float,
        seconds: float,
        about: dict[str, str],
        *,
        error: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        attributes = {f"s2s_mesh.{key}": value for key, value in about.items()}
        if error is not None:
            attributes["error.type"] = error  # OpenTelemetry's semantic conventions
        begin = int(at * _NANO)
        span = self._tracer.start_span(f"s2s_mesh.{name}", kind=kind, attributes=attributes, start_time=begin)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(begin + int(seconds * _NANO))

    def _counted(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(count, dict(zip(metric.labels, labels, strict=True)))
                for labels, count in self._counts[metric].copy().items()
            ]

        return read

    def _measured(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, dict(zip(metric.labels, labels, strict=True)))
                for found, labels, value in gauges(None if self._look is None else self._look())
                if found is metric
            ]

        return read
