"""Calls by their request_id, so that a caller who lost its stream finds its work again instead of paying for it twice.

A request_id belongs to the caller's token. Finished work is kept for a while, within bounds.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from atelier_server.errors import AlreadyExists
from atelier_server.pipeline.computation import Computation
from atelier_server.pipeline.event_log import preview_bytes
from atelier_server.types import ImageChunk


@dataclass(slots=True)
class _Call:
    content: str
    computation: Computation
    expires: float = 0.0
    size_bytes: int = 0


class Calls:
    """Computations by (client, request_id).

    Args:
        keep_seconds: How long finished work can be resumed.
        capacity_bytes: Bytes of pictures and previews that finished work may hold; the oldest is forgotten first.
        clock: Seconds that never go back.
    """

    def __init__(self, keep_seconds: float, capacity_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_seconds = keep_seconds
        self._capacity = capacity_bytes
        self._clock = clock
        self._running: dict[tuple[str, str], _Call] = {}
        self._finished: OrderedDict[tuple[str, str], _Call] = OrderedDict()
        self._finished_bytes = 0

    def find(self, client: str, request_id: str, content: str) -> Computation | None:
        """The work that this id began and that runs or is kept; None when the id is free.

        Raises:
            AlreadyExists: The id was used for another content.
        """
        self._forget_expired()
        key = (client, request_id)
        call = self._running.get(key) or self._finished.get(key)
        if call is None or call.computation.log.error is not None:  # failed work may take a moment to end
            return None
        if call.content != content:
            raise AlreadyExists(
                f"request_id {request_id} was used for another request; take a new one", field="request_id"
            )
        return call.computation

    def add(self, client: str, request_id: str, content: str, computation: Computation) -> None:
        """Notes running work; it is kept when it succeeds and forgotten when it fails."""
        key = (client, request_id)
        self._running[key] = _Call(content, computation)
        computation.when_done(lambda: self._end(key, computation))

    def _end(self, key: tuple[str, str], computation: Computation) -> None:
        call = self._running.get(key)
        if call is None or call.computation is not computation:  # the id has begun new work since
            return
        del self._running[key]
        if computation.log.error is not None or not computation.log.ended:
            return
        call.expires = self._clock() + self._keep_seconds
        call.size_bytes = sum(
            len(event.data) if isinstance(event, ImageChunk) else preview_bytes(event)
            for event in call.computation.log.events()
        )
        self._finished[key] = call
        self._finished_bytes += call.size_bytes
        self._forget_expired()

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._finished:
            key, oldest = next(iter(self._finished.items()))
            if oldest.expires > now and self._finished_bytes <= self._capacity:
                break
            del self._finished[key]
            self._finished_bytes -= oldest.size_bytes
