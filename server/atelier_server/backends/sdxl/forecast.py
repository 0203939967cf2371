"""When a job would begin and end, by playing the scheduler's own decisions forward. Pure Python, no clock of its own.

The scheduler decides anew at every step; here a decision holds until a picture in it is done or its rows change, or for
a few steps where several clients take turns. So a forecast costs about one decision for each picture ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atelier_server.backends.sdxl.entries import Batch, Curve, Entry

STRIDE_STEPS = 8
"""How long a decision is taken to hold when several clients take turns."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one job: jobs that are served before its first step, and seconds from now until it and until its end."""

    position: int
    wait_seconds: float
    total_seconds: float

    def later(self, seconds: float) -> "Forecast":
        """The same, told so many seconds later."""
        return Forecast(self.position, max(0.0, self.wait_seconds - seconds), max(0.0, self.total_seconds - seconds))


class Scheduler(Protocol):
    """What is played forward: a copy of the scheduler that nobody else uses."""

    def __len__(self) -> int:
        """Entries in it."""

    def schedule(self, now: float) -> Batch | None:
        """The next decision."""

    def update(self, batch: Batch, seconds: float, steps: int = 1) -> tuple[Entry, ...]:
        """So many steps are done."""


class RememberedCurve:
    """A curve that is asked the same questions over and over; it does not change meanwhile."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._caps: dict[int, int] = {}
        self._seconds: dict[tuple[int, int], float] = {}

    def cap(self, pixels: int) -> int:
        """See Curve."""
        if pixels not in self._caps:
            self._caps[pixels] = self._curve.cap(pixels)
        return self._caps[pixels]

    def step_seconds(self, rows: int, pixels: int) -> float:
        """See Curve."""
        seconds = self._seconds.get((rows, pixels))
        if seconds is None:
            seconds = self._seconds[rows, pixels] = self._curve.step_seconds(rows, pixels)
        return seconds


def forecast(scheduler: Scheduler, curve: Curve, job: Sequence[Entry], now: float, clients: int) -> Forecast:
    """Plays forward until every entry of the job is done.

    Args:
        scheduler: A copy that holds the job's entries too.
        curve: Of the scheduler.
        job: The entries, as they lie in the copy.
        now: When the next decision is due.
        clients: How many take turns.
    """
    clock, first = now, None
    ahead: set[str] = set()
    own, left = job[0].job_id, len(job)
    while left and (batch := scheduler.schedule(clock)) is not None:
        clock += sum(entry.head_seconds for entry in batch.entries if entry.served_seconds == 0.0)
        if first is None and any(entry.job_id == own for entry in batch.entries):
            first = clock
        elif first is None:
            ahead.update(entry.job_id for entry in batch.entries)
        steps = min(entry.steps_alike for entry in batch.entries)
        steps = min(steps, STRIDE_STEPS) if clients > 1 else steps
        seconds = steps * curve.step_seconds(batch.rows, batch.key.pixels)
        finished = scheduler.update(batch, seconds, steps)
        clock += seconds + sum(entry.tail_seconds for entry in finished)
        left -= sum(entry.job_id == own for entry in finished)
    return Forecast(len(ahead), (now if first is None else first) - now, clock - now)
