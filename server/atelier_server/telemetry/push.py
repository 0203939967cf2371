"""Starts the push of metrics where OpenTelemetry's variables ask for it; the library is not even loaded otherwise."""

from importlib import import_module
from typing import Protocol, cast

from prometheus_client import CollectorRegistry

from atelier_server.telemetry.tracing import wanted


class Push(Protocol):
    """What goes on until it is stopped."""

    def stop(self) -> None:
        """Pushes once more, and ends. Blocks."""


def start_push(registry: CollectorRegistry) -> Push | None:
    """Pushes a registry's metrics to the collector that the variables name; None when they name none."""
    if not wanted("metrics"):
        return None
    return cast(Push, import_module("atelier_server.telemetry.otel_metrics").MetricsPush(registry))
