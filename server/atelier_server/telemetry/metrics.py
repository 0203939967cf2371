"""Counts generations: for Prometheus since the start, for Health and GetMetrics over a rolling window.

A `GenerationRecord` follows one generation by its events, so it needs nothing but a reader of the event log.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from atelier_server.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from atelier_server.telemetry.window import Finished, RollingWindow, mean
from atelier_server.types import Completed, Event, ImageCompleted, Queued, Started

SUCCEEDED, FAILED, REFUSED, CANCELLED = "succeeded", "failed", "refused", "cancelled"
"""Outcomes; refused is the caller's error, failed is ours."""

CALLERS_ERRORS = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    NotImplementedYet,
    Unauthenticated,
    PermissionDenied,
)
SERVICES_REASONS = "UPSTREAM_"
"""How reasons of errors begin that are between this server and a paid service, such as a key that it refuses."""
CALLERS_LIMITS = ("QUOTA_EXCEEDED", "COST_LIMIT")
"""Reasons of ResourceExhausted that are the caller's own doing; a full queue is the server's."""

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
STAGE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0)
FIRST_EVENT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class GenerationMetrics:
    """All numbers of one server. Its registry is its own, so that two servers in a process do not mix.

    Args:
        window_seconds: Length of the rolling window.
    """

    def __init__(self, window_seconds: float = 3600.0) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.window = RollingWindow(window_seconds)
        self.total = 0
        self.failed = 0
        self.by_model: Tally[str] = Tally()
        self.generations = Counter(
            "atelier_generations", "Generations that ended, by outcome.", ["outcome"], registry=self.registry
        )
        self.in_flight = Gauge("atelier_generations_in_flight", "Open Generate streams.", registry=self.registry)
        self.queue = Gauge("atelier_generations_waiting", "Streams whose work has not begun.", registry=self.registry)
        self.seconds = Histogram(
            "atelier_generation_seconds",
            "Time of succeeded, computed generations.",
            ["model"],
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.first_event_seconds = Histogram(
            "atelier_first_event_seconds",
            "Time from the call to its first event.",
            buckets=FIRST_EVENT_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "atelier_queue_seconds",
            "Time from the call to the first step of its work, text encoding included; not of cached generations.",
            ["model"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "atelier_stage_seconds",
            "Time of a stage of succeeded, computed generations, summed over pictures.",
            ["model", "stage"],
            buckets=STAGE_BUCKETS,
            registry=self.registry,
        )
        self.pictures = Counter(
            "atelier_pictures", "Pictures that were delivered, computed or cached.", ["model"], registry=self.registry
        )
        self.cached = Counter(
            "atelier_generations_cached",
            "Succeeded generations answered from the cache or from another call's work.",
            registry=self.registry,
        )
        self.restarted = Counter(
            "atelier_generations_restarted",
            "Times that the work of succeeded generations was begun again because its runner was lost.",
            registry=self.registry,
        )
        for outcome in (SUCCEEDED, FAILED, REFUSED, CANCELLED):
            self.generations.labels(outcome)

    @contextmanager
    def follow(self, remaining_seconds: Callable[[], float | None]) -> Iterator["GenerationRecord"]:
        """Follows a generation through a block; what the block raises decides the outcome.

        Args:
            remaining_seconds: How long the caller still waits; a call that is cut at its deadline has failed.
        """
        record = GenerationRecord(self)
        outcome = FAILED
        try:
            yield record
        except CALLERS_ERRORS as error:
            outcome = FAILED if error.reason.startswith(SERVICES_REASONS) else REFUSED
            raise
        except ResourceExhausted as error:
            outcome = REFUSED if error.reason in CALLERS_LIMITS else FAILED
            raise
        except (asyncio.CancelledError, GeneratorExit, Cancelled):
            left = remaining_seconds()
            outcome = FAILED if left is not None and left <= 0 else CANCELLED
            raise
        finally:
            record.end(outcome)


class GenerationRecord:
    """Follows one generation from the arrival of its call to its end."""

    def __init__(self, metrics: GenerationMetrics) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self._heard = self._waiting = False
        self._aesthetic: list[float] = []
        self._brand: list[float] = []
        self._completed: Completed | None = None
        self._model = ""
        self._queued_seconds: float | None = None
        self._pictures = 0
        metrics.in_flight.inc()

    def observe(self, event: Event) -> None:
        """Takes note of an event."""
        if not self._heard:
            self._heard = True
            self._metrics.first_event_seconds.observe(time.monotonic() - self._started)
        self._set_waiting(isinstance(event, Queued))
        match event:
            case ImageCompleted(scores=scores):
                self._pictures += 1
                if scores.aesthetic_score is not None:
                    self._aesthetic.append(scores.aesthetic_score)
                if scores.brand_consistency_score is not None and not scores.brand_reference_missing:
                    self._brand.append(scores.brand_consistency_score)
            case Started(model=model):
                self._model = model
                self._queued_seconds = time.monotonic() - self._started
            case Completed():
                self._completed = event

    def end(self, outcome: str) -> None:
        """Ends it with one of the outcomes; a completed generation has succeeded whatever became of its stream."""
        self._set_waiting(False)
        metrics, completed = self._metrics, self._completed
        metrics.in_flight.dec()
        outcome = SUCCEEDED if completed else outcome
        metrics.generations.labels(outcome).inc()
        if outcome == FAILED:
            metrics.failed += 1
            metrics.window.add(Finished(succeeded=False))
        if completed is None:
            return
        metrics.total += 1
        model = self._model or completed.model_used
        metrics.pictures.labels(model).inc(self._pictures)
        metrics.cached.inc(int(completed.cached))
        if not completed.cached:
            metrics.by_model[model] += 1
            self._measure(model, completed)
        aesthetic, brand = mean(self._aesthetic), mean(self._brand)
        metrics.window.add(Finished(True, completed.generation_time_ms, completed.cached, aesthetic, brand))

    def _measure(self, model: str, completed: Completed) -> None:
        """Adds the times of what was computed for this very call."""
        metrics = self._metrics
        metrics.seconds.labels(model).observe(completed.generation_time_ms / 1000.0)
        metrics.restarted.inc(completed.restarts)
        if self._queued_seconds is not None:
            metrics.queue_seconds.labels(model).observe(self._queued_seconds)
        for stage, milliseconds in completed.timings_ms.items():
            metrics.stage_seconds.labels(model, stage).observe(milliseconds / 1000.0)

    def _set_waiting(self, waiting: bool) -> None:
        if waiting != self._waiting:
            self._waiting = waiting
            self._metrics.queue.inc(1 if waiting else -1)
