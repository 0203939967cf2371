"""One piece of work and all who want its result: a log, a task, a heartbeat, and a count of readers.

Calls for the same pictures, resumed calls and the cache are readers of one log. The work ends when nobody reads it any
more, unless it is to be kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from atelier_server.errors import Cancelled
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.event_log import EventLog
from atelier_server.telemetry.tracing import current_headers
from atelier_server.types import Event, ImageChunk, Priority, Progress, Queued, Started

Work = Callable[["Computation"], Awaitable[None]]


class Computation:
    """Work that runs for one or more calls.

    Args:
        caller: The call that began it; its deadline is the work's.
        log_capacity: Events kept before replaced ones are dropped.
        priority: Of the work, while it waits.

    `trace` is where its spans are: those of the call that began it. `sent_bytes` tells whether readers may have pieces
    of pictures, so that nothing can be computed anew; `finished_picture` whether one was made at all, though its gate
    may still hold it back; `told_end` whether a call that it belongs to has heard its Completed.
    """

    def __init__(self, caller: Caller, log_capacity: int, priority: Priority = Priority.NORMAL) -> None:
        self.caller = caller
        self.priority = priority
        self.log = EventLog(log_capacity)
        self.trace = current_headers()
        self.from_cache = False
        self.sent_bytes = self.finished_picture = self.told_end = False
        self._told_started: tuple[str, str] | None = None
        self._readers = 0
        self._kept = False
        self._task: asyncio.Task[None] | None = None
        self._last_sign: Event = Queued(0)
        self._last_emitted = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether it waits no longer."""
        return self._told_started is not None

    def emit(self, event: Event) -> None:
        """Appends an event to the log, unless the work is over."""
        if self.log.ended:
            return
        if isinstance(event, Queued | Progress):
            self._last_sign = event
            self.finished_picture |= isinstance(event, Progress) and event.step == event.total_steps
        elif isinstance(event, ImageChunk):
            self.sent_bytes = True
        elif isinstance(event, Started):
            self._last_sign = Progress(0, 0, event.num_inference_steps)  # from now on it does not wait any more
            model = (event.model, event.model_version)
            if model == self._told_started:  # work that is done again starts again, which is no news
                return
            self._told_started = model
        self._last_emitted = time.monotonic()
        self.log.append(event)

    def run(self, work: Work, heartbeat_seconds: float) -> None:
        """Starts the work beside a heartbeat that repeats the last Queued or Progress after a silence.

        Between Started and the first step it tells of step 0.
        """
        self._task = asyncio.create_task(self._run(work, heartbeat_seconds))

    def when_done(self, callback: Callable[[], None]) -> None:
        """Calls back after the work has ended, however it did."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: callback())

    def attach(self, *, keep: bool) -> None:
        """Adds a reader; `keep` lets the work go on when all readers have left."""
        self._readers += 1
        self._kept = self._kept or keep

    def release(self) -> None:
        """A reader leaves. The last one ends the work at its next step, unless all that is left is to keep the result.

        The log ends at once, since a task that is cancelled before it started runs no handler.
        """
        self._readers -= 1
        if self._readers > 0 or self._kept or self.log.ended:
            return
        self.log.fail(Cancelled("the call was cancelled"))
        if self._task is not None:
            self._task.cancel()

    async def wait(self) -> None:
        """Waits until the work has ended, however it did."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, work: Work, heartbeat_seconds: float) -> None:
        heartbeat = asyncio.create_task(self._beat(heartbeat_seconds))
        try:
            await work(self)
        finally:
            heartbeat.cancel()
            self.log.fail(Cancelled("the work was cut off"))  # readers must not wait for what nobody does any more

    async def _beat(self, seconds: float) -> None:
        while not self.log.ended:
            silence = time.monotonic() - self._last_emitted
            if silence >= seconds:
                self.emit(self._last_sign)
                silence = 0.0
            await asyncio.sleep(seconds - silence)
