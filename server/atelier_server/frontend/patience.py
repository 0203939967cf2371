"""Bounds how long a client may leave a message unread, with one timer a stream and not one a message."""

import asyncio
from types import TracebackType
from typing import Self

from atelier_server.errors import Cancelled


class Patience:
    """A block whose task is broken off when one of its waits takes too long.

    Args:
        seconds: Of one wait.

    Raises:
        Cancelled: At the end of the block, SLOW_READER.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since: float | None = None
        self._lost = False

    def begin(self) -> None:
        """It waits from now on."""
        self._since = self._loop.time()

    def end(self) -> None:
        """It waits no longer."""
        self._since = None

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._lost and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Cancelled(f"nothing was read for {self._seconds:g} s", reason="SLOW_READER") from None

    def _look(self) -> None:
        waited = 0.0 if self._since is None else self._loop.time() - self._since
        if waited < self._seconds:
            self._timer = self._loop.call_later(self._seconds - waited, self._look)
        elif self._task is not None:
            self._lost = True
            self._task.cancel()
