"""Dynamic batching by Triton's fields, as pure Python: no onnxruntime, no clock of its own.

Items of one key (graph and shapes without the batch axis) are run together, oldest key first. A batch leaves when it
is full, when it has a preferred size, or when its oldest item has waited max_queue_delay_microseconds. Items that have
waited longer than the queue policy allows are refused, or let all others go first (timeout_action DELAY). Where there
are priority levels, items of a lower number go first, whenever they came.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from atelier_server.backends.onnx.queue_policy import BatchPolicy
from atelier_server.errors import ResourceExhausted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Something that waits; `rows` is its size on the batch axis.

    `expires` is when nobody wants its result any more, `times_out` when the queue policy acts; both may be infinite.
    `level` is its priority, 1 the highest; 0 where there are none.
    """

    item_id: str
    key: Hashable
    rows: int
    arrived: float
    expires: float
    payload: T
    times_out: float = math.inf
    level: int = 0


class Batcher(Generic[T]):
    """Items that wait, by level and then by arrival; those that were delayed come after all others of their level."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._waiting: dict[int, OrderedDict[str, Item[T]]] = {}
        self._delayed: dict[int, OrderedDict[str, Item[T]]] = {}

    def __len__(self) -> int:
        return sum(self._length(level) for level in self._levels())

    def add(self, item: Item[T]) -> None:
        """Lets an item wait.

        Raises:
            ResourceExhausted: The queue of its level is full.
        """
        if self._length(item.level) >= self._policy.of_level(item.level).max_queue_size:
            raise ResourceExhausted(
                "too many calls wait for this model; try again later", reason="QUEUE_FULL", retry_after_seconds=1.0
            )
        self._waiting.setdefault(item.level, OrderedDict())[item.item_id] = item

    def remove(self, item_id: str) -> None:
        """Forgets an item; unknown ids are ignored."""
        for queue in (*self._waiting.values(), *self._delayed.values()):
            queue.pop(item_id, None)

    def expired(self, now: float) -> list[Item[T]]:
        """Removes and returns what waited too long; delays what the policy only delays."""
        late = [item for item in self._queue() if item.expires <= now]
        for level, queue in self._waiting.items():
            timed_out = [item for item in queue.values() if item.times_out <= now < item.expires]
            if self._policy.of_level(level).delays:
                for item in timed_out:
                    self._delayed.setdefault(level, OrderedDict())[item.item_id] = queue.pop(item.item_id)
            else:
                late += timed_out
        for item in late:
            self.remove(item.item_id)
        return late

    def take(self, now: float) -> list[Item[T]]:
        """Removes and returns the next batch; empty when none should leave yet."""
        oldest = next(self._queue(), None)
        if oldest is None:
            return []
        batch, rows = self._gather(oldest)
        full = rows >= self._policy.max_rows or rows in self._policy.preferred_rows
        if not full and now < oldest.arrived + self._policy.delay_seconds:
            return []
        for item in batch:
            self.remove(item.item_id)
        return batch

    def next_event(self, now: float) -> float | None:
        """Seconds until `take` or `expired` may give something; None while nothing waits."""
        oldest = next(self._queue(), None)
        if oldest is None:
            return None
        times_out = (item.times_out for queue in self._waiting.values() for item in queue.values())
        expires = (item.expires for item in self._queue())
        soonest = min(oldest.arrived + self._policy.delay_seconds, *times_out, *expires)
        return max(0.0, soonest - now)

    def _levels(self) -> list[int]:
        return sorted(self._waiting)

    def _length(self, level: int) -> int:
        return len(self._waiting.get(level, ())) + len(self._delayed.get(level, ()))

    def _queue(self) -> Iterator[Item[T]]:
        for level in self._levels():
            yield from self._waiting[level].values()
            yield from self._delayed.get(level, OrderedDict()).values()

    def _gather(self, oldest: Item[T]) -> tuple[list[Item[T]], int]:
        """The largest batch that begins with the oldest item, cut to a preferred size where one fits."""
        batch, rows = [oldest], oldest.rows
        best = int(rows in self._policy.preferred_rows)
        for item in self._queue():
            if item is oldest or item.key != oldest.key:
                continue
            if rows + item.rows > self._policy.max_rows:
                break
            batch.append(item)
            rows += item.rows
            if rows in self._policy.preferred_rows:
                best = len(batch)
        if best and rows < self._policy.max_rows:
            batch = batch[:best]
            rows = sum(item.rows for item in batch)
        return batch, rows
