"""The gate that new generations, inferences and judgements pass and that closes when the server drains."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from atelier_server.errors import Unavailable


class Drain:
    """Counts generations and their like in flight and refuses new ones once closed. Lives on one event loop.

    Args:
        retry_after_seconds: What refused callers are told; by then another server should answer.
    """

    def __init__(self, retry_after_seconds: float = 1.0) -> None:
        self._retry_after_seconds = retry_after_seconds
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False

    @property
    def in_flight(self) -> int:
        """Generations that are inside."""
        return self._in_flight

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Lets a generation in for the time of the block.

        Raises:
            Unavailable: The server is shutting down.
        """
        if self.closed:
            raise Unavailable(
                "the server is shutting down; call again, it or another one will answer",
                reason="DRAINING",
                retry_after_seconds=self._retry_after_seconds,
            )
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def close(self) -> None:
        """Refuses new generations from now on."""
        self.closed = True

    async def idle(self) -> None:
        """Waits until no generation is inside."""
        await self._idle.wait()
