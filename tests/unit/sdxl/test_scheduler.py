"""Properties of the step scheduler, on a clock of its own and devices made of one formula."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier_server.backends.sdxl.entries import Batch, BatchKey, Entry
from atelier_server.backends.sdxl.scheduler import StepScheduler
from atelier_server.backends.sdxl.turns import AGEING
from atelier_server.errors import DeadlineExceeded, ResourceExhausted

NATIVE = BatchKey(128, 128)
SMALL = BatchKey(64, 64)


@dataclass
class Line:
    """t(rows) = fixed + per_row * rows, whatever the size."""

    fixed: float = 1.0
    per_row: float = 0.25
    rows: int = 8

    def cap(self, pixels: int) -> int:
        return self.rows

    def step_seconds(self, rows: int, pixels: int) -> float:
        return self.fixed + self.per_row * rows


@dataclass
class Machine:
    """A scheduler, its clock, and the record of its batches."""

    line: Line = field(default_factory=Line)
    now: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    finished: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler = StepScheduler(self.line, max_waiting=1000)

    def add(self, name: str, steps: int, key: BatchKey = NATIVE, rows: int = 2, **more: float) -> Entry:
        entry = Entry(name, 0, key, rows, steps, added=self.now, **more)  # type: ignore[arg-type]
        self.scheduler.add([entry])
        return entry

    def step(self) -> Batch | None:
        batch = self.scheduler.schedule(self.now)
        if batch is not None:
            seconds = self.line.step_seconds(batch.rows, batch.key.pixels)
            self.now += seconds
            self.batches.append(batch)
            for entry in self.scheduler.update(batch, seconds):
                self.finished[entry.job_id, entry.index] = self.now
        return batch

    def run(self) -> None:
        while self.step() is not None:
            pass


lines = st.builds(Line, st.floats(0, 5), st.floats(0.01, 5), st.integers(2, 16))
keys = st.sampled_from([NATIVE, SMALL, BatchKey(128, 64), BatchKey(128, 128, adapters=("gold",))])


@st.composite
def jobs(draw: st.DrawFn) -> list[list[Entry]]:
    """Jobs of one to four pictures; an exclusive one has a key for each."""
    made = []
    for number in range(draw(st.integers(1, 8))):
        name, key, rows = f"job-{number}", draw(keys), draw(st.integers(1, 2))
        steps, priority, exclusive = draw(st.integers(1, 12)), draw(st.integers(-1, 1)), draw(st.booleans())
        made.append(
            [
                Entry(
                    name,
                    index,
                    BatchKey(
                        key.height, key.width, adapters=key.adapters, exclusive=(name, index) if exclusive else None
                    ),
                    rows,
                    steps,
                    priority,
                    later=((draw(st.integers(1, steps - 1)), 3 - rows),) if steps > 1 and draw(st.booleans()) else (),
                )
                for index in range(draw(st.integers(1, 4)))
            ]
        )
    return made


@given(jobs(), lines, st.data())
@settings(deadline=None, max_examples=60)
def test_every_picture_gets_exactly_its_steps_under_the_cap_and_a_batch_has_one_key(
    made: list[list[Entry]], line: Line, data: st.DataObject
) -> None:
    machine, waiting = Machine(line), list(made)
    wanted = {(entry.job_id, entry.index): entry.steps_left for entries in made for entry in entries}
    done = dict.fromkeys(wanted, 0)
    while waiting or len(machine.scheduler):
        for _ in range(data.draw(st.integers(0 if len(machine.scheduler) else 1, 2))):
            if waiting:
                entries = waiting.pop()
                for entry in entries:
                    entry.added = machine.now
                machine.scheduler.add(entries)
        batch = machine.step()
        assert batch is not None
        assert {entry.key for entry in batch.entries} == {batch.key}
        assert batch.rows <= line.rows
        assert len(set(map(id, batch.entries))) == len(batch.entries)
        if batch.key.exclusive:
            assert len(batch.entries) == 1
        for entry in batch.entries:
            done[entry.job_id, entry.index] += 1
    assert done == wanted
    assert machine.finished.keys() == wanted.keys()
    assert machine.scheduler.schedule(machine.now) is None


@given(jobs(), lines, st.data())
@settings(deadline=None, max_examples=60)
def test_abort_frees_rows_at_the_next_step(made: list[list[Entry]], line: Line, data: st.DataObject) -> None:
    machine = Machine(line)
    for entries in made:
        machine.scheduler.add(entries)
    victim = data.draw(st.sampled_from(made))[0].job_id
    for _ in range(data.draw(st.integers(0, 5))):
        machine.step()
    machine.scheduler.abort(victim)
    assert machine.scheduler.abort(victim) == 0
    before = len(machine.batches)
    machine.run()
    assert all(entry.job_id != victim for batch in machine.batches[before:] for entry in batch.entries)
    others = {(entry.job_id, entry.index) for entries in made for entry in entries if entry.job_id != victim}
    assert others <= machine.finished.keys()


@given(lines, st.integers(1, 20), st.integers(-1, 1), st.sampled_from([NATIVE, SMALL]), st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_nobody_starves_under_an_endless_stream_of_short_calls(
    line: Line, steps: int, priority: int, stream_key: BatchKey, width: int
) -> None:
    machine = Machine(line)
    machine.add("long", steps, priority=priority)
    alone = steps * line.step_seconds(2, NATIVE.pixels)
    # Ageing takes the long call's score below that of every newcomer after this time; then its own steps, and those
    # that were let in before it got there.
    slowest = line.step_seconds(line.rows, 0)
    bound = alone * 4.0 / AGEING + 4 * steps * slowest + 10 * slowest
    number = 0
    while ("long", 0) not in machine.finished:
        while len(machine.scheduler.waiting) < width:
            number += 1
            machine.add(f"short-{number}", 1, key=stream_key)
        machine.step()
        assert machine.now <= bound, "the long call starves"


def test_a_short_call_among_long_ones_where_wide_batches_are_slow() -> None:
    machine = Machine(Line(fixed=0.3, per_row=0.3, rows=16))
    for number in range(4):
        machine.add(f"long-{number}", 100)
    for _ in range(10):
        machine.step()
    arrived = machine.now + 0.01
    machine.step()  # the step that was under way
    machine.add("short", 4)
    machine.scheduler.waiting[0].added = arrived
    while ("short", 0) not in machine.finished:
        machine.step()
    alone = 4 * machine.line.step_seconds(2, 0)
    assert machine.finished["short", 0] - arrived <= 3 * alone
    assert machine.batches[-1].rows < 10, "riding with all would cost 3.3 s a step instead of 0.9 s"


def test_a_short_call_rides_along_where_wide_batches_are_cheap() -> None:
    machine = Machine(Line(fixed=1.0, per_row=0.02, rows=16))
    for number in range(4):
        machine.add(f"long-{number}", 100)
    machine.step()
    machine.add("short", 4)
    batch = machine.step()
    assert batch is not None
    assert batch.rows == 10


def test_equal_calls_share_every_step_where_that_pays() -> None:
    machine = Machine(Line(fixed=1.0, per_row=0.1, rows=16))
    for number in range(8):
        machine.add(f"job-{number}", 25)
    machine.run()
    assert {batch.rows for batch in machine.batches} == {16}
    assert len(machine.batches) == 25


def test_a_late_call_joins_at_the_next_step() -> None:
    machine = Machine(Line(fixed=1.0, per_row=0.05))
    machine.add("first", 20)
    machine.step()
    machine.add("second", 20, rows=1)
    assert machine.step().rows == 3  # type: ignore[union-attr]


def test_one_that_does_not_fit_lets_another_key_pass() -> None:
    machine = Machine(Line(rows=2))
    machine.add("long", 50)
    machine.step()
    machine.add("other size", 1, key=SMALL)
    assert machine.step().key == SMALL  # type: ignore[union-attr]


def test_priority_goes_first() -> None:
    machine = Machine(Line(rows=2))
    machine.add("low", 10, priority=-1)
    machine.add("normal", 10)
    machine.add("high", 10, priority=1)
    machine.run()
    ends = [machine.finished[name, 0] for name in ("high", "normal", "low")]
    assert ends == sorted(ends)


def test_calls_of_different_keys_do_not_interrupt_each_other_in_turn() -> None:
    machine = Machine(Line(rows=2))
    for number in range(4):
        machine.add(f"job-{number}", 10, key=BatchKey(128, 128, exclusive=(f"job-{number}", 0)))
    machine.run()
    order = [batch.entries[0].job_id for batch in machine.batches]
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes == 3


def test_a_full_queue_refuses() -> None:
    scheduler = StepScheduler(Line(), max_waiting=2)
    for number in range(2):
        scheduler.add([Entry(f"job-{number}", 0, NATIVE, 2, 5)])
    with pytest.raises(ResourceExhausted) as caught:
        scheduler.admit([Entry("job-3", 0, NATIVE, 2, 5)], now=0.0)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_seconds
    batch = scheduler.schedule(0.0)
    assert batch is not None, "jobs that have begun do not count"
    scheduler.admit([Entry("job-3", 0, NATIVE, 2, 5)], now=0.0)


def test_a_deadline_that_cannot_be_kept_is_refused() -> None:
    scheduler = StepScheduler(Line(fixed=1.0, per_row=0.0))
    scheduler.admit([Entry("ok", 0, NATIVE, 2, 50, deadline=60.0)], now=0.0)
    with pytest.raises(DeadlineExceeded, match=r"50\.0 s"):
        scheduler.admit([Entry("late", 0, NATIVE, 2, 50, deadline=20.0)], now=0.0)
    exclusive = [Entry("n", i, BatchKey(8, 8, exclusive=("n", i)), 2, 10, deadline=60.0) for i in range(10)]
    with pytest.raises(DeadlineExceeded):
        scheduler.admit(exclusive, now=0.0)


def test_expired_jobs_are_named_until_they_are_aborted() -> None:
    machine = Machine(Line(fixed=1.0, per_row=0.0, rows=2))
    machine.add("running", 5, deadline=8.0)
    machine.step()
    machine.add("hopeless", 50, deadline=9.0)
    machine.add("endless", 50)
    assert machine.scheduler.expired(machine.now) == ("hopeless",)
    assert machine.scheduler.expired(8.5) == ("running", "hopeless")
    machine.scheduler.abort("running")
    machine.scheduler.abort("hopeless")
    assert machine.scheduler.expired(1e9) == ()


def test_estimates() -> None:
    scheduler = StepScheduler(Line(fixed=1.0, per_row=0.0, rows=4))
    newcomer = Entry("new", 0, NATIVE, 2, 10)
    assert scheduler.estimate_wait([newcomer], 0.0) == (0, 0.0)
    scheduler.add([Entry("a", 0, NATIVE, 2, 10)])
    assert scheduler.schedule(0.0) is not None
    assert scheduler.estimate_wait([newcomer], 0.25) == (0, 0.75), "it joins after the step under way"
    assert scheduler.forecast([newcomer], 0.5).total_seconds == 10.5
    scheduler.add([Entry("b", 0, NATIVE, 2, 4)])
    jobs_ahead, seconds = scheduler.estimate_wait([newcomer], 0.25)
    assert (jobs_ahead, seconds) == (2, 4.75), "the rest of a step, then four of two rows each"
    assert math.isfinite(scheduler.forecast([newcomer], 0.0).total_seconds)


@given(jobs(), lines, st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_a_forecast_comes_true_when_nobody_else_comes(made: list[list[Entry]], line: Line, steps: int) -> None:
    machine = Machine(line)
    for entries in made:
        machine.scheduler.add(entries)
    newcomer = Entry("new", 0, NATIVE, 2, steps)
    longest = max(line.step_seconds(line.rows, 0) * entry.steps_left for entries in made for entry in entries)
    foreseen = machine.scheduler.forecast([newcomer], 0.0)
    machine.scheduler.add([newcomer])
    machine.run()
    end = machine.finished["new", 0]
    assert abs(foreseen.total_seconds - end) <= 0.3 * end + longest + steps * line.step_seconds(line.rows, 0)


def test_rows_are_counted_as_they_will_be() -> None:
    """A device without a fixed cost: two rows take twice as long as one."""
    line = Line(fixed=0.0, per_row=1.0, rows=2)
    machine = Machine(line)
    entry = Entry("thrifty", 0, NATIVE, 1, 10, later=((8, 2), (3, 1)))
    assert list(entry.stretches()) == [(2, 1), (5, 2), (3, 1)]
    assert machine.scheduler.forecast([entry], 0.0).total_seconds == 15.0
    with pytest.raises(DeadlineExceeded, match=r"needs about 15\.0 s"):
        machine.scheduler.admit([Entry("late", 0, NATIVE, 1, 10, deadline=10.0, later=((8, 2), (3, 1)))], now=0.0)
    machine.scheduler.add([entry])
    machine.run()
    assert [batch.rows for batch in machine.batches] == [1, 1, 2, 2, 2, 2, 2, 1, 1, 1]
    assert machine.finished["thrifty", 0] == 15.0


def test_what_a_picture_does_without_others_have() -> None:
    """Two guided pictures do not fit into three rows; a guided and an unguided one do."""
    machine = Machine(Line(fixed=1.0, per_row=0.01, rows=3))
    machine.scheduler.add([Entry("thrifty", 0, NATIVE, 2, 6, later=((3, 1),))])
    machine.add("plain", 6)
    machine.run()
    batches = [({entry.job_id for entry in batch.entries}, batch.rows) for batch in machine.batches]
    assert batches == [({"thrifty"}, 2)] * 3 + [({"thrifty", "plain"}, 3)] * 3 + [({"plain"}, 2)] * 3


def test_a_call_is_refused_for_those_ahead_of_it() -> None:
    scheduler = StepScheduler(Line(fixed=1.0, per_row=0.0, rows=2))
    for number in range(4):
        scheduler.add([Entry(f"job-{number}", 0, NATIVE, 2, 10)])
    with pytest.raises(DeadlineExceeded, match=r"in about 50\.0 s"):
        scheduler.admit([Entry("late", 0, NATIVE, 2, 10, deadline=40.0)], now=0.0)
    assert scheduler.admit([Entry("patient", 0, NATIVE, 2, 10, deadline=60.0)], now=0.0).position == 4
    assert scheduler.admit([Entry("short", 0, NATIVE, 2, 2, deadline=5.0)], now=0.0).position == 0


def test_the_objective_is_kept_at_the_cost_of_the_lowest_priority() -> None:
    scheduler = StepScheduler(Line(fixed=1.0, per_row=0.0, rows=2))

    def job(name: str, priority: int, now: float = 0.0) -> list[Entry]:
        return [Entry(name, 0, NATIVE, 2, 10, priority, added=now, objective=now + 30.0)]

    for name in ("one", "two"):
        scheduler.admit(job(name, 0), now=0.0)
        scheduler.add(job(name, 0))
    scheduler.admit(job("three", -1), now=0.0)
    scheduler.add(job("three", -1))
    with pytest.raises(ResourceExhausted) as caught:
        scheduler.admit(job("four", -1), now=0.0)
    assert caught.value.reason == "OBJECTIVE_MISSED"
    assert caught.value.retry_after_seconds
    scheduler.admit(job("urgent", 1), now=0.0)
    scheduler.add(job("urgent", 1))
    assert scheduler.shed(0.0) == ()
    now = 0.0
    shed: set[str] = set()
    while (batch := scheduler.schedule(now)) is not None:
        now += 1.0
        scheduler.update(batch, 1.0)
        for name in scheduler.shed(now):
            shed.add(name)
            scheduler.abort(name)
    assert shed == {"three"}, "the urgent call took the place of the one of low priority"
