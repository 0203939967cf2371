"""What the registry knows of models and their instances, as numbers for the metrics."""

from collections.abc import Iterable

from atelier_server.executor.base import READY, Executor
from atelier_server.repository.registry import Registry
from atelier_server.telemetry.instance_metrics import InstanceNumbers, ModelNumbers


def model_numbers(registry: Registry[Executor]) -> Iterable[ModelNumbers]:
    """Every model as it is now. For any thread."""
    for state in registry.models():
        ready = state.state == READY
        numbers = tuple(map(_instance, state.instances))
        yield ModelNumbers(state.name, ready, state.was_ready and not ready, numbers)


def _instance(instance: Executor) -> InstanceNumbers:
    status = instance.status()
    return InstanceNumbers(
        version=instance.spec.version,
        ready=status.state == READY,
        waiting=status.waiting,
        running=status.running,
        restarts=status.restarts,
        memory_bytes=status.memory_bytes,
        device_memory_bytes=status.device_memory_bytes,
        counters=status.counters,
        histograms=status.histograms,
    )
