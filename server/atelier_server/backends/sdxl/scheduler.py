"""Decides which pictures take part in the next UNet step. Pure Python: no torch, no clock; time is passed in.

The unit of a batch is the row: a guided picture has two (without and with the prompt), an unguided one has one, and how
many it is may change from step to step (accelerations.py); steps that the UNet does not compute are none here. Rows of
pictures with equal BatchKey may share a step, whatever their prompts, guidance, steps done or noise schedules.

Each picture is an Entry, and every step the scheduler decides anew (turns.py).

EXACT pictures have a key of their own (`exclusive`), so they always run alone, at one fixed shape.

The engine's thread schedules while other threads let jobs in, so that a caller who is refused need not wait for the end
of a step; a lock keeps each call of a method whole.
"""

import copy
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from atelier_server.backends.sdxl.entries import Batch, Curve, Entry
from atelier_server.backends.sdxl.forecast import Forecast, RememberedCurve, forecast
from atelier_server.backends.sdxl.shares import Shares
from atelier_server.backends.sdxl.turns import Turns
from atelier_server.errors import DeadlineExceeded, ResourceExhausted

ALONE = 1.1
"""A call that would be done within this many times of what it needs has nobody ahead of it."""
CROWD = 4
"""So many times `max_waiting` jobs may wait in all when several clients come."""
FEASIBLE = 0.7
"""A call is refused when even this share of its time alone does not fit into its deadline; estimates are noisy."""
PUNCTUAL = 0.9
"""A call that must queue is refused when this share of the time until its end does not fit."""


class StepScheduler:
    """Holds the entries from `add` until they are finished, aborted or expired.

    Args:
        curve: Tells how long steps take and how wide batches may be.
        max_waiting: Jobs of one client that may wait for their first step; one more is refused. CROWD times as many may
            wait in all, shared evenly between the clients who wait.
    """

    def __init__(self, curve: Curve, max_waiting: int = 64) -> None:
        self._curve = curve
        self._max_waiting = max_waiting
        self._entries: dict[tuple[str, int], Entry] = {}
        self._turns = Turns(curve, Shares())
        self._lock = threading.RLock()
        self._step: tuple[Batch, float] | None = None  # what is being computed, and since when
        self._forecasts: dict[tuple[object, ...], tuple[float, Forecast]] = {}  # until anything changes

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """Entries before their first step, in order of arrival."""
        return tuple(entry for entry in self._entries.values() if not entry.started)

    @property
    def running(self) -> tuple[Entry, ...]:
        """Entries between their first and their last step."""
        return tuple(entry for entry in self._entries.values() if entry.started)

    def admit(self, entries: Sequence[Entry], now: float) -> Forecast:
        """Checks whether the entries of a new job can be taken, without taking them, and tells when they would be done.

        Raises:
            ResourceExhausted: Too many jobs wait, of this client or in all, or the objective would be missed.
            DeadlineExceeded: It would not be done in time.
        """
        with self._lock:
            self._check_room(entries, now)
            needed = self._job_seconds(entries)
            deadline, objective = entries[0].deadline, entries[0].objective
            if now + FEASIBLE * needed > deadline:
                raise DeadlineExceeded(
                    f"The call needs about {needed:.1f} s of computing, more than its deadline leaves; "
                    "give it more time, fewer steps or a smaller size."
                )
            foreseen = self.forecast(entries, now)
            sure = PUNCTUAL if foreseen.total_seconds > ALONE * needed else FEASIBLE
            if now + sure * foreseen.total_seconds > deadline:
                raise DeadlineExceeded(
                    f"As others are ahead, the call would be done in about {foreseen.total_seconds:.1f} s, and its "
                    f"deadline leaves {deadline - now:.1f} s; give it more time, or try again later."
                )
            if now + sure * foreseen.total_seconds > objective:
                raise objective_missed(foreseen.total_seconds - needed)
            return foreseen

    def forecast(self, entries: Sequence[Entry], now: float) -> Forecast:
        """When a new job would begin and end, by what is known now."""
        with self._lock:
            first = entries[0]
            shape = (len(entries), first.rows, first.steps_left, first.key.pixels, first.key.exclusive is None)
            kind = (shape, first.later, first.key.height, first.key.adapters, first.priority, first.client, first.share)
            if kind not in self._forecasts:
                self._forecasts[kind] = now, self._play(entries, now)
            then, foreseen = self._forecasts[kind]
            return foreseen.later(now - then)

    def add(self, entries: Iterable[Entry]) -> None:
        """Takes entries in; those of one job have distinct indices."""
        with self._lock:
            self._forecasts.clear()
            for entry in entries:
                present = {other.client for other in self._entries.values()}
                if entry.client not in present:
                    self._turns.shares.enter(entry.client, present)
                self._entries[entry.job_id, entry.index] = entry

    def abort(self, job_id: str) -> int:
        """Forgets a job. Returns how many entries it had."""
        with self._lock:
            keys = [key for key in self._entries if key[0] == job_id]
            for key in keys:
                del self._entries[key]
            self._forecasts.clear()
            return len(keys)

    def expired(self, now: float) -> tuple[str, ...]:
        """Ids of jobs that are out of time, or have not begun and could not end in time; they stay until aborted."""
        with self._lock:
            return tuple(
                dict.fromkeys(
                    entry.job_id
                    for entry in self._entries.values()
                    if entry.deadline < math.inf
                    and now + (0.0 if entry.started else FEASIBLE * self._turns.solo_seconds(entry)) >= entry.deadline
                )
            )

    def shed(self, now: float) -> tuple[str, ...]:
        """Ids of jobs that have not begun and could not meet the objective any more; they stay until aborted."""
        with self._lock:
            begun = {entry.job_id for entry in self.running}
            return tuple(
                dict.fromkeys(
                    entry.job_id
                    for entry in self._entries.values()
                    if entry.objective < math.inf
                    and entry.job_id not in begun
                    and now + FEASIBLE * self._turns.solo_seconds(entry) >= entry.objective
                )
            )

    def schedule(self, now: float) -> Batch | None:
        """Returns the batch of the next step, or None when nothing is to be computed."""
        with self._lock:
            self._step = None
            if not self._entries:
                return None
            batch = self._turns.next_batch(self._entries.values(), now)
            for entry in batch.entries:
                entry.started = True
            self._step = batch, now
            self._forecasts.clear()
            return batch

    def update(self, batch: Batch, seconds: float, steps: int = 1) -> tuple[Entry, ...]:
        """Notes that `steps` of `batch` took `seconds`. Forgets the entries that are finished, and returns them."""
        with self._lock:
            self._step = None
            self._turns.charge(batch, self._entries.values(), seconds)
            finished = []
            for entry in batch.entries:
                entry.advance(steps)
                entry.served_seconds += seconds
                if entry.steps_left == 0 and self._entries.pop((entry.job_id, entry.index), None) is not None:
                    finished.append(entry)
            self._forecasts.clear()
            return tuple(finished)

    def estimate_wait(self, entries: Sequence[Entry], now: float) -> tuple[int, float]:
        """Returns how many jobs are ahead of these (new) entries and about how many seconds until their first step."""
        foreseen = self.forecast(entries, now)
        return foreseen.position, foreseen.wait_seconds

    def _play(self, entries: Sequence[Entry], now: float) -> Forecast:
        """A forecast on a copy: first the step under way, then everything else."""
        curve = RememberedCurve(self._curve)
        twin = StepScheduler(curve, self._max_waiting)
        twin._turns = Turns(curve, self._turns.shares.copy())
        twin._entries = {name: copy.copy(entry) for name, entry in self._entries.items()}
        remaining = 0.0
        if self._step is not None:
            batch, began = self._step
            seconds = curve.step_seconds(batch.rows, batch.key.pixels)
            remaining = max(0.0, seconds - (now - began))
            here = [twin._entries.get((entry.job_id, entry.index)) for entry in batch.entries]
            finished = twin.update(replace(batch, entries=tuple(entry for entry in here if entry)), seconds)
            remaining += sum(entry.tail_seconds for entry in finished)
        job = [copy.copy(entry) for entry in entries]
        twin.add(job)
        clients = len({entry.client for entry in twin._entries.values()})
        played = forecast(twin, curve, job, now + remaining, clients)
        return Forecast(played.position, remaining + played.wait_seconds, remaining + played.total_seconds)

    def _job_seconds(self, entries: Sequence[Entry]) -> float:
        """Seconds of a whole job, if nothing else ran."""
        tail = sum(entry.tail_seconds for entry in entries)
        first = entries[0]
        if first.key.exclusive is not None:
            return tail + sum(self._turns.solo_seconds(entry) for entry in entries)
        cap = self._curve.cap(first.key.pixels)
        needed = 0.0
        for steps, rows_each in first.stretches():
            rows = rows_each * len(entries)
            needed += math.ceil(rows / cap) * steps * self._curve.step_seconds(min(rows, cap), first.key.pixels)
        return tail + needed

    def _check_room(self, entries: Sequence[Entry], now: float) -> None:
        """Refuses a client's job when he has enough of them waiting, or his part of the room when many wait."""
        client = entries[0].client
        waiting = {entry.job_id: entry.client for entry in self.waiting}
        own = sum(other == client for other in waiting.values())
        room = CROWD * self._max_waiting
        part = min(self._max_waiting, max(1, room // len({client, *waiting.values()})))
        if own >= part or len(waiting) >= 2 * room:
            raise ResourceExhausted(
                f"{own} calls wait already; try again later.",
                reason="QUEUE_FULL",
                retry_after_seconds=math.ceil(self.forecast(entries, now).wait_seconds / 2) or 1,
            )


def objective_missed(late_seconds: float) -> ResourceExhausted:
    """What callers hear whose pictures would be done later than the operator wants."""
    return ResourceExhausted(
        "The server keeps its time objective, which this call would miss; try again later, or ask for fewer steps or a "
        "smaller size.",
        reason="OBJECTIVE_MISSED",
        retry_after_seconds=math.ceil(max(0.0, late_seconds)) or 1,
    )
