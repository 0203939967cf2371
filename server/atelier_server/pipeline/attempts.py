"""How many attempts of a gate are computed side by side: as many as the model's own measurements make worthwhile.

More at once cost less each, but those after the first that passes are wasted. So the expected time decides. How likely
an attempt passes is not known; each that failed makes it less likely that the next one passes.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from atelier_server.pipeline.plan import Plan
from atelier_server.types import Reproducibility

PRIOR_FAILURES = 4.0
"""What is believed before the first attempt, as a Beta(1, 4) distribution: one attempt in five passes. Who asks for
several attempts expects most of them to fail."""
DEADLINE_SLACK = 1.2
"""Attempts are begun only with this many times their expected duration left."""

_POINT = "seconds_of_"


def attempt_costs(plan: Plan, attempts: int) -> list[float]:
    """Expected seconds of 1, 2, … attempts in one job, by the instance's facts.

    Instances that measure nothing compute one picture after another, and so do EXACT pictures; only the proportions are
    right then.
    """
    facts = plan.instance.status().facts
    pictures = len(set(plan.indexes))
    points = _curve(facts)
    if not points or plan.request.reproducibility is Reproducibility.EXACT:
        return [float(count) for count in range(1, attempts + 1)]
    rows = pictures * (2 if plan.guidance_scale > 1 else 1)
    shape = plan.composed.width * plan.composed.height / (facts["native_width"] * facts["native_height"])
    widest = max(2.0, facts["max_rows"])
    costs = []
    for count in range(1, attempts + 1):
        native_rows = count * rows * shape
        turns = max(1, math.ceil(native_rows / widest))
        costs.append(plan.num_inference_steps * turns * _step_seconds(points, native_rows / turns))
    return costs


def side_by_side(costs: Sequence[float], failed: int) -> int:
    """How many attempts to compute next, so that the expected time until one passes, or all are used up, is least.

    Args:
        costs: Seconds of 1, 2, … attempts at once, up to all that are left; at least one.
        failed: Attempts that failed before.
    """
    left = len(costs)
    least, best = [0.0] * (left + 1), [1] * (left + 1)
    for tried in reversed(range(left)):
        weight = PRIOR_FAILURES + failed + tried
        options = [
            (costs[count - 1] + weight / (weight + count) * least[tried + count], count)
            for count in range(1, left - tried + 1)
        ]
        least[tried], best[tried] = min(options)
    return best[0]


def affordable(costs: Sequence[float], remaining_seconds: float | None) -> list[float]:
    """The costs of as many attempts as fit into the time that is left; None: no limit."""
    if remaining_seconds is None:
        return list(costs)
    return [cost for cost in costs if DEADLINE_SLACK * cost <= remaining_seconds]


def _curve(facts: Mapping[str, float]) -> list[tuple[int, float]]:
    """(rows, seconds of a step) at the native size, ascending."""
    names = [name for name in facts if name.startswith(_POINT)]
    return sorted((int(name.removeprefix(_POINT).removesuffix("_rows")), facts[name]) for name in names)


def _step_seconds(points: Sequence[tuple[int, float]], rows: float) -> float:
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    if rows <= xs[0]:
        return ys[0]
    if rows > xs[-1]:
        slope = ys[-1] / xs[-1] if len(xs) == 1 else (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
        return ys[-1] + slope * (rows - xs[-1])
    right = bisect_left(xs, rows)
    share = (rows - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])
