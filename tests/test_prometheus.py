"""Metrics in Prometheus: what a scrape of a real service shows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route

from s2s_mesh import ConfigError
from s2s_mesh.integrations.prometheus import Prometheus
from s2s_mesh.metrics import GAUGES

from .programs import environment
from .receiver import Receiver
from .test_service import service
from .tokens import EDGE, WALLETS, frozen, good, key


def scrape(observer: Prometheus) -> dict[tuple[str, ...], float]:
    """What Prometheus reads, by name and the values of the labels in the order of their names."""

    async def get() -> httpx.Response:
        app = Starlette(routes=[Route("/metrics", observer)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=WALLETS) as http:
            return await http.get("/metrics")

    answer = asyncio.run(get())
    assert answer.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.name.endswith("_created")  # when a counter was made
    }


def test_a_scrape_counts_and_reads(tmp_path: Path) -> None:
    """Counters are those of what happened, gauges are read at the scrape."""
    observer = Prometheus(CollectorRegistry())
    with frozen() as clock:
        receiver = Receiver(tmp_path, edge_keys=[key()], observers=[observer])
        token = good()
        for _ in range(3):
            receiver.call(token)
        receiver.call(good(iss="https://stranger.example.com"))
        clock.tick(7)
        seen = scrape(observer)
        receiver.close()
    assert seen["s2s_mesh_verifications_total", "false", EDGE, "accepted"] == 1
    assert seen["s2s_mesh_verifications_total", "true", EDGE, "accepted"] == 2
    assert seen["s2s_mesh_verifications_total", "false", "unknown", "unknown_issuer"] == 1
    # the housekeeper may have been first
    asked = [
        seen.get(("s2s_mesh_jwks_fetches_total", EDGE, "fetched", why), 0) for why in ("cold", "refresh")
    ]
    assert sum(asked) == 1
    assert seen["s2s_mesh_jwks_age_seconds", EDGE] == 7
    assert seen["s2s_mesh_jwks_keys", EDGE] == 1
    assert seen[("s2s_mesh_ready",)] == 1
    # it only verifies
    assert not any(name.startswith("s2s_mesh_key_ring") for name, *_ in seen)


def test_a_service_that_does_not_run_has_no_gauges() -> None:
    """Nothing is made up, and a scrape starts nothing."""
    observer = Prometheus(CollectorRegistry())
    made = service(observers=[observer])
    gauges = {metric.prometheus for metric in GAUGES}
    assert not gauges & {name for name, *_ in scrape(observer)}
    assert made.look() is None
    with made:
        assert "s2s_mesh_key_ring_age_seconds" in {name for name, *_ in scrape(observer)}


WORKER = """
import asyncio, httpx, sys
from s2s_mesh import Service
from s2s_mesh.integrations.prometheus import Prometheus
from s2s_mesh.observer import Recalled

observer = Prometheus()
observer.observe(Recalled("https://edge.example.com"))
with Service(issuer="https://wallets.example.com", trust=sys.argv[1], key_store=None, observers=[observer]):
    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(observer), base_url="http://here") as http:
            print((await http.get("/")).text)
    asyncio.run(main())
"""


def test_several_processes_of_one_service(tmp_path: Path) -> None:
    """Counters add up over all of them, also those that have ended; gauges are of the one that answers."""
    (tmp_path / "trust.toml").write_text("version = 1\n")
    (tmp_path / "metrics").mkdir()
    shown = ""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", WORKER, str(tmp_path / "trust.toml")],
            env=environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics")),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        shown = done.stdout
    labels = f'{{cached="true",issuer="{EDGE}",reason="accepted"}}'
    assert f"s2s_mesh_verifications_total{labels} 2.0" in shown.splitlines()
    assert "s2s_mesh_ready 1.0" in shown.splitlines()


def test_names_are_taken_once() -> None:
    """Two observers in one registry are refused at construction, and not at the first scrape."""
    registry = CollectorRegistry()
    Prometheus(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Prometheus(registry)


def test_one_observer_for_one_service() -> None:
    """Two services would write over each other's gauges."""
    observer = Prometheus(CollectorRegistry())
    service(observers=[observer])
    with pytest.raises(ConfigError, match="observes another service already"):
        service(observers=[observer])
