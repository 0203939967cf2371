"""How long a UNet step takes by number of rows: measured at start, kept true while running. Pure Python, no clock."""

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

START_BUDGET_SECONDS = 2.5
"""Time for measuring at start; a large model on a slow device measures fewer points."""
KNEE_GAIN = 0.03
"""Doubling the rows must make a row cheaper by this share, otherwise a wider batch only makes everybody wait."""
_UNSURE_ROWS = 16
"""Lower bound of the knee where the measurement was disturbed: the scheduler weighs narrow against wide batches anyway,
by times that become true while running, and a cap that is too low would last."""
_DISTURBED = 1.25
_EXTRAPOLATE = 4
"""The knee is looked for up to this many times the widest batch that there was time to measure."""
_REPEATS = 3
_SMOOTHING = 0.1
_OUTLIER = 3.0
_SHAPES = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step took by rows: `seconds` on the wall and `costs` in seconds of computing.

    They differ on a CPU that others use too: its wall times at start would mistake a neighbour's work for a knee.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)

    @property
    def disturbed(self) -> bool:
        """Whether others kept the device busy: more time went by on the wall than was computed, even on one core."""
        return any(seconds > _DISTURBED * self.costs[rows] for rows, seconds in self.seconds.items())


class StepCurve:
    """Seconds of one UNet step, t(rows), at any size.

    Args:
        measured: At the native size, at least one point.
        native_pixels: Width times height of the native size.
        max_rows: Most rows a batch may have at any size; 0 leaves it to the curve.
    """

    def __init__(self, measured: Measured, native_pixels: int, max_rows: int = 0) -> None:
        if not measured.seconds:
            raise ValueError("a curve needs at least one point")
        self._native_pixels = native_pixels
        self._rows = sorted(measured.seconds)
        self._seconds: list[float] = []
        for rows in self._rows:  # noise must not make a wider batch look faster than a narrow one
            seconds = min(measured.seconds[rows], measured.costs[rows])
            self._seconds.append(max([seconds, *self._seconds[-1:]]))
        self._knee = max(find_knee(measured.costs), _UNSURE_ROWS if measured.disturbed else 0)
        self._max_rows = max_rows
        self._drift = 1.0
        self._shape: dict[tuple[int, int], float] = {}

    @property
    def points(self) -> dict[int, float]:
        """The measured points: seconds by rows at the native size."""
        return dict(zip(self._rows, self._seconds, strict=True))

    def cap(self, pixels: int) -> int:
        """Most rows worth putting into one batch of pictures of `pixels`; at least 2, one guided picture."""
        cap = int(self._knee * self._native_pixels / pixels)
        return max(2, min(cap, self._max_rows) if self._max_rows else cap)

    def step_seconds(self, rows: int, pixels: int) -> float:
        """Expected seconds of one step of `rows` rows of `pixels` pixels each."""
        return self._drift * self._shape.get((rows, pixels), 1.0) * self._interpolate(rows, pixels)

    def update(self, rows: int, pixels: int, seconds: float) -> None:
        """Takes in what a step really took. A single stall moves the averages by little.

        Two averages: how slow the device is now for everything (its clock, its neighbours), and how much this batch
        shape departs from the measured line. So a busy minute does not make wide batches look worse than narrow ones
        that were last seen in a quiet one.
        """
        expected = self.step_seconds(rows, pixels)
        ratio = min(max(seconds / expected, 1 / _OUTLIER), _OUTLIER)
        self._drift *= 1 + _SMOOTHING * (ratio - 1)
        self._shape[rows, pixels] = self._shape.get((rows, pixels), 1.0) * (1 + _SMOOTHING / 2 * (ratio - 1))
        if len(self._shape) > _SHAPES:
            self._shape.pop(next(iter(self._shape)))

    def _interpolate(self, count: int, pixels: int) -> float:
        rows = count * pixels / self._native_pixels
        xs, ys = self._rows, self._seconds
        if rows <= xs[0]:
            return ys[0]  # below the smallest measured batch the cost of starting kernels remains
        if rows > xs[-1]:
            slope = ys[-1] / xs[-1] if len(xs) == 1 else (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
            return ys[-1] + slope * (rows - xs[-1])
        right = bisect_left(xs, rows)
        share = (rows - xs[right - 1]) / (xs[right] - xs[right - 1])
        return ys[right - 1] + share * (ys[right] - ys[right - 1])


def measure(
    run: Callable[[int], object],
    max_rows: int,
    budget_seconds: float = START_BUDGET_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    cost_clock: Callable[[], float] | None = None,
    prepare: Callable[[int], object] = lambda rows: None,
) -> Measured:
    """Times `run(rows)` for 2, 1, 4, 8 … rows until the budget is spent or wider batches stop paying.

    Two rows, one guided picture, come first: that point is always measured. The first run of a shape is a warm-up,
    unless it alone takes long.

    Args:
        run: Does one UNet step of that many rows and waits for its end.
        max_rows: Not more than this.
        budget_seconds: When this is over no further point is begun.
        clock: Seconds on the wall.
        cost_clock: Seconds of computing, `clock` where None; process time on a CPU, which neighbours do not disturb.
        prepare: Does once what that many rows need, and what neither the measurement nor the budget counts.
    """
    measured = Measured()
    begin = clock()
    for rows in (2, 1, *(2**power for power in range(2, max_rows.bit_length()))):
        if rows > max_rows or (measured.seconds and clock() - begin >= budget_seconds):
            break
        preparing = clock()
        prepare(rows)
        begin += clock() - preparing
        for _ in range(_REPEATS):
            start, cost_start = clock(), (cost_clock or clock)()
            run(rows)
            seconds, cost = clock() - start, (cost_clock or clock)() - cost_start
            measured.seconds[rows] = min(seconds, measured.seconds.get(rows, seconds))
            measured.costs[rows] = min(cost, measured.costs.get(rows, cost))
            if seconds > budget_seconds / 4:
                break
        if rows > 2 and not _pays(measured.costs, rows):
            break
    return measured


def find_knee(costs: dict[int, float]) -> int:
    """The widest batch for which doubling the rows made a row cheaper by KNEE_GAIN; at least 2.

    Where the widest measured batch still gained, the line through the last two points is followed.

    Args:
        costs: Seconds for 2 rows, and for powers of two from 1 on without a gap.
    """
    knee, rows = 2, 4
    while rows in costs:
        if not _pays(costs, rows):
            return knee
        knee, rows = rows, rows * 2
    if knee // 2 in costs:
        slope = (costs[knee] - costs[knee // 2]) / (knee - knee // 2)
        line = {count: costs[knee] + slope * (count - knee) for count in (knee, knee * 2, knee * _EXTRAPOLATE)}
        while knee * 2 in line and _pays(line, knee * 2):
            knee *= 2
    return knee


def _pays(costs: dict[int, float], rows: int) -> bool:
    return costs[rows] / rows <= (1 - KNEE_GAIN) * costs[rows // 2] / (rows // 2)
