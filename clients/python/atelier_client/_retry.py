"""When a call is tried again, and after how long. Pure: it neither sleeps nor calls."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from atelier_client._errors import AtelierError, Unavailable


@dataclass(frozen=True, slots=True)
class Retry:
    """How calls that ended UNAVAILABLE are tried again.

    Args:
        attempts: Attempts in all; 1 never tries again.
        first_seconds: Upper end of the random wait before the second attempt; it doubles from then on.
        longest_seconds: No wait is longer; a server that asks for more is not called again.
    """

    attempts: int = 3
    first_seconds: float = 0.5
    longest_seconds: float = 30.0


class Attempts:
    """The attempts and the time of one call.

    Args:
        policy: How often and how long.
        timeout: Seconds for all attempts together; None: no end.
        again: The kinds of errors after which there is another attempt.
        clock: Seconds that only grow.
        jitter: A number from 0 to 1; waits are full-jitter, so that many clients do not come back at once.
    """

    def __init__(
        self,
        policy: Retry,
        timeout: float | None,
        *,
        again: tuple[type[AtelierError], ...] = (Unavailable,),
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._again = again
        self._clock = clock
        self._jitter = jitter
        self._end = None if timeout is None else clock() + timeout
        self._failed = 0

    def remaining(self) -> float | None:
        """Seconds that are left for the next attempt; None: no end."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def wait_after(self, error: AtelierError) -> float | None:
        """Seconds to wait before the next attempt; None: the error is final."""
        self._failed += 1
        if not isinstance(error, self._again) or self._failed >= self._policy.attempts:
            return None
        asked, longest = error.retry_after or 0.0, self._policy.longest_seconds
        # The exponent ends where the wait has long reached its limit; a float would overflow.
        backoff = self._policy.first_seconds * 2.0 ** min(self._failed - 1, 30) * self._jitter()
        wait = min(asked + backoff, longest)
        left = self.remaining()
        if asked > longest or (left is not None and wait >= left):
            return None
        return wait
