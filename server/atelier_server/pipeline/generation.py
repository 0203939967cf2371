"""One call for pictures: its view of the computation that serves it."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.computation import Computation
from atelier_server.pipeline.event_log import Numbered
from atelier_server.types import Completed, Event, GenerateRequest


class Generation:
    """A call and the computation it reads.

    Args:
        joined: Whether another call began the computation.
    """

    def __init__(
        self, request: GenerateRequest, request_id: str, caller: Caller, computation: Computation, *, joined: bool
    ) -> None:
        self.request = request
        self.request_id = request_id
        self._caller = caller
        self._computation = computation
        self._joined = joined
        self._released = False

    async def read(self, after: int = 0) -> AsyncGenerator[Numbered, None]:
        """Yields the events with numbers above `after`; Completed tells this call's own time and metadata.

        Raises:
            AtelierError: The work failed.
        """
        async with aclosing(self._computation.log.read(after)) as entries:
            async for entry in entries:
                yield Numbered(entry.sequence, self._own(entry.event))

    def cancel(self) -> None:
        """This call wants no more. The work goes on for others who read it."""
        if not self._released:
            self._released = True
            self._computation.release()

    async def wait(self) -> None:
        """Waits until the computation has ended, however it did."""
        await self._computation.wait()

    def _own(self, event: Event) -> Event:
        if not isinstance(event, Completed):
            return event
        cached = self._joined or self._computation.from_cache or self._computation.told_end
        self._computation.told_end |= not self._joined  # work is one call's; who asks for it again gets it from there
        return replace(
            event,
            generation_time_ms=self._caller.elapsed_ms(),
            cached=cached,
            usage=None if cached else event.usage,
            metadata=self.request.metadata,
            timestamp=time.time(),
        )
