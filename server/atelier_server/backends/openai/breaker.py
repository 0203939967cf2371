"""Stops sending requests to a service that fails, and tries it again after a while. It knows no clock of its own."""

import time
from collections.abc import Callable

from atelier_server.errors import Unavailable


class CircuitBreaker:
    """Closed, open for a while, then half open: one trial decides.

    Args:
        failures: So many in a row open it.
        seconds: How long it stays open.
        clock: Seconds that never go back.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._trying = False

    @property
    def open_seconds(self) -> float:
        """How long no request may go out; 0 while one may."""
        if self._opened is None:
            return 0.0
        left = self._opened + self._seconds - self._clock()
        return max(left, 1e-3) if left > 0 or self._trying else 0.0

    def enter(self) -> None:
        """Lets a request through; its end must be told.

        Raises:
            Unavailable: It is open.
        """
        if self.open_seconds > 0:
            raise Unavailable(
                f"the image service failed {self._failures} times in a row and is left alone for a while",
                reason="UPSTREAM_DOWN",
                retry_after_seconds=self.open_seconds,
            )
        self._trying = self._opened is not None

    def succeeded(self) -> None:
        """The service answered, be it with a refusal."""
        self._failures, self._opened, self._trying = 0, None, False

    def failed(self) -> None:
        """The service failed."""
        self._failures += 1
        if self._failures >= self._most:
            self._opened = self._clock()
        self._trying = False

    def abandoned(self) -> None:
        """Nobody knows how the request would have ended: its caller left."""
        self._trying = False
