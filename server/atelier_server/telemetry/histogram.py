"""A histogram that backends fill and that crosses the private protocol; the server shows it to Prometheus."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

STEP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""From a small model's step on a GPU to a large one's on a CPU."""
BATCH_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram at one moment: upper edges, the number in each bucket (one more than edges), and the sum of all."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Histogram:
    """Counts measurements by size. For one thread.

    Args:
        edges: Upper edges of the buckets, ascending and inclusive, as Prometheus has them.
    """

    def __init__(self, edges: Iterable[float]) -> None:
        self._edges = tuple(edges)
        self._counts = [0] * (len(self._edges) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds a measurement."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def spread(self) -> Spread:
        """How it is now."""
        return Spread(self._edges, tuple(self._counts), self._sum)
