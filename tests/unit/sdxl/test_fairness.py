"""Fair shares between clients: who floods the device slows the others no more than taking turns would."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier_server.backends.sdxl.entries import BatchKey, Entry
from atelier_server.backends.sdxl.scheduler import CROWD, StepScheduler
from atelier_server.errors import ResourceExhausted
from tests.unit.sdxl.test_scheduler import NATIVE, SMALL, Line, Machine, lines


class Flood:
    """Clients of which each always has `depth` jobs waiting."""

    def __init__(self, machine: Machine, clients: int, steps: int, depth: int, *, exact: bool, name: str = "flood"):
        self.machine, self.steps, self.depth, self.exact = machine, steps, depth, exact
        self.names = [f"{name}-{number}" for number in range(clients)]
        self.numbers = itertools.count()

    def refill(self) -> None:
        waiting = [entry.client for entry in self.machine.scheduler.waiting]
        for client in self.names:
            for _ in range(self.depth - waiting.count(client)):
                name = f"{client}-{next(self.numbers)}"
                key = BatchKey(128, 128, exclusive=(name, 0)) if self.exact else NATIVE
                self.machine.add(name, self.steps, key=key, client=client)

    def step(self) -> None:
        self.refill()
        self.machine.step()


def slowdowns(flood: Flood, calls: int, steps: int, *, before: int, key: BatchKey = NATIVE) -> list[float]:
    """Of calls of another client, one after another, in the midst of a flood: seconds over seconds alone."""
    machine = flood.machine
    alone = steps * machine.line.step_seconds(2, 0)
    for _ in range(before):
        flood.step()
    found = []
    for number in range(calls):
        arrived = machine.now
        machine.add(f"call-{number}", steps, key=key, client="other")
        while (f"call-{number}", 0) not in machine.finished:
            flood.step()
        found.append((machine.finished[f"call-{number}", 0] - arrived) / alone)
    return found


@pytest.mark.parametrize("line", [Line(0.3, 0.3, 16), Line(1.0, 0.02, 16)])
@pytest.mark.parametrize("exact", [False, True])
def test_five_calls_beside_a_flood_of_two_hundred_take_at_most_three_times_as_long(line: Line, exact: bool) -> None:
    flood = Flood(Machine(line), clients=1, steps=25, depth=200, exact=exact)
    assert max(slowdowns(flood, 5, 25, before=60)) <= 3.0


@given(
    lines,
    st.integers(1, 3),
    st.integers(1, 30),
    st.integers(5, 30),
    st.integers(1, 12),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from([NATIVE, SMALL]),
)
@settings(deadline=None, max_examples=10)
def test_a_call_among_flooding_clients_takes_no_longer_than_its_turn(
    line: Line, clients: int, flood_steps: int, steps: int, depth: int, before: int, exact: bool, key: BatchKey
) -> None:
    flood = Flood(Machine(line), clients, flood_steps, depth, exact=exact)
    found = slowdowns(flood, 2, steps, before=before, key=key)
    alone = steps * line.step_seconds(2, 0)
    # What each other client has under way or may finish first, the step that is under way, and its own turn.
    step = line.step_seconds(line.rows, 0) / alone
    started = clients * flood_steps * line.step_seconds(2, 0) / alone
    assert max(found) <= 1.3 * (1 + clients) + min(started, clients) + 3 * step


@given(lines, st.integers(2, 5), st.integers(1, 30), st.integers(1, 30), st.booleans())
@settings(deadline=None, max_examples=10)
def test_clients_who_always_want_something_have_equal_parts(
    line: Line, clients: int, steps: int, other_steps: int, exact: bool
) -> None:
    machine = Machine(line)
    floods = [
        Flood(machine, clients - 1, steps, 2, exact=exact),
        Flood(machine, 1, other_steps, 9, exact=exact, name="greedy"),
    ]
    had: dict[str, float] = {}
    for _ in range(250):
        for flood in floods:
            flood.refill()
        machine.step()
        batch = machine.batches[-1]
        seconds = line.step_seconds(batch.rows, 0)
        for entry in batch.entries:
            had[entry.client] = had.get(entry.client, 0.0) + seconds * entry.rows / batch.rows
    longest = max(steps, other_steps) * line.step_seconds(2, 0)
    assert len(had) == clients
    assert max(had.values()) - min(had.values()) <= 2 * longest + 2 * line.step_seconds(line.rows, 0)


@given(lines, st.integers(1, 15), st.booleans())
@settings(deadline=None, max_examples=10)
def test_nobody_starves_under_an_endless_stream_of_new_clients(line: Line, steps: int, exact: bool) -> None:
    machine = Machine(line)
    machine.add("long", steps, client="patient", key=SMALL)
    bound = 40 * steps * line.step_seconds(line.rows, 0)
    for number in itertools.count():
        if ("long", 0) in machine.finished:
            break
        while len({entry.client for entry in machine.scheduler.waiting}) < 4:
            name = f"new-{number}-{len(machine.scheduler)}"
            key = BatchKey(128, 128, exclusive=(name, 0)) if exact else NATIVE
            machine.add(name, 1, key=key, client=name)
        machine.step()
        assert machine.now <= bound, "the long call starves"


def test_a_client_with_a_larger_share_gets_more() -> None:
    machine = Machine(Line(0.0, 1.0, 8))
    small = Flood(machine, 1, 10, 2, exact=False)
    numbers = itertools.count()
    for _ in range(600):
        if not any(entry.client == "large" for entry in machine.scheduler.waiting):
            machine.add(f"large-{next(numbers)}", 10, client="large", share=3.0)
        small.step()
    rows = {"large": 0, "flood-0": 0}
    for batch in machine.batches:
        for entry in batch.entries:
            rows[entry.client] += entry.rows
    assert 2.5 < rows["large"] / rows["flood-0"] < 3.5


def test_calling_oneself_important_takes_nothing_from_others() -> None:
    def part(priority: int) -> float:
        machine = Machine(Line(0.0, 1.0, 8))
        for number in range(40):
            machine.add(f"a-{number}", 10, client="a", priority=priority)
            machine.add(f"b-{number}", 10, client="b")
        for _ in range(300):
            machine.step()
        rows = [entry.rows for batch in machine.batches for entry in batch.entries if entry.client == "a"]
        return sum(rows) / sum(batch.rows for batch in machine.batches)

    assert part(1) == pytest.approx(0.5, abs=0.05)
    assert part(-1) == pytest.approx(0.2, abs=0.05)


def test_who_comes_back_has_saved_nothing_up() -> None:
    machine = Machine(Line(0.0, 1.0, 2))
    machine.add("early", 1, client="absent")
    for number in range(30):
        machine.add(f"a-{number}", 10, client="a")
    for _ in range(100):
        machine.step()
    for number in range(30):
        machine.add(f"b-{number}", 10, client="absent")
    begun = len(machine.batches)
    for _ in range(200):
        machine.step()
    owners = [batch.entries[0].client for batch in machine.batches[begun:]]
    assert 90 <= owners.count("absent") <= 110


def test_each_client_has_a_queue_of_its_own() -> None:
    scheduler = StepScheduler(Line(), max_waiting=4)

    def admit(client: str, number: int) -> None:
        entry = Entry(f"{client}-{number}", 0, NATIVE, 2, 5, client=client)
        scheduler.admit([entry], now=0.0)
        scheduler.add([entry])

    for number in range(4):
        admit("a", number)
    with pytest.raises(ResourceExhausted) as caught:
        admit("a", 4)
    assert caught.value.reason == "QUEUE_FULL"
    admit("b", 0)
    for number in range(CROWD * 4 * 2):
        client = f"c-{number}"
        if len(scheduler.waiting) == CROWD * 4 * 2:
            break
        admit(client, 0)
    with pytest.raises(ResourceExhausted):
        admit("newcomer", 0)
