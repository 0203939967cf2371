"""What is spent at a paid service, and the limits on it. Amounts are US dollars, estimated by configured prices."""

import time
from collections.abc import Callable

from atelier_server.errors import ResourceExhausted

_DAY_SECONDS = 86_400


class Ledger:
    """Reserves a request's estimate before it is sent, so that requests side by side keep the limit together.

    Args:
        per_call: Most for one call; 0: no limit.
        per_day: Most for a UTC day; 0: no limit. Counted since the ledger was made.
        clock: Seconds since the epoch.
    """

    def __init__(self, per_call: float, per_day: float, clock: Callable[[], float] = time.time) -> None:
        self.per_call = per_call
        self.per_day = per_day
        self.spent = 0.0
        self._clock = clock
        self._day = self._today()
        self._spent_today = 0.0

    @property
    def left_today(self) -> float:
        """What may be spent today; infinity without a limit."""
        self._turn()
        return self.per_day - self._spent_today if self.per_day else float("inf")

    def check(self, estimate: float) -> None:
        """Refuses a call that would cost too much.

        Raises:
            ResourceExhausted: It is over one of the limits.
        """
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

    def reserve(self, estimate: float) -> None:
        """Counts a request that is about to be sent."""
        self._turn()
        self._spent_today += estimate
        self.spent += estimate

    def settle(self, estimate: float, cost: float) -> None:
        """Replaces the estimate of a request by what it cost."""
        self._spent_today += cost - estimate
        self.spent += cost - estimate

    def _turn(self) -> None:
        if self._day != self._today():
            self._day, self._spent_today = self._today(), 0.0

    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)
