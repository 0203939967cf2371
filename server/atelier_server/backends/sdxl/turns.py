"""Which of the entries share the next step: the order of clients and of their pictures. Pure Python, no clock.

1. One client has the turn (shares.py). A step is of a key in which that client has a picture, which takes part.
2. A client's own entries are ordered by score: the seconds they would still need alone, less a share of the seconds
   they have waited. Shortest first keeps the mean wait low, ageing lets nobody starve: the score of one who waits falls
   without end, that of a newcomer is positive. Entries of several clients alternate as their accounts would.
3. The first of them share the step. How many is read off the curve t(rows): riding together is cheap where wide batches
   are, and where they are not a short call goes ahead instead of riding in a wide, slow batch. The row cap bounds it,
   and so does fairness: others who ride along must not slow the turn's owner more than taking turns would.
4. Between keys the group with the least work for each of its pictures goes first, aged likewise.
"""

import math
from collections.abc import Collection, Iterable, Mapping

from atelier_server.backends.sdxl.entries import PRIORITY_BASE, Batch, BatchKey, Curve, Entry
from atelier_server.backends.sdxl.shares import Shares
from atelier_server.backends.sdxl.widths import bearable, best_width, fitting, least_density

AGEING = 0.25
"""Seconds of score for each second waited. Below 1, so that a job that was let in is not interrupted in turn by the one
it overtook; at 0.25 nobody waits longer than four times his own work before he is ahead of all newcomers."""
CHEAP_RIDE = 1.3
"""Others always ride along where that makes a step no slower than this."""


class Turns:
    """Orders entries by a curve and by what their clients had.

    Args:
        curve: Tells how long steps take and how wide batches may be.
        shares: What the clients had.
    """

    def __init__(self, curve: Curve, shares: Shares) -> None:
        self._curve = curve
        self.shares = shares

    def solo_seconds(self, entry: Entry) -> float:
        """Of what is left of an entry, if nothing else ran."""
        pixels = entry.key.pixels
        return sum(steps * self._curve.step_seconds(rows, pixels) for steps, rows in entry.stretches())

    def next_batch(self, entries: Collection[Entry], now: float) -> Batch:
        """The batch of the next step; there is at least one entry."""
        self.shares.forgive(max(self.solo_seconds(entry) / entry.weight for entry in entries))
        if len(entries) == 1:
            [alone] = entries
            return Batch(alone.key, (alone,))
        heads = self._heads(entries, now)
        turn = min(heads, key=lambda client: self._paid(heads[client]))
        groups: dict[BatchKey, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.key, []).append(entry)
        parts = self._parts(heads, turn)
        choices = [
            self._choose(key, mates, turn, parts, now)
            for key, mates in groups.items()
            if any(entry.client == turn for entry in mates)
        ]
        return min(choices, key=lambda choice: choice[0])[1]

    def _score(self, entry: Entry, now: float) -> float:
        return self.solo_seconds(entry) / PRIORITY_BASE**entry.priority - AGEING * entry.waited(now)

    def _paid(self, entry: Entry) -> float:
        """When its client, whose next picture it is, would have paid for it."""
        return self.shares.account(entry.client) + self.solo_seconds(entry) / entry.weight

    def _heads(self, entries: Iterable[Entry], now: float) -> dict[str, Entry]:
        """The next picture of each client."""
        heads: dict[str, tuple[float, Entry]] = {}
        for entry in entries:
            score = self._score(entry, now)
            if entry.client not in heads or score < heads[entry.client][0]:
                heads[entry.client] = score, entry
        return {client: head for client, (_, head) in heads.items()}

    def _parts(self, heads: Mapping[str, Entry], turn: str) -> float:
        """How many times slower than alone the client whose turn it is may be made.

        Those who had no more than he count fully, those who had more the less, down to nothing where they are ahead of
        him by all that his picture needs.
        """
        if len(heads) == 1:
            return 1.0
        account, needed = self.shares.account(turn), self.solo_seconds(heads[turn]) / heads[turn].weight
        parts = 0.0
        for client, head in heads.items():
            ahead = max(0.0, self.shares.account(client) - account)
            parts += head.weight * max(0.0, 1.0 - ahead / needed)
        return max(CHEAP_RIDE, parts / heads[turn].weight)

    def _order(self, entries: Iterable[Entry], now: float, turn: str | None = None) -> list[Entry]:
        """By score within a client; clients alternate by what they would have had by then. `turn` begins."""
        queues: dict[str, list[Entry]] = {}
        for entry in sorted(entries, key=lambda entry: self._score(entry, now)):
            queues.setdefault(entry.client, []).append(entry)
        if len(queues) == 1:
            return next(iter(queues.values()))
        paid: list[tuple[float, int, Entry]] = []
        for client, queue in queues.items():
            account = self.shares.account(client)
            for place, entry in enumerate(queue):
                account += self.solo_seconds(entry) / entry.weight
                paid.append((-math.inf if client == turn and not place else account, len(paid), entry))
        return [entry for _, _, entry in sorted(paid)]

    def charge(self, batch: Batch, entries: Iterable[Entry], seconds: float) -> None:
        """Splits the time of a batch by rows; `entries` are all that wanted a turn."""
        used: dict[str, float] = {}
        for entry in batch.entries:
            used[entry.client] = used.get(entry.client, 0.0) + seconds * entry.rows / batch.rows
        weights: dict[str, float] = {}
        for entry in (*entries, *batch.entries):
            weights[entry.client] = max(entry.weight, weights.get(entry.client, 0.0))
        self.shares.charge(used, weights)

    def _choose(self, key: BatchKey, entries: list[Entry], turn: str, parts: float, now: float) -> tuple[float, Batch]:
        """The best batch of one key for the client whose turn it is, and its score against other keys (lower first).

        Args:
            parts: How many times slower than alone that client may be made.
        """
        order = fitting(self._order(entries, now, turn), self._curve.cap(key.pixels))
        longest = sum(entry.rows for entry in order)
        seconds = [0.0] + [self._curve.step_seconds(rows, key.pixels) for rows in range(1, longest + 1)]
        order = bearable(order, turn, parts, seconds)
        chosen = tuple(order[: best_width(order, seconds)])
        density = least_density([entry for entry in order if entry.client == turn], seconds)
        own = [entry for entry in chosen if entry.client == turn]
        weight = PRIORITY_BASE ** max(entry.priority for entry in own)
        return density / weight - AGEING * max(entry.waited(now) for entry in own), Batch(key, chosen)
