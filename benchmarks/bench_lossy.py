"""What the lossy accelerations gain and what they change, on the starter's pictures: each setting beside the plain one.

    python benchmarks/bench_lossy.py [--rounds 5 --steps 25 --schedule euler --dtype auto --execution torch]

Every round is another prompt and seed. CPU seconds on one thread are compared, which other work on the machine hardly
disturbs; PSNR is that of the picture to the plain one of the same seed. It says how much a picture departs, not whether
it is worse: fewer steps are in the table as what a caller could do instead.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from atelier_server.backends.base import (
    Backend,
    DiffusionTask,
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobImage,
    ModelSpec,
    Pixels,
)
from atelier_server.backends.sdxl import create
from common import GUIDANCE, NEGATIVE, ROOT, STARTER, machine, summary, write

PROMPTS = (
    "a red leather handbag on white marble, soft light",
    "a gold watch on a wooden table",
    "a blue vase in a studio",
    "a green lamp at night",
    "an orange sneaker on a beach",
)
AT_ONCE = 8
PLAIN = "plain"


def settings(steps: int) -> dict[str, dict[str, Any]]:
    """Changes of the task by the name of the setting."""
    fewer = {f"{count} steps": {"num_inference_steps": count} for count in (steps * 3 // 4, steps * 2 // 3, steps // 2)}
    intervals = {
        f"guidance_interval {start:g}-{end:g}": {"guidance_start": start, "guidance_end": end}
        for start, end in ((0.0, 0.8), (0.1, 0.8), (0.2, 1.0), (0.0, 0.6))
    }
    caching = {f"step_caching {every}": {"step_caching": every} for every in (2, 3, 4)}
    both = {
        "step_caching 2, guidance_interval 0.1-0.8": caching["step_caching 2"] | intervals["guidance_interval 0.1-0.8"]
    }
    return {PLAIN: {}, **fewer, **caching, **intervals, **both}


class Bench:
    """A backend, driven without a server."""

    def __init__(self, dtype: str, execution: str, steps: int, schedule: str) -> None:
        derived = str(ROOT / "build" / "bench-derived")
        spec = ModelSpec(
            "bench_lossy", "1", STARTER, {"execution": execution}, dtype=dtype, threads=1, derived_folder=derived
        )
        self.backend: Backend = create(spec)
        self.backend.load()
        self._steps, self._schedule, self._calls = steps, schedule, 0

    def make(self, seed: int, count: int, exact: bool, changes: dict[str, Any]) -> tuple[float, int, Pixels]:
        """CPU seconds and UNet rows of a picture, and the first of `count` that are made at once."""
        facts, said = self.backend.status().facts, list[list[JobEvent]]()
        rows, begin = self.backend.status().counters["rows"], time.process_time()
        for number in range(count):
            self._calls += 1
            values: dict[str, Any] = {
                "job_id": str(self._calls),
                "prompt": PROMPTS[(seed + number) % len(PROMPTS)],
                "negative_prompt": NEGATIVE,
                "seeds": (seed + number,),
                "width": int(facts["native_width"]),
                "height": int(facts["native_height"]),
                "num_inference_steps": self._steps,
                "guidance_scale": GUIDANCE,
                "noise_schedule": self._schedule,
                "exact": exact,
            }
            events: list[JobEvent] = []
            self.backend.submit(Job(DiffusionTask(**{**values, **changes}), events.append, time.monotonic()))
            said.append(events)
        while self.backend.step() is not None:
            pass
        if any(not isinstance(events[-1], JobDone) for events in said):
            raise SystemExit(f"a job failed: {[events[-1] for events in said if isinstance(events[-1], JobFailed)]}")
        seconds = time.process_time() - begin
        picture = next(event.pixels for event in said[0] if isinstance(event, JobImage))
        return seconds / count, (self.backend.status().counters["rows"] - rows) // count, picture


def psnr(one: Pixels, other: Pixels) -> float:
    """In dB; 99 for equal pictures."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--schedule", default="euler")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--execution", default="torch")
    parser.add_argument("--name", default="lossy")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="__array__ implementation")
    facts, bench = machine(), Bench(options.dtype, options.execution, options.steps, options.schedule)
    asked = settings(options.steps)
    alone: dict[str, list[float]] = {name: [] for name in asked}
    together: dict[str, list[float]] = {name: [] for name in asked}
    distance: dict[str, list[float]] = {name: [] for name in asked}
    rows: dict[str, int] = {}
    bench.make(99, 1, False, {})  # a warm-up
    for seed in range(options.rounds):
        plain: Pixels | None = None
        for name, changes in asked.items():
            seconds, rows[name], picture = bench.make(seed, 1, True, changes)
            plain = picture if plain is None else plain
            alone[name].append(seconds)
            distance[name].append(psnr(picture, plain))
            together[name].append(bench.make(seed, AT_ONCE, False, changes)[0])
    found = {
        name: {
            "UNet rows": rows[name],
            "PSNR to plain, dB": summary(distance[name]),
            "CPU s a picture, alone": summary(alone[name]),
            f"CPU s a picture, {AT_ONCE} at once": summary(together[name]),
        }
        for name in asked
    }
    work = {"steps": options.steps, "schedule": options.schedule, "execution": options.execution}
    write(options.name, {"machine": facts, "dtype": bench.backend.status().dtype, "work": work, "settings": found})


if __name__ == "__main__":
    main()
