"""The events of one job as they come from its runner, until somebody reads them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from atelier_server.backends.base import JobDone, JobEvent, JobFailed, JobStep, JobTensors


def is_last(event: JobEvent) -> bool:
    """Whether nothing follows in a job."""
    return isinstance(event, JobDone | JobTensors | JobFailed)


class JobStream:
    """Events up to and including the last one; made and used in one event loop.

    Args:
        capacity: Unread events beyond which older steps of the same picture are dropped.
    """

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._unread: deque[JobEvent] = deque()
        self._wakeup = asyncio.Event()

    def put(self, event: JobEvent) -> None:
        """Adds an event; of a slow reader's steps only the newest of each picture stay."""
        if len(self._unread) >= self._capacity and isinstance(event, JobStep):
            self._drop_steps_of(event.image_index)
        self._unread.append(event)
        self._wakeup.set()

    async def events(self) -> AsyncGenerator[JobEvent, None]:
        """Yields until the job's last event.

        Raises:
            AtelierError: It failed.
        """
        while True:
            while self._unread:
                event = self._unread.popleft()
                if isinstance(event, JobFailed):
                    raise event.error
                yield event
                if is_last(event):
                    return
            self._wakeup.clear()
            await self._wakeup.wait()

    def _drop_steps_of(self, image_index: int) -> None:
        self._unread = deque(
            event for event in self._unread if not (isinstance(event, JobStep) and event.image_index == image_index)
        )
