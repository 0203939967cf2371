"""What the step scheduler schedules: pictures, what they must have in common to share a step, and what a step costs."""

import math
from dataclasses import dataclass, field
from typing import Protocol

PRIORITY_BASE = 4.0
"""A job of priority p is ordered among its client's jobs as if its work were PRIORITY_BASE**p times smaller. Between
clients only a low priority counts: nobody gets ahead of others by calling himself important."""


class Curve(Protocol):
    """What is known of t(rows)."""

    def cap(self, pixels: int) -> int:
        """Most rows in a batch of that picture size."""

    def step_seconds(self, rows: int, pixels: int) -> float:
        """Seconds of a step."""


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What rows must have in common to share a step; `exclusive` names the one picture that may use it."""

    height: int
    width: int
    dtype: str = ""
    adapters: tuple[str, ...] = ()
    exclusive: tuple[str, int] | None = None

    @property
    def pixels(self) -> int:
        """Of one picture."""
        return self.height * self.width


@dataclass(slots=True, eq=False)
class Entry:
    """One picture. `tail_seconds` is work after the last step (decoding), `head_seconds` before the first (the text).

    `deadline` is when its caller gives up, `objective` when the operator wants it to be done; on the scheduler's clock.
    `share` is how much of the device its client gets, against 1 of others.
    """

    job_id: str
    index: int
    key: BatchKey
    rows: int
    steps_left: int
    priority: int = 0
    added: float = 0.0
    deadline: float = math.inf
    objective: float = math.inf
    head_seconds: float = 0.0
    tail_seconds: float = 0.0
    client: str = ""
    share: float = 1.0
    served_seconds: float = field(default=0.0, init=False)
    started: bool = field(default=False, init=False)

    @property
    def weight(self) -> float:
        """How much its client's turn counts while this is the client's next picture."""
        return self.share * min(1.0, PRIORITY_BASE**self.priority)

    def waited(self, now: float) -> float:
        """Seconds since it was added in which nothing of it was computed."""
        return max(0.0, now - self.added - self.served_seconds)


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of one step."""

    key: BatchKey
    entries: tuple[Entry, ...]

    @property
    def rows(self) -> int:
        """Of all entries."""
        return sum(entry.rows for entry in self.entries)
