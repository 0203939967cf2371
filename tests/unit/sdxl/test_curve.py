"""t(rows): measured within a budget, capped at the knee, scaled by pixels, kept true."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier_server.backends.sdxl.curve import Measured, StepCurve, find_knee, measure

NATIVE = 1024 * 1024


class Device:
    """A device whose step takes `fixed + per_row * rows` seconds on a clock of its own."""

    def __init__(self, fixed: float, per_row: float, stolen: float = 0.0) -> None:
        self.fixed, self.per_row, self.stolen = fixed, per_row, stolen
        self.now = self.spent = 0.0
        self.runs: list[int] = []

    def run(self, rows: int) -> None:
        self.runs.append(rows)
        self.spent += self.fixed + self.per_row * rows
        self.now += (self.fixed + self.per_row * rows) * (1 + self.stolen * len(self.runs))

    def measure(self, max_rows: int = 32, budget: float = 2.5) -> Measured:
        return measure(self.run, max_rows, budget, clock=lambda: self.now, cost_clock=lambda: self.spent)


def curve(points: dict[int, float], max_rows: int = 0) -> StepCurve:
    return StepCurve(Measured(points, points), NATIVE, max_rows)


def test_cheap_rows_are_measured_up_to_the_limit() -> None:
    measured = Device(fixed=0.03, per_row=0.001).measure()
    assert set(measured.seconds) == {1, 2, 4, 8, 16, 32}
    assert measured.seconds[2] == pytest.approx(0.032)
    assert find_knee(measured.costs) >= 32


def test_a_saturated_device_keeps_to_one_picture_a_step() -> None:
    device = Device(fixed=0.001, per_row=0.1)
    assert find_knee(device.measure().costs) == 2
    assert max(device.runs) == 4, "no wider batch is measured past the knee"


def test_a_slow_model_is_measured_once() -> None:
    device = Device(fixed=2.0, per_row=2.0)
    assert set(device.measure().seconds) == {2}
    assert device.runs == [2]


def test_the_budget_bounds_the_measurement() -> None:
    device = Device(fixed=0.2, per_row=0.05)
    device.measure(budget=1.0)
    assert device.now <= 1.0 + 3 * (0.2 + 0.05 * 32)


def test_preparing_a_width_is_neither_measured_nor_does_it_use_up_the_budget() -> None:
    device, prepared = Device(fixed=0.03, per_row=0.001), []

    def prepare(rows: int) -> None:
        prepared.append(rows)
        device.now += 60.0

    measured = measure(device.run, 8, 2.5, clock=lambda: device.now, prepare=prepare)
    assert prepared == [2, 1, 4, 8], "each once, before it runs"
    assert measured.seconds[8] == pytest.approx(0.038)


def test_an_unfinished_measurement_is_continued_by_a_line() -> None:
    assert find_knee({1: 1.0, 2: 1.2, 4: 1.6}) == 16
    assert find_knee({2: 3.0}) == 2


def test_neighbours_on_the_cpu_do_not_lower_the_cap() -> None:
    measured = Device(fixed=0.03, per_row=0.005, stolen=0.5).measure()
    assert measured.disturbed
    disturbed = StepCurve(measured, NATIVE, 32)
    assert disturbed.cap(NATIVE) >= 16
    assert disturbed.step_seconds(2, NATIVE) == pytest.approx(0.04), "the cost, not the neighbours' time"


def test_the_cap_scales_with_the_picture() -> None:
    steps = curve({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.7, 16: 3.4})
    assert steps.cap(NATIVE) == 8
    assert steps.cap(NATIVE // 4) == 32
    assert steps.cap(NATIVE * 4) == 2
    assert curve({1: 1.0, 2: 1.1, 4: 1.3}, max_rows=6).cap(NATIVE // 4) == 6


def test_between_and_beyond_the_points() -> None:
    steps = curve({1: 1.0, 2: 1.2, 4: 2.0, 8: 4.0})
    assert steps.step_seconds(3, NATIVE) == pytest.approx(1.6)
    assert steps.step_seconds(16, NATIVE) == pytest.approx(8.0)
    assert steps.step_seconds(2, NATIVE * 2) == pytest.approx(2.0)
    assert steps.step_seconds(1, NATIVE // 16) == pytest.approx(1.0), (
        "starting kernels costs the same for small pictures"
    )
    assert curve({2: 3.0}).step_seconds(4, NATIVE) == pytest.approx(6.0)


def test_running_averages_follow_what_is_seen_but_not_a_single_stall() -> None:
    steps = curve({1: 1.0, 2: 1.2})
    steps.update(2, NATIVE, 600.0)
    assert steps.step_seconds(2, NATIVE) < 1.6
    for _ in range(100):
        steps.update(2, NATIVE, 2.4)
    assert steps.step_seconds(2, NATIVE) == pytest.approx(2.4, rel=0.05)
    assert steps.step_seconds(1, NATIVE) > 1.5, "points that were not seen follow the drift"


def test_no_points_no_curve() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        StepCurve(Measured(), NATIVE)


@settings(deadline=None, max_examples=50)
@given(
    seconds=st.lists(st.floats(1e-3, 10), min_size=1, max_size=6),
    rows=st.lists(st.integers(1, 64), min_size=2, max_size=2).map(sorted),
    pixels=st.sampled_from([64 * 64, 512 * 512, NATIVE, 4 * NATIVE]),
)
def test_more_rows_never_look_faster(seconds: list[float], rows: list[int], pixels: int) -> None:
    steps = curve(dict(zip((2, 1, 4, 8, 16, 32), seconds, strict=False)))
    few, many = (steps.step_seconds(count, pixels) for count in rows)
    assert 0 < few <= many * (1 + 1e-9)
    assert steps.cap(pixels) >= 2
