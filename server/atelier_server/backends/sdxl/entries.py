"""What the step scheduler schedules: pictures, what they must have in common to share a step, and what a step costs."""

import math
from collections.abc import Iterator
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

    `rows` are those of its next step; `later` tells when they change: with so many steps left they become so many, the
    first change first. A step is one computation of the UNet: denoising steps that need none do not count.

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
    later: tuple[tuple[int, int], ...] = ()
    served_seconds: float = field(default=0.0, init=False)
    started: bool = field(default=False, init=False)

    @property
    def weight(self) -> float:
        """How much its client's turn counts while this is the client's next picture."""
        return self.share * min(1.0, PRIORITY_BASE**self.priority)

    @property
    def steps_alike(self) -> int:
        """Steps until its rows change, or it ends."""
        return self.steps_left - (self.later[0][0] if self.later else 0)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """What is left of it, as (steps, rows of each)."""
        begins = [(self.steps_left, self.rows), *self.later]
        ends = [left for left, _ in self.later]
        for (begin, rows), end in zip(begins, [*ends, 0], strict=True):
            yield begin - end, rows

    def advance(self, steps: int) -> None:
        """So many steps are done."""
        self.steps_left -= steps
        while self.later and self.steps_left <= self.later[0][0]:
            self.rows, self.later = self.later[0][1], self.later[1:]

    def waited(self, now: float) -> float:
        """Seconds since it was added in which nothing of it was computed."""
        return max(0.0, now - self.added - self.served_seconds)


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of one step, and the rows that all of them had then."""

    key: BatchKey
    entries: tuple[Entry, ...]
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", sum(entry.rows for entry in self.entries))
