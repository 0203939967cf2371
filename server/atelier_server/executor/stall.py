"""Tells when a runner's model hangs in a step, by how long its steps took until now."""

import time
from collections.abc import Callable, Mapping

from atelier_server.executor.limits import Limits


class StallWatch:
    """Follows one READY runner, from its beginning on.

    Only time that was watched counts. When the whole machine was paused, nobody asked, and the step stood still too.

    Args:
        limits: How long a step may take.
        clock: Monotonic seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._longest_gap = limits.heartbeat_seconds + limits.silence_seconds  # between two answers, if nobody paused
        self._last = clock()
        self._watched = 0.0

    def overdue(self, facts: Mapping[str, float]) -> float | None:
        """Takes in the facts of a new answer; gives back the limit that the present step has passed, None if none."""
        now = self._clock()
        gap, self._last = min(now - self._last, self._longest_gap), now
        self._watched = min(facts.get("stalled_seconds", 0.0), self._watched + gap)
        limit = self._limits.step_seconds(facts.get("usual_seconds", 0.0))
        return limit if self._watched > limit else None
