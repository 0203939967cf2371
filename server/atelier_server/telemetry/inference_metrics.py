"""Inference statistics for Prometheus, under the names that Triton's dashboards know."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from atelier_server.telemetry.inference import CANCELED, OTHER, REJECTED, InferenceStatistics, ModelNumbers

_BY_MODEL: tuple[tuple[str, str, Callable[[ModelNumbers], float]], ...] = (
    ("nv_inference_request_success", "Requests that succeeded.", lambda n: n.success.count),
    ("nv_inference_count", "Rows of batches that were computed.", lambda n: n.inferences),
    ("nv_inference_exec_count", "Runs of the model.", lambda n: n.executions),
    ("nv_inference_pending_request_count", "Requests under way.", lambda n: n.pending),
    ("nv_inference_request_duration_us", "Time of succeeded requests.", lambda n: n.success.ns // 1000),
    ("nv_inference_queue_duration_us", "Time that requests waited.", lambda n: n.queue.ns // 1000),
    ("nv_inference_compute_input_duration_us", "Time of making inputs ready.", lambda n: n.compute_input.ns // 1000),
    ("nv_inference_compute_infer_duration_us", "Time of the model.", lambda n: n.compute_infer.ns // 1000),
    ("nv_inference_compute_output_duration_us", "Time of making outputs ready.", lambda n: n.compute_output.ns // 1000),
    ("nv_cache_num_hits_per_model", "Requests answered from the cache.", lambda n: n.cache_hit.count),
    ("nv_cache_num_misses_per_model", "Requests that the cache had no answer to.", lambda n: n.cache_miss.count),
)
_FAILURE_REASONS = (CANCELED, REJECTED, "BACKEND", OTHER)
_UNTYPED = "unknown"
"""Triton's counters do not end in _total, which Prometheus' counters must."""


class InferenceCollector(Collector):
    """Reads the statistics whenever it is scraped."""

    def __init__(self, statistics: InferenceStatistics, registry: CollectorRegistry) -> None:
        self._statistics = statistics
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Every number of every model that was asked."""
        asked = self._statistics.all()
        for name, text, value in _BY_MODEL:
            metric = Metric(name, text, _UNTYPED)
            for (model, version), numbers in asked:
                metric.add_sample(name, {"model": model, "version": version}, value(numbers))
            yield metric
        failures = Metric("nv_inference_request_failure", "Requests that failed, by reason.", _UNTYPED)
        for (model, version), numbers in asked:
            for reason in _FAILURE_REASONS:
                labels = {"model": model, "version": version, "reason": reason}
                failures.add_sample(failures.name, labels, numbers.failures[reason])
        yield failures
