"""What is spent at a paid service, and the limits on it. Amounts are US dollars, estimated by configured prices."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atelier_server.errors import ResourceExhausted

_DAY_SECONDS = 86_400


class Ledger:
    """Holds what calls under way may cost, so that calls side by side keep the day's limit together.

    Args:
        per_call: Most for one call; 0: no limit.
        per_day: Most for a UTC day; 0: no limit. Counted since the ledger was made.
        clock: Seconds since the epoch.

    `spent` is what was spent since the ledger was made; it never falls.
    """

    def __init__(self, per_call: float, per_day: float, clock: Callable[[], float] = time.time) -> None:
        self.per_call = per_call
        self.per_day = per_day
        self.spent = 0.0
        self._clock = clock
        self._day = self._today()
        self._spent_today = self._held = 0.0

    @property
    def left_today(self) -> float:
        """What may be spent today beside what is held; infinity without a limit."""
        self._turn()
        return self.per_day - self._spent_today - self._held if self.per_day else float("inf")

    @contextmanager
    def hold(self, estimate: float) -> Iterator["Hold"]:
        """Keeps what a call may cost for the time of the block; what is released of it counts only if it was spent.

        Raises:
            ResourceExhausted: The call would cost too much.
        """
        self._check(estimate)
        held = Hold(self, estimate)
        self._held += estimate
        try:
            yield held
        finally:
            held.release(held.left)

    def spend(self, cost: float) -> None:
        """Counts a request that was billed, or may have been."""
        self._turn()
        self._spent_today += cost
        self.spent += cost

    def _check(self, estimate: float) -> None:
        if self.per_call and estimate > self.per_call:
            raise ResourceExhausted(
                f"the call would cost about ${estimate:.2f}, and ${self.per_call:.2f} is the most for one call; "
                "ask for fewer or smaller pictures",
                reason="COST_LIMIT",
                field="num_images",
            )
        if estimate > self.left_today:
            raise ResourceExhausted(
                f"the server's limit of ${self.per_day:.2f} a day for paid pictures is reached; a local model has none",
                reason="SPEND_LIMIT",
                retry_after_seconds=_DAY_SECONDS - self._clock() % _DAY_SECONDS,
            )

    def _turn(self) -> None:
        if self._day != self._today():
            self._day, self._spent_today = self._today(), 0.0

    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)


class Hold:
    """What one call may still cost: `left`."""

    def __init__(self, ledger: Ledger, amount: float) -> None:
        self._ledger = ledger
        self.left = amount

    def release(self, amount: float) -> None:
        """Lets go of a part, because it was spent or will not be."""
        amount = min(amount, self.left)
        self.left -= amount
        self._ledger._held -= amount
