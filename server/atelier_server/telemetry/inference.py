"""Counts inference requests of the KServe protocol as Triton counts them, by model and version.

A request counts once it has passed the checks of its shape, since one that was never the model's is nobody's failure.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from atelier_server.backends.base import BatchTimes
from atelier_server.errors import AtelierError, Cancelled, DeadlineExceeded, ResourceExhausted

CANCELED, REJECTED, OTHER = "CANCELED", "REJECTED", "OTHER"
"""Triton's reasons of failures."""


@dataclass(slots=True)
class Duration:
    """How often, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Adds `count` times that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchNumbers:
    """Executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ResponseNumbers:
    """The n-th responses of streamed requests."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelNumbers:
    """Everything counted for a version of a model; `last_ms` is the last request's time since the epoch."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    inferences: int = 0
    executions: int = 0
    pending: int = 0
    last_ms: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    batches: dict[int, BatchNumbers] = field(default_factory=lambda: defaultdict(BatchNumbers))
    responses: dict[int, ResponseNumbers] = field(default_factory=lambda: defaultdict(ResponseNumbers))


class RequestRecord:
    """Follows one request."""

    def __init__(self, numbers: ModelNumbers) -> None:
        self._numbers = numbers
        self._began = self._lap = time.perf_counter_ns()
        self._responses = 0

    def computed(
        self, *, queue: int, inputs: int, infer: int, outputs: int, rows: int, batch: int, leads: bool
    ) -> None:
        """Notes what the model did: times in nanoseconds, rows of this request and of its whole batch."""
        numbers = self._numbers
        numbers.queue.add(queue)
        numbers.inferences += rows
        times = (inputs, infer, outputs)
        for total, ns in zip(
            (numbers.compute_input, numbers.compute_infer, numbers.compute_output), times, strict=True
        ):
            total.add(ns)
        if leads:
            numbers.executions += 1
            of_size = numbers.batches[batch]
            for total, ns in zip(
                (of_size.compute_input, of_size.compute_infer, of_size.compute_output), times, strict=True
            ):
                total.add(ns)

    def ran(self, times: BatchTimes, rows: int) -> None:
        """As `computed`, of an instance's own times; `rows` are this request's."""
        self.computed(
            queue=times.queue_ns,
            inputs=times.input_ns,
            infer=times.infer_ns,
            outputs=times.output_ns,
            rows=rows,
            batch=times.rows or rows,
            leads=times.leads,
        )

    def cached(self) -> None:
        """Notes that the answer was kept from an earlier request; nothing was executed."""
        self._numbers.inferences += 1
        self._numbers.cache_hit.add(time.perf_counter_ns() - self._began)

    def missed_cache(self) -> None:
        """Notes that the cache was asked in vain."""
        self._numbers.cache_miss.add(0)

    def responded(self, *, empty: bool = False) -> None:
        """Notes a response of a stream; its time is that since the one before."""
        numbers = self._numbers.responses[self._responses]
        (numbers.empty if empty else numbers.success).add(self._next())

    def ended(self, error: BaseException | None) -> None:
        """Ends the request; called once."""
        numbers, took = self._numbers, time.perf_counter_ns() - self._began
        numbers.pending -= 1
        if error is None:
            numbers.success.add(took)
            return
        reason = _reason(error)
        numbers.fail.add(took)
        numbers.failures[reason] += 1
        if self._responses:
            numbers_of_next = numbers.responses[self._responses]
            (numbers_of_next.cancel if reason == CANCELED else numbers_of_next.fail).add(self._next())

    def _next(self) -> int:
        self._responses += 1
        before, self._lap = self._lap, time.perf_counter_ns()
        return self._lap - before


class InferenceStatistics:
    """The numbers of every model that was asked. Lives on one event loop; other threads may read."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], ModelNumbers] = {}

    def of(self, model: str, version: str) -> ModelNumbers:
        """A version's numbers, zero before its first request."""
        return self._numbers.get((model, version)) or ModelNumbers()

    def all(self) -> list[tuple[tuple[str, str], ModelNumbers]]:
        """Numbers by (model, version), of those that were asked, in order."""
        return sorted(self._numbers.items(), key=lambda item: item[0])

    @contextmanager
    def follow(self, model: str, version: str) -> Iterator[RequestRecord]:
        """Follows a request through a block; what the block raises makes it a failure."""
        numbers = self._numbers.setdefault((model, version), ModelNumbers())
        numbers.pending += 1
        numbers.last_ms = time.time_ns() // 1_000_000
        record = RequestRecord(numbers)
        try:
            yield record
        except BaseException as error:
            record.ended(error)
            raise
        record.ended(None)


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit | Cancelled):
        return CANCELED
    if isinstance(error, ResourceExhausted | DeadlineExceeded):
        return REJECTED
    return "BACKEND" if isinstance(error, AtelierError) else OTHER
