"""What docs/telemetry.md and examples/telemetry say exists: metrics, reasons, fields, snippets."""

from __future__ import annotations

import io
import json
import logging.config
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry

from s2s_mesh import Reason, Service
from s2s_mesh.integrations.prometheus import Prometheus
from s2s_mesh.log_fields import EVENTS, FIELDS, fields
from s2s_mesh.metrics import METRICS
from s2s_mesh.observer import Refused

from .programs import ROOT
from .receiver import Receiver
from .servers import wait_until
from .test_observer import EVENTS as HAPPENED
from .test_readme import snippets
from .tokens import EDGE, NOW, WALLETS, frozen, good, key

DOCS = "docs/telemetry.md"
TEXT = (ROOT / DOCS).read_text(encoding="utf-8")
ALERTS = yaml.safe_load((ROOT / "examples/telemetry/alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "examples/telemetry/grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OF_PROMETHEUS = {"job", "instance"}  # labels that it adds by itself
WORDS = {"reason": {reason.value for reason in Reason} | {"accepted"}, "cached": {"true", "false"}}


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def docs_queries() -> list[str]:
    return [
        query.replace("\\|", "|") for query in re.findall(r"^\| [^|]+ \| `(sum.+)` \|$", TEXT, re.MULTILINE)
    ]


QUERIES = [*(rule["expr"] for rule in RULES), *dashboard_queries(), *docs_queries()]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The names and labels of what a registry really holds after a run."""
    registry = CollectorRegistry()
    observer = Prometheus(registry)
    with frozen():
        receiver = Receiver(
            tmp_path_factory.mktemp("registered"),
            edge_keys=[key()],
            key_store="memory://",
            observers=[observer],
        )
        with receiver.service:
            receiver.call(good())
            for event, _ in HAPPENED:
                observer.observe(event)
            state = receiver.service.look
            wait_until(lambda: (now := state()) is not None and now.deny_list_known is True)
            families = list(registry.collect())
        receiver.close()
    return {
        sample.name: set(sample.labels)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def used(query: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each metric in a query, with the labels that are matched and what they are compared with."""
    for name, matchers in re.findall(r"\b(s2s_mesh_[a-z0-9_]+)(\{[^}]*\})?", query):
        yield name, re.findall(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers)


def test_what_is_registered_is_what_the_table_says(registered: dict[str, set[str]]) -> None:
    """After a run each metric of the table is there, with its labels, and nothing else of ours is."""
    assert registered == {metric.prometheus: set(metric.labels) for metric in METRICS}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_exists(query: str, registered: dict[str, set[str]]) -> None:
    """Names, labels that are matched or grouped by, and the values of closed lists."""
    metrics = list(used(query))
    assert metrics
    labels = set(OF_PROMETHEUS)
    for name, matchers in metrics:
        assert name in registered
        labels |= registered[name]
        for label, value in matchers:
            assert label in registered[name] | OF_PROMETHEUS
            assert label not in WORDS or set(value.split("|")) <= WORDS[label]
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= labels
    assert query.count("(") == query.count(")")


def test_texts_of_alerts_and_legends_use_labels_that_are_left() -> None:
    """Whatever stands in braces survived the aggregation of its query."""
    shown = [(rule["expr"], json.dumps(rule["annotations"]), r"\$labels\.(\w+)") for rule in RULES]
    for panel in DASHBOARD["panels"]:
        shown += [(t["expr"], t["legendFormat"], r"\{\{(\w+)\}\}") for t in panel["targets"]]
    for query, text, pattern in shown:
        grouped = re.findall(r"\bby \(([^)]*)\)", query)
        for label in re.findall(pattern, text):
            if grouped:
                assert label in [name.strip() for name in grouped[0].split(",")], (query, text)
            else:
                assert label in {*OF_PROMETHEUS, *(n for m in METRICS for n in m.labels)}, (query, text)


def test_the_alerts() -> None:
    """There is one for everything that somebody has to get up for, and each says what is wrong."""
    assert {rule["alert"].removeprefix("S2SMesh") for rule in RULES} == {
        *("NotReady", "KeyStoreFailing", "KeyRingNotRotated", "KeysAboutToBeStale", "JWKSRefreshFailing"),
        *("StaleKeysServed", "RefusalsRising", "ReplayStoreDown", "Replays", "DenyListUnknown"),
        "VerdictUnavailable",
    }
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in RULES)


def test_the_dashboard_shows_every_metric() -> None:
    """In panels that do not lie on each other."""
    assert {name for query in dashboard_queries() for name, _ in used(query)} == {
        m.prometheus for m in METRICS
    }
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert (x, y) not in taken
                taken.add((x, y))
    (variable,) = [known for known in DASHBOARD["templating"]["list"] if known["name"] == "job"]
    assert [name for name, _ in used(variable["query"]["query"])] == ["s2s_mesh_ready"]


def test_the_table_of_metrics() -> None:
    """Row by row that of the code."""
    shown = re.findall(r"^\| `(s2s_mesh_\w+)` \| `([\w.]+)` \| (.*?) ?\| (.+) \|$", TEXT, re.MULTILINE)
    assert [(name, dotted, re.findall(r"`(\w+)`", labels), text) for name, dotted, labels, text in shown] == [
        (metric.prometheus, metric.name, list(metric.labels), metric.help) for metric in METRICS
    ]


def test_the_tables_of_events_and_fields() -> None:
    """Row by row those of the code."""
    section = TEXT.partition("## Logs")[2].partition("## Metrics")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| `s2s_mesh\.\w+`, .* \|$", section, re.MULTILINE)
    assert {event: tuple(re.findall(r"`(\w+)`", names)) for event, names in rows} == EVENTS
    meanings = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", section, re.MULTILINE)
    assert dict(meanings) == FIELDS


def test_logs_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration as printed writes one object per line, with the fields in it."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    exec(snippets(DOCS, "python")[0], {})
    log = logging.getLogger("s2s_mesh.deny")
    log.warning("deny rule %s", "7", extra=fields("deny_rule", rule="7", in_force=True))
    line = json.loads(out.getvalue())
    assert line["s2s_mesh"] == {"event": "deny_rule", "rule": "7", "in_force": True}
    assert (line["levelname"], line["name"], line["message"]) == ("WARNING", "s2s_mesh.deny", "deny rule 7")


def run(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a snippet in a folder with a trust file."""
    (folder / "trust").mkdir()
    (folder / "trust" / "trust.toml").write_text("version = 1\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("S2S_MESH_ISSUER", WALLETS)
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")
    names: dict[str, Any] = {}
    exec(snippets(DOCS, "python")[number], names)
    return names


def test_the_application_with_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape needs no token, everything else does, and both are as printed."""
    from .test_service import get

    names = run(1, tmp_path, monkeypatch)
    observer = names["metrics"]
    try:
        with names["service"]:
            assert get(names["app"], "/other").status_code == 401
            answer = get(names["app"], "/metrics")
    finally:
        for collector in {observer, *observer._counters.values()}:
            REGISTRY.unregister(collector)
    assert answer.status_code == 200
    assert "s2s_mesh_ready 1.0" in answer.text.splitlines()
    assert 'reason="no_credential"' in answer.text


def test_the_service_with_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be built as printed."""
    assert isinstance(run(2, tmp_path, monkeypatch)["service"], Service)


def test_the_observer_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It hears of refusals."""
    made = run(3, tmp_path, monkeypatch)["service"]
    made.settings.observers.observe(
        Refused(issuer=EDGE, reason=Reason.EXPIRED, cached=False, at=NOW, seconds=0)
    )
    assert capsys.readouterr().out == f"refused {EDGE} expired\n"
