"""The generations of the last while, and what they say about the service objectives."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SLO_MS = 30_000.0
"""The 95th percentile stays under it."""
QUALITY_TARGET = 7.5
BRAND_TARGET = 0.85
MAX_ENTRIES = 20_000
"""Bounds the memory, and the time a summary takes (some ms)."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A generation that succeeded or failed by the server's fault; mean scores of its pictures, None without any."""

    succeeded: bool
    milliseconds: float = 0.0
    cached: bool = False
    aesthetic: float | None = None
    brand: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a window says; None where nothing in it can tell. Cached generations are in no time."""

    avg_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    avg_aesthetic: float | None
    avg_brand: float | None
    success_rate: float | None
    cache_hit_rate: float | None

    @property
    def slo_met(self) -> bool | None:
        """Whether the 95th percentile is under 30 s."""
        return None if self.p95_ms is None else self.p95_ms < SLO_MS

    @property
    def quality_met(self) -> bool | None:
        """Whether the mean aesthetic score is at least 7.5."""
        return None if self.avg_aesthetic is None else self.avg_aesthetic >= QUALITY_TARGET

    @property
    def brand_consistency_met(self) -> bool | None:
        """Whether the mean brand consistency is at least 0.85."""
        return None if self.avg_brand is None else self.avg_brand >= BRAND_TARGET


class RollingWindow:
    """Generations of the last `seconds`; `clock` counts seconds and never goes back."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._entries: deque[tuple[float, Finished]] = deque(maxlen=MAX_ENTRIES)

    def add(self, finished: Finished) -> None:
        """Adds a generation that has just finished."""
        self._entries.append((self._clock(), finished))

    def summary(self) -> Summary:
        """Sums up what is in the window now."""
        oldest = self._clock() - self.seconds
        while self._entries and self._entries[0][0] < oldest:
            self._entries.popleft()
        finished = [entry for _, entry in self._entries]
        succeeded = [entry for entry in finished if entry.succeeded]
        times = sorted(entry.milliseconds for entry in succeeded if not entry.cached)
        return Summary(
            avg_ms=mean(times),
            p50_ms=_percentile(times, 0.50),
            p95_ms=_percentile(times, 0.95),
            p99_ms=_percentile(times, 0.99),
            avg_aesthetic=mean([entry.aesthetic for entry in succeeded if entry.aesthetic is not None]),
            avg_brand=mean([entry.brand for entry in succeeded if entry.brand is not None]),
            success_rate=mean([float(entry.succeeded) for entry in finished]),
            cache_hit_rate=mean([float(entry.cached) for entry in succeeded]),
        )


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all values do not exceed (nearest rank)."""
    if not ordered:
        return None
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]
