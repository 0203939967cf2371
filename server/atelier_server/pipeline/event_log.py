"""One append-only, bounded log of events a generation, and any number of readers of it.

Streaming, heartbeats, slow readers, resume, coalescing and the cache all read this one log. Events are numbered from 1.
When the log is full, the oldest Progress that a newer one of the same picture replaces is dropped, so a slow reader
sees a gap in the numbers, but never loses a chunk, a completed picture or the end. It lives on one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from atelier_server.errors import AtelierError
from atelier_server.types import Completed, Event, Progress, Queued

MOST_PREVIEW_BYTES = 4 * 1024 * 1024
"""Of one log. A preview may have a megabyte, and a log hundreds of them."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event and its number in the log."""

    sequence: int
    event: Event


def preview_bytes(event: Event) -> int:
    """Of the small picture that an event carries."""
    return len(event.preview.data) if isinstance(event, Progress) and event.preview is not None else 0


class EventLog:
    """Events of one generation.

    Args:
        capacity: Events kept before replaced Progress and Queued events are dropped; previews that take more than
            MOST_PREVIEW_BYTES have the same effect.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._events: list[Numbered] = []
        self._capacity = capacity
        self._preview_bytes = 0
        self._next = 1
        self._error: AtelierError | None = None
        self._ended = False
        self._wakeups: set[asyncio.Event] = set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def error(self) -> AtelierError | None:
        """Why the generation failed, if it did."""
        return self._error

    @property
    def last_sequence(self) -> int:
        """Number of the newest event, 0 while empty."""
        return self._next - 1

    def append(self, event: Event) -> None:
        """Adds an event; a Completed ends the log."""
        if self._ended:
            raise RuntimeError("the log has ended")
        self._events.append(Numbered(self._next, event))
        self._next += 1
        self._ended = isinstance(event, Completed)
        self._preview_bytes += preview_bytes(event)
        if len(self._events) > self._capacity or self._preview_bytes > MOST_PREVIEW_BYTES:
            self._drop_replaced()
        self._wake()

    def fail(self, error: AtelierError) -> None:
        """Ends the log with an error, which every reader raises after the events."""
        if not self._ended:
            self._error = error
            self._ended = True
            self._wake()

    def events(self) -> list[Event]:
        """What is held now."""
        return [entry.event for entry in self._events]

    async def read(self, after: int = 0) -> AsyncGenerator[Numbered, None]:
        """Yields events with numbers above `after` until the log ends.

        Raises:
            AtelierError: The generation failed.
        """
        wakeup = asyncio.Event()
        self._wakeups.add(wakeup)
        try:
            while True:
                wakeup.clear()
                for entry in self._after(after):
                    after = entry.sequence
                    yield entry
                    if wakeup.is_set():  # the list changed while the reader was away
                        break
                else:
                    if self._ended:
                        break
                    await wakeup.wait()
        finally:
            self._wakeups.discard(wakeup)
        if self._error is not None:
            raise self._error

    def _after(self, sequence: int) -> list[Numbered]:
        low, high = 0, len(self._events)
        while low < high:
            middle = (low + high) // 2
            if self._events[middle].sequence <= sequence:
                low = middle + 1
            else:
                high = middle
        return self._events[low:]

    def _drop_replaced(self) -> None:
        newest: set[tuple[type[Event], int]] = set()
        kept: list[Numbered] = []
        for entry in reversed(self._events):
            if isinstance(entry.event, Queued | Progress):
                index = entry.event.image_index if isinstance(entry.event, Progress) else 0
                if (type(entry.event), index) in newest:
                    continue
                newest.add((type(entry.event), index))
            kept.append(entry)
        self._events = kept[::-1]
        self._preview_bytes = sum(preview_bytes(entry.event) for entry in kept)

    def _wake(self) -> None:
        for wakeup in self._wakeups:
            wakeup.set()
