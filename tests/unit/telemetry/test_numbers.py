"""Histograms that cross the private protocol, instances and calls as metrics, and what is pushed of them."""

import pytest
from opentelemetry.sdk.metrics.export import Gauge, HistogramDataPoint, Sum
from opentelemetry.sdk.metrics.export import Histogram as OtelHistogram
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from atelier_server.runner import messages
from atelier_server.telemetry.calls import CallMetrics
from atelier_server.telemetry.histogram import Histogram, Spread
from atelier_server.telemetry.instance_metrics import InstanceCollector, InstanceNumbers, ModelNumbers
from atelier_server.telemetry.otel_metrics import metrics_data


def spread_of(*values: float) -> Spread:
    histogram = Histogram((1.0, 2.0))
    for value in values:
        histogram.observe(value)
    return histogram.spread()


def registry_with(spread: Spread) -> CollectorRegistry:
    registry = CollectorRegistry()
    one = InstanceNumbers("3", True, 4, 5, 6, 7, 8, {"steps": 9, "unheard_of": 1}, {"step_seconds": spread})
    InstanceCollector(lambda: [ModelNumbers("m", True, False, (one,)), ModelNumbers("n", False, True, ())], registry)
    return registry


def test_edges_are_inclusive_and_the_rest_lies_above() -> None:
    assert spread_of(0.5, 1.0, 1.5, 2.0, 9.0) == Spread((1.0, 2.0), (2, 2, 1), 14.0)


def test_a_histogram_survives_the_wire() -> None:
    spread = spread_of(0.5, 9.0)
    assert messages.spread(messages.histogram(spread)) == spread


def test_prometheus_reads_instances_as_they_are() -> None:
    text = generate_latest(registry_with(spread_of(0.5, 1.5, 9.0))).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    labels = {"model": "m", "version": "3", "instance": "0"}
    steps = {
        (sample.name, sample.labels.get("le")): sample.value for sample in families["atelier_step_seconds"].samples
    }
    assert steps == {
        ("atelier_step_seconds_bucket", "1.0"): 1,
        ("atelier_step_seconds_bucket", "2.0"): 2,
        ("atelier_step_seconds_bucket", "+Inf"): 3,
        ("atelier_step_seconds_count", None): 3,
        ("atelier_step_seconds_sum", None): 11.0,
    }
    (waiting,) = families["atelier_instance_waiting_jobs"].samples
    assert (waiting.labels, waiting.value) == (labels, 4)
    (restarts,) = families["atelier_runner_restarts"].samples
    assert (restarts.name, restarts.value) == ("atelier_runner_restarts_total", 6)
    lost = {sample.labels["model"]: sample.value for sample in families["atelier_model_lost"].samples}
    assert lost == {"m": 0, "n": 1}
    assert families["atelier_batch_rows"].samples == []


def test_a_refused_call_counts_under_its_reason() -> None:
    registry = CollectorRegistry()
    calls = CallMetrics(registry)
    calls.observe("/atelier.v1.ImageGenerationService/Generate", "RESOURCE_EXHAUSTED", "QUEUE_FULL", 0.2)
    calls.observe("/atelier.v1.ImageGenerationService/Generate", "OK", "", 0.2)
    assert registry.get_sample_value("atelier_refusals_total", {"reason": "QUEUE_FULL"}) == 1
    labels = {"service": "atelier.v1.ImageGenerationService", "method": "Generate"}
    assert registry.get_sample_value("atelier_grpc_call_seconds_count", labels) == 2
    assert registry.get_sample_value("atelier_grpc_calls_total", labels | {"code": "OK"}) == 1


@pytest.fixture
def pushed() -> dict[str, object]:
    """What would be pushed, by name."""
    data = metrics_data(registry_with(spread_of(0.5, 1.5, 9.0)), Resource({}), 1, 2)
    return {metric.name: metric.data for metric in data.resource_metrics[0].scope_metrics[0].metrics}


def test_what_is_pushed_has_buckets_between_edges(pushed: dict[str, object]) -> None:
    histogram = pushed["atelier_step_seconds"]
    assert isinstance(histogram, OtelHistogram)
    (point,) = histogram.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)) == (
        3,
        11.0,
        [1, 1, 1],
        [1.0, 2.0],
    )


def test_counters_are_pushed_as_growing_and_gauges_as_they_are(pushed: dict[str, object]) -> None:
    steps, ready = pushed["atelier_steps_total"], pushed["atelier_model_ready"]
    assert isinstance(steps, Sum)
    assert steps.is_monotonic
    assert isinstance(ready, Gauge)
    assert {type(point.value) for point in ready.data_points} == {float}  # the encoder refuses booleans
