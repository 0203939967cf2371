"""The way from the engine thread into the event loop: any number of job streams, at most one wakeup pending."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from threading import Lock

from atelier_server.backends.base import JobDone, JobEvent, JobFailed, JobStep, JobTensors


class Outbox:
    """Carries events from any thread into the event loop.

    Args:
        loop: Where the streams are read.
        capacity: Unread events of a stream beyond which older steps of the same picture are dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int = 64) -> None:
        self._loop = loop
        self._capacity = capacity
        self._lock = Lock()
        self._events: list[tuple[JobStream, JobEvent]] = []
        self._waking = False

    def stream(self) -> "JobStream":
        """A new stream for one job."""
        return JobStream(self, self._capacity)

    def publish(self, stream: "JobStream", event: JobEvent) -> None:
        """Sends an event to a stream's reader; any thread may call it."""
        with self._lock:
            self._events.append((stream, event))
            if self._waking:
                return
            self._waking = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed, so nobody reads any more
            with self._lock:
                self._events.clear()
                self._waking = False

    def _deliver(self) -> None:
        with self._lock:
            events, self._events = self._events, []
            self._waking = False
        for stream, event in events:
            stream.put(event)


class JobStream:
    """Events of one job, up to and including its last one. `publish` is for any thread, the rest for the loop."""

    def __init__(self, outbox: Outbox, capacity: int) -> None:
        self._outbox = outbox
        self._capacity = capacity
        self._unread: deque[JobEvent] = deque()
        self._wakeup = asyncio.Event()

    def publish(self, event: JobEvent) -> None:
        """Sends an event to the reader."""
        self._outbox.publish(self, event)

    def put(self, event: JobEvent) -> None:
        """Adds an event on the loop; of a slow reader's steps only the newest of each picture stay."""
        if len(self._unread) >= self._capacity and isinstance(event, JobStep):
            self._drop_steps_of(event.image_index)
        self._unread.append(event)
        self._wakeup.set()

    async def events(self) -> AsyncIterator[JobEvent]:
        """Yields until JobDone, JobTensors or JobFailed, which is yielded too."""
        while True:
            while self._unread:
                event = self._unread.popleft()
                yield event
                if isinstance(event, JobDone | JobTensors | JobFailed):
                    return
            self._wakeup.clear()
            await self._wakeup.wait()

    def _drop_steps_of(self, image_index: int) -> None:
        self._unread = deque(
            event for event in self._unread if not (isinstance(event, JobStep) and event.image_index == image_index)
        )
