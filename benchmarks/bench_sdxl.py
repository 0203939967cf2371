"""Measures the SDXL backend against diffusers' own pipeline, in one process and without a server.

    python benchmarks/bench_sdxl.py [CHECKPOINT] [--dtype auto] [--steps 25] [--rounds 3] [--json FILE]

It prints the time of one call alone over the pipeline's, pictures per second of eight concurrent calls over those of
the pipeline called one after another (float32, and the same dtype), the time of a 4-step call that arrives among four
100-step calls over its time alone, and how far the default dtype is from float32. The contenders take turns in every
round, so that whatever else runs on the machine disturbs them alike; medians are reported.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from atelier_server.backends.base import Backend, DiffusionTask, Job, JobDone, JobEvent, JobFailed, JobImage, ModelSpec
from atelier_server.backends.sdxl import create

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a red leather handbag on white marble, soft light"
NEGATIVE = "blurry, low quality"
CALLS = 8


class Driver:
    """Steps a backend until its jobs are done."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.count = 0

    def submit(self, steps: int, seed: int = 0, exact: bool = False) -> list[JobEvent]:
        facts = self.backend.status().facts
        self.count += 1
        # A prompt of its own for every call: nothing may come from the cache of embeddings.
        task = DiffusionTask(
            job_id=f"bench-{self.count}",
            prompt=PROMPT if exact else f"{PROMPT}, {self.count}",
            negative_prompt=NEGATIVE,
            seeds=(seed,),
            width=int(facts["native_width"]),
            height=int(facts["native_height"]),
            num_inference_steps=steps,
            guidance_scale=7.5,
            exact=exact,
        )
        events: list[JobEvent] = []
        self.backend.submit(Job(task, events.append, time.monotonic()))
        return events

    def finish(self, *wanted: list[JobEvent]) -> None:
        while not all(isinstance(events[-1], JobDone) for events in wanted):
            if any(isinstance(events[-1], JobFailed) for events in wanted) or self.backend.step() is None:
                raise SystemExit(f"a job failed: {[events[-1] for events in wanted]}")

    def abort_all(self) -> None:
        for number in range(self.count + 1):
            self.backend.abort(f"bench-{number}")


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda") if torch.cuda.is_available() else pipe


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def short_among_long(driver: Driver) -> float:
    """Seconds of a 4-step call that arrives while four 100-step calls run, from the step that is under way."""
    for _ in range(4):
        driver.submit(100)
    for _ in range(12):
        driver.backend.step()
    begin = time.perf_counter()
    driver.backend.step()
    driver.finish(driver.submit(4))
    seconds = time.perf_counter() - begin
    driver.abort_all()
    return seconds


def concurrent(driver: Driver, steps: int) -> None:
    driver.finish(*[driver.submit(steps, seed) for seed in range(CALLS)])


def rates(driver: Driver, folder: Path, dtype: torch.dtype, steps: int, rounds: int) -> dict[str, float]:
    same, precise = load_pipeline(folder, dtype), load_pipeline(folder, torch.float32)
    facts = driver.backend.status().facts
    size = {"width": int(facts["native_width"]), "height": int(facts["native_height"])}

    def pipeline(pipe: Any) -> None:
        generator = torch.Generator("cpu").manual_seed(0)
        pipe(
            PROMPT, negative_prompt=NEGATIVE, generator=generator, num_inference_steps=steps, guidance_scale=7.5, **size
        )

    contenders: dict[str, Callable[[], object]] = {
        "pipeline_same_dtype": lambda: pipeline(same),
        "alone": lambda: driver.finish(driver.submit(steps)),
        "pipeline_float32": lambda: pipeline(precise),
        "eight": lambda: concurrent(driver, steps),
        "short_alone": lambda: driver.finish(driver.submit(4)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*contenders, "short_among_long")}
    for round_number in range(rounds + 1):
        for name, work in contenders.items():
            taken = timed(work)
            if round_number:  # the first round warms up
                seconds[name].append(taken)
        if round_number:
            seconds["short_among_long"].append(short_among_long(driver))
    return {name: statistics.median(values) for name, values in seconds.items()}


def distance(driver: Driver, folder: Path, steps: int, seeds: int = 5) -> float:
    """Median PSNR in dB of EXACT pictures at the backend's dtype to EXACT pictures at float32."""
    other = Driver(create(ModelSpec("bench", "1", folder, dtype="float32")))
    other.backend.load()
    values = []
    for seed in range(seeds):
        made = []
        for one in (driver, other):
            events = one.submit(steps, seed, exact=True)
            one.finish(events)
            made.append(next(event.pixels.astype(float) for event in events if isinstance(event, JobImage)))
        error = float(np.mean((made[0] - made[1]) ** 2))
        values.append(10 * np.log10(255**2 / max(error, 1e-9)))
    return float(statistics.median(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    starter = ROOT / "models" / "starter" / "1"
    parser.add_argument("checkpoint", type=Path, nargs="?", default=starter)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", message="__array__ implementation")
    spec = ModelSpec("bench", "1", args.checkpoint, dtype=args.dtype, threads=args.threads)
    driver = Driver(create(spec))
    driver.backend.load()
    dtype_name = driver.backend.status().dtype
    seconds = rates(driver, args.checkpoint, getattr(torch, dtype_name), args.steps, args.rounds)
    gc.collect()
    report = {
        "dtype": dtype_name,
        "steps": args.steps,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "alone_over_pipeline": seconds["alone"] / seconds["pipeline_same_dtype"],
        "eight_over_pipeline_float32": CALLS * seconds["pipeline_float32"] / seconds["eight"],
        "eight_over_pipeline_same_dtype": CALLS * seconds["pipeline_same_dtype"] / seconds["eight"],
        "short_among_long_over_alone": seconds["short_among_long"] / seconds["short_alone"],
        "psnr_to_float32_db": distance(driver, args.checkpoint, args.steps),
        "counters": dict(driver.backend.status().counters),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
