"""Metrics for Prometheus (extra `prometheus`); the list of them is in docs/telemetry.md."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, make_asgi_app
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from ..errors import ConfigError
from ..metrics import COUNTERS, GAUGES, gauges
from ..observer import Event, Look


class Prometheus(Collector):
    """Counts what happens, and reads how things stand when it is scraped.

    `Service(observers=[Prometheus()])`. As an ASGI application it answers with everything in the registry:
    `Route("/metrics", prometheus)`, `Mount`, or `metrics=prometheus` of the gateway.

    Where several processes share `PROMETHEUS_MULTIPROC_DIR`, counters are those of all of them, and gauges
    those of the process that answers: what happens to one process only is seen when that one is scraped.

    Args:
        registry: for the metrics; left out, that of the whole process.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._look: Look | None = None
        made = {
            metric: Counter(metric.prometheus, metric.help, metric.labels, registry=registry)
            for metric in dict.fromkeys(COUNTERS.values())
        }
        self._counters = {kind: made[metric] for kind, metric in COUNTERS.items()}
        # `labels()` takes a lock and checks; the values are few
        self._children: dict[tuple[Any, ...], Counter] = {}
        self._registry = registry
        registry.register(self)

    def watch(self, look: Look) -> None:
        """See `Observer.watch`.

        Raises:
            ConfigError: this one observes a service already.
        """
        if self._look is not None:
            raise ConfigError("this Prometheus observes another service already; make one for each")
        self._look = look

    def observe(self, event: Event) -> None:
        """See `Observer.observe`."""
        kind, labels = type(event), event.labels
        child = self._children.get((kind, labels))
        if child is None:
            child = self._children[kind, labels] = self._counters[kind].labels(*labels)
        child.inc()

    def describe(self) -> Iterable[Metric]:
        """The gauges, without values."""
        return [GaugeMetricFamily(metric.prometheus, metric.help, labels=metric.labels) for metric in GAUGES]

    def collect(self) -> Iterable[Metric]:
        """The gauges as they stand."""
        families = {
            metric: GaugeMetricFamily(metric.prometheus, metric.help, labels=metric.labels)
            for metric in GAUGES
        }
        for metric, labels, value in gauges(None if self._look is None else self._look()):
            families[metric].add_metric(labels, value)
        return [family for family in families.values() if family.samples]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, for HTTP."""
        await make_asgi_app(self._scraped())(scope, receive, send)

    def _scraped(self) -> CollectorRegistry:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(self)
        return registry
