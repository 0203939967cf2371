"""Pushes what Prometheus would read to an OTLP collector, loaded only where OpenTelemetry's variables ask for it.

The numbers are those of the metrics port, under the same names: one set of metrics, two ways out.
"""

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    DataT,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtelMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

from atelier_server import __version__
from atelier_server.telemetry.otel import protocol, resource

DEFAULT_INTERVAL_MS = 60_000
LAST_PUSH_MS = 2_000
"""The last push gets so long; a collector that is gone must not hold up the server's end."""

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_log = logging.getLogger(__name__)


class MetricsPush:
    """Pushes a registry's metrics every OTEL_METRIC_EXPORT_INTERVAL milliseconds, and once at the end.

    Args:
        registry: What /metrics shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._resource = resource("atelier-server", {})
        module = import_module(f"opentelemetry.exporter.otlp.proto.{protocol('METRICS')}.metric_exporter")
        self._exporter = module.OTLPMetricExporter()
        self._interval = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_INTERVAL_MS)) / 1000.0
        self._began = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-push", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Pushes once more, and ends. Blocks."""
        self._ended.set()
        self._thread.join(LAST_PUSH_MS / 1000.0)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._push()
        self._push(LAST_PUSH_MS)
        self._exporter.shutdown()

    def _push(self, timeout_ms: float = 10_000) -> None:
        try:
            data = metrics_data(self._registry, self._resource, self._began, time.time_ns())
            self._exporter.export(data, timeout_millis=timeout_ms)
        except Exception:  # what watches the server must not end with one failed push
            _log.exception("the metrics could not be pushed")


def metrics_data(registry: CollectorRegistry, described: Resource, began: int, now: int) -> MetricsData:
    """All metrics of a registry.

    Args:
        registry: Where they are read.
        described: Of this process.
        began: When counting began, nanoseconds since the epoch.
        now: Likewise.
    """
    metrics = [
        OtelMetric(f"{family.name}_total" if family.type == "counter" else family.name, family.documentation, "", data)
        for family in registry.collect()
        if (data := _data(family, began, now)) is not None
    ]
    scope = ScopeMetrics(InstrumentationScope("atelier_server", __version__), metrics, "")
    return MetricsData([ResourceMetrics(described, [scope], "")])


def _data(family: Metric, began: int, now: int) -> DataT | None:
    samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    if not samples:
        return None
    if family.type == "histogram":
        return Histogram([_spread(*one, began, now) for one in _by_labels(samples)], _CUMULATIVE)
    points = [NumberDataPoint(sample.labels, began, now, float(sample.value)) for sample in samples]
    if family.type == "counter":
        return Sum(points, _CUMULATIVE, is_monotonic=True)
    return Gauge(points)


def _by_labels(samples: list[Sample]) -> Iterator[tuple[Mapping[str, str], list[Sample]]]:
    """The samples of each histogram of a family."""
    grouped: dict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        grouped[tuple(labels.items())].append(sample)
    for key, of_labels in grouped.items():
        yield dict(key), of_labels


def _spread(labels: Mapping[str, Any], samples: list[Sample], began: int, now: int) -> HistogramDataPoint:
    """Prometheus' buckets count all that is smaller; OTLP's count what lies between two edges."""
    buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
    totals = [int(sample.value) for sample in buckets]
    total = next((sample.value for sample in samples if sample.name.endswith("_sum")), 0.0)
    edges = [float(sample.labels["le"]) for sample in buckets[:-1]]
    counts = [after - before for before, after in zip([0, *totals], totals, strict=False)]
    # What the smallest and the largest measurement were is not known; infinity would not be true.
    return HistogramDataPoint(labels, began, now, totals[-1], total, counts, edges, None, None)  # type: ignore[arg-type]
