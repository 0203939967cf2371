"""Dashboard, alerts and compose file speak of what the server has, and the documentation lists all of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from atelier_server.telemetry import instance_metrics
from atelier_server.telemetry.calls import CallMetrics
from atelier_server.telemetry.histogram import Histogram
from atelier_server.telemetry.inference import InferenceStatistics
from atelier_server.telemetry.inference_metrics import InferenceCollector
from atelier_server.telemetry.instance_metrics import InstanceCollector, InstanceNumbers, ModelNumbers
from atelier_server.telemetry.logging import FIELDS
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.types import Completed, Dimensions, Reproducibility, Started

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "12-observability.md").read_text()
OF_PROMETHEUS = {"up"}
ADDED_BY_SCRAPE = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    """Everything that a server registers, with a sample of every label."""
    metrics = GenerationMetrics()
    with metrics.follow(lambda: None) as record:
        record.observe(Started("m", "1", "", "", None, (1,), Dimensions(8, 8), Dimensions(8, 8), 1, 1.0, "", ()))
        record.observe(Completed(5.0, {"decode": 1.0}, False, 1, 1, Reproducibility.BATCHED, "m", "1", (), 0.0, {}))
    CallMetrics(metrics.registry).observe("/service/Method", "OK", "QUEUE_FULL", 0.1)
    spreads = {name: Histogram((1.0,)).spread() for name in instance_metrics._HISTOGRAMS}
    counters = dict.fromkeys(instance_metrics._COUNTERS, 1)
    instances = (InstanceNumbers("1", True, 0, 0, 0, 0, 0, counters, spreads),)
    InstanceCollector(lambda: [ModelNumbers("m", True, False, instances)], metrics.registry)
    statistics = InferenceStatistics()
    InferenceCollector(statistics, metrics.registry)
    with statistics.follow("m", "1"):
        pass
    return metrics.registry


@pytest.fixture(scope="module")
def exposed(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Labels by the name of each sample."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    labels: dict[str, set[str]] = {}
    for sample in samples:
        if not sample.name.endswith("_created"):
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "dashboards" / "atelier.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


def selectors(expression: Any) -> Iterator[Any]:
    """Every vector selector of a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
        below = getattr(expression, name, None)
        for one in below if isinstance(below, list) else [below] if below is not None else []:
            yield from selectors(one)


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_a_query_asks_for_metrics_and_labels_that_there_are(
    place: str, query: str, exposed: dict[str, set[str]]
) -> None:
    found = list(selectors(promql_parser.parse(query)))
    assert found, query
    for selector in found:
        labels = {matcher.name for matcher in selector.matchers.matchers}
        if selector.name not in OF_PROMETHEUS:
            assert selector.name in exposed, f"{place}: {selector.name}"
            assert labels - ADDED_BY_SCRAPE <= exposed[selector.name], f"{place}: {selector.name} has no such label"


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_a_query_groups_by_labels_that_its_metrics_have(place: str, query: str, exposed: dict[str, set[str]]) -> None:
    names = [selector.name for selector in selectors(promql_parser.parse(query)) if selector.name in exposed]
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        wanted = {label.strip() for label in grouped.split(",")} - {"instance"}
        assert all(wanted <= exposed[name] for name in names), place


def test_alerts_cover_what_operators_are_woken_for_and_have_an_entry_in_the_runbook() -> None:
    alerts = {place for place, _ in queries() if place.startswith("Atelier")}
    wanted = {"AtelierP95OverObjective", "AtelierModelLost", "AtelierCrashLoop", "AtelierQueueFull", "AtelierErrorRate"}
    assert wanted <= alerts
    runbook = (ROOT / "docs" / "13-deployment.md").read_text()
    assert alerts == set(re.findall(r"^\| (Atelier\w+) \|", runbook, flags=re.M))


def test_the_page_lists_every_metric_and_no_other(registry: CollectorRegistry) -> None:
    families = list(registry.collect())
    there = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    assert set(re.findall(r"`((?:atelier|nv|process)_[a-z_]+[a-z])`", PAGE)) == there


def test_the_page_lists_every_span_and_no_other() -> None:
    sources = [path.read_text() for path in (ROOT / "server" / "atelier_server").rglob("*.py")]
    pattern = r'(?<!\w)(?:span|job_spans|stage|_timed)\(\s*(?:timings, )?"(\w+)"'
    named = {name for source in sources for name in re.findall(pattern, source)}
    stages = re.search(r"^QUEUE, DENOISE, COMPUTE, STEP = (.*)$", "\n".join(sources), flags=re.M)
    assert stages is not None
    named |= set(re.findall(r'"(\w+)"', stages[1])) - {"step"}
    table = PAGE.split("| Span | Where |")[1].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert listed == named


def test_the_page_lists_every_field_of_a_log_line() -> None:
    table = PAGE.split("| Field | Holds |")[1]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == FIELDS


def compose() -> dict[str, Any]:
    """The compose file."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_what_compose_mounts_and_builds_is_there() -> None:
    services = compose()["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert files
    assert [file for file in files if not (DEPLOY / file).exists()] == []
    named = {mount.split(":")[0] for mount in mounts} - set(files)
    assert named == set(compose()["volumes"])
    assert {"server", "server-cpu"} <= set(re.findall(r"AS ([\w-]+)$", (ROOT / "Dockerfile").read_text(), flags=re.M))


def test_compose_publishes_on_loopback_only_and_pins_its_images() -> None:
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    images = [service["image"] for service in services.values() if "image" in service]
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)] == []


def test_the_parts_of_compose_find_each_other() -> None:
    services = compose()["services"]
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert (host in services, port) == (True, "8002")
    assert all((DEPLOY / "prometheus" / file).is_file() for file in scrape["rule_files"])
    collector = yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text())
    endpoint = services["atelier"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == f"http://collector:{collector['receivers']['otlp']['protocols']['http']['endpoint'][-4:]}"
    assert collector["exporters"]["otlp/jaeger"]["endpoint"].split(":")[0] in services
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])


def test_grafana_finds_its_dashboard_and_the_dashboard_its_source() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/atelier.yaml").read_text())
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    dashboard = json.loads((DEPLOY / "grafana/dashboards/atelier.json").read_text())
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert used == {one["uid"] for one in source["datasources"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
