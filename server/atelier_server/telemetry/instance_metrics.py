"""Model instances for Prometheus: read when scraped from what the server last heard of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from atelier_server.telemetry.histogram import Spread


@dataclass(frozen=True, slots=True)
class InstanceNumbers:
    """One instance; sizes in bytes. `counters` and `histograms` are its backend's."""

    version: str
    ready: bool
    waiting: int
    running: int
    restarts: int
    memory_bytes: int
    device_memory_bytes: int
    counters: Mapping[str, int] = field(default_factory=dict)
    histograms: Mapping[str, Spread] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelNumbers:
    """One model. `lost` tells that it was ready and is not, though nobody unloaded it."""

    name: str
    ready: bool
    lost: bool
    instances: tuple[InstanceNumbers, ...]


_GAUGES: tuple[tuple[str, str, Callable[[InstanceNumbers], float]], ...] = (
    ("atelier_instance_ready", "1 while the instance answers.", lambda one: one.ready),
    ("atelier_instance_waiting_jobs", "Jobs that wait for the instance.", lambda one: one.waiting),
    ("atelier_instance_running_jobs", "Jobs that the instance computes.", lambda one: one.running),
    ("atelier_instance_memory_bytes", "Resident memory of its process.", lambda one: one.memory_bytes),
    ("atelier_instance_device_memory_bytes", "Memory on its device.", lambda one: one.device_memory_bytes),
)
_COUNTERS: Mapping[str, tuple[str, str]] = {
    "jobs_total": ("atelier_instance_jobs", "Jobs that the instance took in."),
    "aborts_total": ("atelier_instance_aborts", "Jobs that nobody wanted any more."),
    "steps_saved_total": ("atelier_cancelled_steps_saved", "Steps that aborts made needless, at least."),
    "steps_after_abort_total": ("atelier_steps_after_abort", "Steps computed for a job after its abort was asked for."),
    "failed_steps_total": ("atelier_failed_steps", "Steps that failed."),
    "steps": ("atelier_steps", "Batches that were computed."),
    "rows": ("atelier_rows", "Rows of batches that were computed."),
    "images": ("atelier_images_decoded", "Pictures that were decoded."),
    "out_of_memory": ("atelier_out_of_memory", "Batches or decodings that did not fit into the device's memory."),
    "executions_total": ("atelier_executions", "Runs of an ONNX graph."),
    "inferences_total": ("atelier_inferences", "Tensor jobs that were computed."),
    "upstream_requests": ("atelier_upstream_requests", "Requests to a paid service."),
    "upstream_retries": ("atelier_upstream_retries", "Of them, those that repeat a refused one."),
    "upstream_failures": ("atelier_upstream_failures", "Of them, those that failed."),
    "upstream_cost_microdollars": ("atelier_upstream_cost_microdollars", "Estimated cost, millionths of a US dollar."),
}
_HISTOGRAMS: Mapping[str, tuple[str, str]] = {
    "step_seconds": ("atelier_step_seconds", "Time of one step of a batch."),
    "batch_rows": ("atelier_batch_rows", "Rows of a batch."),
}
_LABELS = ("model", "version", "instance")


class InstanceCollector(Collector):
    """Shows every model of the repository, and every instance of those that are loaded.

    Args:
        models: How they are now; called on the scraper's thread.
        registry: Where it is shown.
    """

    def __init__(self, models: Callable[[], Iterable[ModelNumbers]], registry: CollectorRegistry) -> None:
        self._models = models
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All metrics; those of kinds of backends that are not there have no samples."""
        models = list(self._models())
        ready = Metric("atelier_model_ready", "1 while the model answers.", "gauge")
        lost = Metric("atelier_model_lost", "1 while a model that was ready is not.", "gauge")
        for model in models:
            ready.add_sample(ready.name, {"model": model.name}, model.ready)
            lost.add_sample(lost.name, {"model": model.name}, model.lost)
        yield from (ready, lost)
        instances = [
            (dict(zip(_LABELS, (model.name, one.version, str(index)), strict=True)), one)
            for model in models
            for index, one in enumerate(model.instances)
        ]
        for name, text, value in _GAUGES:
            gauge = Metric(name, text, "gauge")
            for labels, one in instances:
                gauge.add_sample(name, labels, value(one))
            yield gauge
        yield _counter("atelier_runner_restarts", "Restarts of its process.", instances, lambda one: one.restarts)
        for key, (name, text) in _COUNTERS.items():
            yield _counter(name, text, instances, lambda one, key=key: one.counters.get(key))  # type: ignore[misc]
        for key, (name, text) in _HISTOGRAMS.items():
            yield _histogram(name, text, [(labels, one.histograms.get(key)) for labels, one in instances])


Labelled = list[tuple[dict[str, str], InstanceNumbers]]


def _counter(name: str, text: str, instances: Labelled, value: Callable[[InstanceNumbers], int | None]) -> Metric:
    metric = Metric(name, text, "counter")
    for labels, one in instances:
        number = value(one)
        if number is not None:
            metric.add_sample(f"{name}_total", labels, number)
    return metric


def _histogram(name: str, text: str, spreads: Iterable[tuple[dict[str, str], Spread | None]]) -> Metric:
    metric = Metric(name, text, "histogram")
    for labels, spread in spreads:
        if spread is None:
            continue
        total = 0
        for edge, count in zip([*map(str, map(float, spread.edges)), "+Inf"], spread.counts, strict=True):
            total += count
            metric.samples.append(Sample(f"{name}_bucket", labels | {"le": edge}, total))
        metric.samples.append(Sample(f"{name}_count", labels, total))
        metric.samples.append(Sample(f"{name}_sum", labels, spread.sum))
    return metric
