"""How many requests are under way at once, who waits, and how long a picture takes."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_GUESS_SECONDS = 20.0
"""How long a picture takes before any was made."""
CROWD = 4
"""So many times what one client may have waiting may wait in all."""
_NEWEST_WEIGHT = 0.3


class Places:
    """A bounded number of places. Clients take turns: who had fewer of them goes first; a client's own, in order.

    Args:
        count: Places.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._had: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self.seconds_per_picture = FIRST_GUESS_SECONDS

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._held.total()

    def is_full(self, client: str, most: int) -> bool:
        """Whether none may wait: a client has `most` requests waiting, or all together have CROWD times as many."""
        if self.running < self._count and not self.waiting:
            return False
        return len(self._queues.get(client, ())) >= most or self.waiting >= CROWD * most

    @asynccontextmanager
    async def one(self, client: str = "", share: float = 1.0) -> AsyncIterator[None]:
        """Waits for a place, and holds it for the time of the block.

        Args:
            client: Whose request it is.
            share: How many turns it gets against 1 of others.
        """
        self._come(client)
        if self.running >= self._count or self.waiting:
            await self._wait(client)
        else:
            self._held[client] += 1
        self._had[client] += 1.0 / share
        started = time.monotonic()
        try:
            yield
            self._learn(time.monotonic() - started)
        finally:
            self._leave(client)

    @property
    def wait_seconds(self) -> float:
        """Estimated wait of who comes now."""
        ahead = self.waiting + self.running - self._count + 1
        return max(0, ahead) * self.seconds_per_picture / self._count

    def _come(self, client: str) -> None:
        """Who comes anew begins where those are who are there: nobody saves turns up while away."""
        present = {*self._queues, *self._held}
        if client not in present:
            least = min((self._had[other] for other in present), default=0.0)
            self._had = {other: self._had[other] for other in present} | {
                client: max(least, self._had.get(client, 0.0))
            }

    async def _wait(self, client: str) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given a place and left at the same moment
                self._leave(client)
            else:
                self._forget(client, place)
            raise

    def _forget(self, client: str, place: asyncio.Future[None]) -> None:
        self._queues[client].remove(place)
        if not self._queues[client]:
            del self._queues[client]

    def _leave(self, client: str) -> None:
        """Gives a place to whose turn it is."""
        self._held[client] -= 1
        self._held += Counter()  # forgets those who hold none
        if self._queues:
            turn = min(self._queues, key=lambda name: self._had[name])
            place = self._queues[turn][0]
            self._forget(turn, place)
            self._held[turn] += 1
            place.set_result(None)

    def _learn(self, seconds: float) -> None:
        self.seconds_per_picture += _NEWEST_WEIGHT * (seconds - self.seconds_per_picture)
