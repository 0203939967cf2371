"""When a step is said to hang."""

import pytest

from atelier_server.executor.limits import Limits
from atelier_server.executor.stall import StallWatch

LIMITS = Limits(
    heartbeat_seconds=2.0, silence_seconds=10.0, stall_seconds=900.0, stall_factor=20.0, least_stall_seconds=60.0
)


@pytest.mark.parametrize(("usual", "limit"), [(0.0, 900.0), (0.01, 60.0), (3.0, 60.0), (10.0, 200.0), (100.0, 900.0)])
def test_the_limit_follows_the_longest_step_within_bounds(usual: float, limit: float) -> None:
    assert LIMITS.step_seconds(usual) == limit


def follow(watch: StallWatch, clock: list[float], usual: float, until: float) -> float | None:
    """Asks every 2 s about one step that began now, for so long."""
    began = clock[0]
    while clock[0] < began + until:
        clock[0] += 2.0
        limit = watch.overdue({"stalled_seconds": clock[0] - began, "usual_seconds": usual})
        if limit is not None:
            return limit
    return None


@pytest.mark.parametrize(("usual", "limit"), [(0.0, 900.0), (0.1, 60.0), (10.0, 200.0)])
def test_a_step_is_overdue_when_it_was_watched_for_longer(usual: float, limit: float) -> None:
    clock = [1000.0]
    watch = StallWatch(LIMITS, lambda: clock[0])
    assert follow(watch, clock, usual, limit) is None
    assert follow(StallWatch(LIMITS, lambda: clock[0]), clock, usual, limit + 4.0) == limit


def test_steps_one_after_another_do_not_add_up() -> None:
    clock = [0.0]
    watch = StallWatch(LIMITS, lambda: clock[0])
    for _ in range(5):
        assert follow(watch, clock, 0.1, 50.0) is None


def test_a_pause_of_the_whole_machine_is_no_stall() -> None:
    clock = [0.0]
    watch = StallWatch(LIMITS, lambda: clock[0])
    assert follow(watch, clock, 0.1, 4.0) is None
    clock[0] += 3600.0  # neither asked nor computed
    assert watch.overdue({"stalled_seconds": 3604.0, "usual_seconds": 0.1}) is None
    for _ in range(30):
        clock[0] += 2.0
        late = watch.overdue({"stalled_seconds": clock[0], "usual_seconds": 0.1})
    assert late == 60.0, "it hangs all the same"


def test_a_runner_that_tells_nothing_is_in_no_step() -> None:
    assert StallWatch(LIMITS).overdue({}) is None
