"""How much a client may ask for: buckets that fill with time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from atelier_server.errors import ResourceExhausted


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use; None: no limit.

    `requests_per_minute` counts requests, each of a stream too. `pixel_steps` may be used in `window_seconds`: width ×
    height × steps of every picture that is computed. `share` is its part of a device that others want too, against
    their 1.
    """

    requests_per_minute: float | None = None
    concurrent_calls: int | None = None
    pixel_steps: float | None = None
    window_seconds: float = 3600.0
    share: float = 1.0


class Bucket:
    """A quantity that is used at once and comes back evenly.

    Args:
        capacity: Most that can be there.
        per_second: How fast it comes back.
        clock: Seconds that never go back.
    """

    def __init__(self, capacity: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity, self.per_second = capacity, per_second
        self._clock = clock
        self._left, self._at = capacity, clock()

    @property
    def left(self) -> float:
        """What is there now."""
        now = self._clock()
        self._left = min(self.capacity, self._left + (now - self._at) * self.per_second)
        self._at = now
        return self._left

    def take(self, amount: float) -> float:
        """Takes an amount, or nothing. More than the capacity is lent once the bucket is full.

        Returns:
            0, or the seconds until it could be taken.
        """
        lacking = min(amount, self.capacity) - self.left
        if lacking > 0:
            return lacking / self.per_second
        self._left -= amount
        return 0.0

    def give_back(self, amount: float) -> None:
        """Undoes a part of what was taken."""
        self._left = min(self.capacity, self.left + amount)


class Account:
    """What one client used. Its methods may be called from any thread.

    Args:
        name: The token's, or what stands for a caller without one.
        limits: What it may use.
        clock: Seconds that never go back.
    """

    def __init__(self, name: str, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = Lock()
        self._calls = 0
        self.limits = Limits()
        self._requests: Bucket | None = None
        self._pixel_steps: Bucket | None = None
        self.change(limits or Limits())

    @property
    def share(self) -> float:
        """Its part of a device that others want too."""
        return self.limits.share

    def change(self, limits: Limits) -> None:
        """New limits; what was used of one that stays the same counts on."""
        with self._lock:
            old, self.limits = self.limits, limits
            if self._requests is None or old.requests_per_minute != limits.requests_per_minute:
                rate = limits.requests_per_minute
                self._requests = None if rate is None else Bucket(max(1.0, rate), rate / 60.0, self._clock)
            budgets = (old.pixel_steps, old.window_seconds), (limits.pixel_steps, limits.window_seconds)
            if self._pixel_steps is None or budgets[0] != budgets[1]:
                budget = limits.pixel_steps
                per_second = (budget or 0.0) / limits.window_seconds
                self._pixel_steps = None if budget is None else Bucket(budget, per_second, self._clock)

    def request(self) -> None:
        """Counts a request.

        Raises:
            ResourceExhausted: Too many in the last minute.
        """
        with self._lock:
            wait = self._requests.take(1.0) if self._requests else 0.0
        if wait:
            self._refuse("requests_per_minute", f"{self.limits.requests_per_minute:g} requests a minute", wait)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call for the time of the block.

        Raises:
            ResourceExhausted: Too many are under way.
        """
        with self._lock:
            most = self.limits.concurrent_calls
            full = most is not None and self._calls >= most
            self._calls += not full
        if full:
            self._refuse("concurrent_calls", f"{most} calls at once", 1.0)
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def charge(self, pixel_steps: float) -> None:
        """Takes work off the budget before it is done. A picture larger than the whole budget needs it full.

        Raises:
            ResourceExhausted: The budget does not have it now.
        """
        with self._lock:
            wait = self._pixel_steps.take(pixel_steps) if self._pixel_steps else 0.0
        if wait:
            budget, window = self.limits.pixel_steps, self.limits.window_seconds
            self._refuse("pixel_steps", f"{budget:g} pixel-steps in {window:g} s", wait)

    def give_back(self, pixel_steps: float) -> None:
        """Returns what was charged and not computed."""
        with self._lock:
            if self._pixel_steps is not None:
                self._pixel_steps.give_back(pixel_steps)

    def _refuse(self, quota: str, allowed: str, wait_seconds: float) -> None:
        raise ResourceExhausted(
            f"the quota of {self.name} is {allowed}, and it is used up; try again in {wait_seconds:.1f} s",
            reason="QUOTA_EXCEEDED",
            retry_after_seconds=wait_seconds,
            metadata={"quota": quota, "client": self.name},
        )


NOBODY = Account("")
"""Of work that no caller asked for, and of callers in the same process."""
