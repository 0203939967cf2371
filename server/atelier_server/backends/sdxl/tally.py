"""What a backend did since it started: counters, and how its steps were spread."""

from collections import Counter, OrderedDict

from atelier_server.backends.sdxl.entries import Batch
from atelier_server.telemetry.histogram import BATCH_ROWS, STEP_SECONDS, Histogram, Spread

_REMEMBERED_ABORTS = 1024


class Tally:
    """Counts. `counters` only grow."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter(steps=0, rows=0, rows_after_abort=0, images=0, out_of_memory=0)
        self._step_seconds, self._batch_rows = Histogram(STEP_SECONDS), Histogram(BATCH_ROWS)
        self._aborted: OrderedDict[str, None] = OrderedDict()

    def aborted(self, job_id: str) -> None:
        """Remembers a job of which nothing may be computed any more."""
        self._aborted[job_id] = None
        if len(self._aborted) > _REMEMBERED_ABORTS:
            self._aborted.popitem(last=False)

    def step(self, batch: Batch, seconds: float) -> None:
        """Counts a step, before the scheduler takes note of it."""
        self._step_seconds.observe(seconds)
        self._batch_rows.observe(batch.rows)
        self.counters["steps"] += 1
        self.counters["rows"] += batch.rows
        self.counters[f"steps_of_{batch.rows}_rows"] += 1
        self.counters["rows_after_abort"] += sum(entry.rows for entry in batch.entries if entry.job_id in self._aborted)

    def spreads(self) -> dict[str, Spread]:
        """How what was measured is spread."""
        return {"step_seconds": self._step_seconds.spread(), "batch_rows": self._batch_rows.spread()}
