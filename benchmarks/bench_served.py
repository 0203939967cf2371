"""Measures a served starter against diffusers' own pipeline, through gRPC, in one run on one machine.

    python benchmarks/bench_served.py [--model-repository models] [--steps 25] [--rounds 5] [--json FILE]

It starts the server as an operator would (the starter alone, so nothing is scored), calls it from threads of this
process, and lets the contenders take turns in every round. Reported are medians with minimum and maximum: one call
alone, eight at once, a 4-step call among four 100-step calls, and the time to the first event of an idle server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from served import served

from atelier_client import Atelier

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a red leather handbag on white marble, soft light"
CALLS = 8
SIDE = 128


class Caller:
    """Makes calls that nothing answers from a cache."""

    def __init__(self, address: str, steps: int) -> None:
        self.atelier = Atelier(address)
        self.steps = steps
        self._count = 0
        self._lock = threading.Lock()

    def call(self, steps: int | None = None) -> float:
        """One call from request to picture; returns its seconds."""
        with self._lock:
            self._count += 1
            seed = self._count
        begin = time.perf_counter()
        self.atelier.generate(
            PROMPT,
            style="none",
            negative_prompt="blurry",
            width=SIDE,
            height=SIDE,
            seed=seed,
            num_inference_steps=steps or self.steps,
            cache="bypass",
            brand_consistency_check=False,
        )
        return time.perf_counter() - begin

    def together(self, count: int) -> float:
        """So many calls at once; returns the seconds until the last picture."""
        begin = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            for future in [pool.submit(self.call) for _ in range(count)]:
                future.result()
        return time.perf_counter() - begin

    def first_event(self) -> float:
        """Seconds from the call to its first event; the rest is dropped."""
        begin = time.perf_counter()
        events = self.atelier.generate_events(PROMPT, num_inference_steps=1, width=SIDE, height=SIDE, cache="bypass")
        next(iter(events))
        seconds = time.perf_counter() - begin
        for _ in events:
            pass
        return seconds

    def short_among_long(self) -> float:
        """Seconds of a 4-step call that arrives while four 100-step calls run."""
        with ThreadPoolExecutor(4) as pool:
            long = [pool.submit(self.call, 100) for _ in range(4)]
            time.sleep(0.5)
            seconds = self.call(4)
            assert not any(future.done() for future in long), "the long calls were over before the short one came"
            for future in long:
                future.result()
        return seconds


def pipeline_call(folder: Path, dtype: torch.dtype, steps: int) -> Callable[[], float]:
    """One call of diffusers' pipeline, loaded once; returns its seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)

    def call() -> float:
        begin = time.perf_counter()
        generator = torch.Generator("cpu").manual_seed(1)
        pipe(
            PROMPT,
            negative_prompt="blurry",
            width=SIDE,
            height=SIDE,
            num_inference_steps=steps,
            guidance_scale=7.5,
            generator=generator,
        )
        return time.perf_counter() - begin

    call()
    return call


def summary(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum, rounded."""
    three = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in three.items()}


def ratios(above: list[float], below: list[float]) -> dict[str, float]:
    """Of contenders measured in the same rounds."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def served_dtype(atelier: Atelier) -> torch.dtype:
    """What the starter computes in."""
    dtypes = {row.model: row.dtype for row in atelier.health().instances}
    return getattr(torch, dtypes["starter"])  # type: ignore[no-any-return]


def measure(caller: Caller, folder: Path, rounds: int) -> dict[str, Any]:
    """Takes turns round by round."""
    dtype = served_dtype(caller.atelier)
    pipe_f32 = pipeline_call(folder, torch.float32, caller.steps)
    pipe_same = pipe_f32 if dtype is torch.float32 else pipeline_call(folder, dtype, caller.steps)
    caller.call()
    caller.together(CALLS)
    alone, at_once, f32, same, short, short_alone = ([] for _ in range(6))  # type: ignore[var-annotated]
    for number in range(rounds):
        f32.append(pipe_f32())
        same.append(pipe_same())
        alone.append(caller.call())
        at_once.append(caller.together(CALLS) / CALLS)
        short_alone.append(caller.call(4))
        short.append(caller.short_among_long())
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    first = sorted(caller.first_event() for _ in range(50))
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "steps": caller.steps,
        "rounds": rounds,
        "seconds": {
            "diffusers float32": summary(f32),
            "diffusers same dtype": summary(same),
            "served alone": summary(alone),
            "served, a picture of eight at once": summary(at_once),
            "4 steps alone": summary(short_alone),
            "4 steps among four of 100": summary(short),
        },
        "alone over diffusers same dtype (wanted: at most 1.1)": ratios(alone, same),
        "eight at once against diffusers float32 (wanted: at least 2)": ratios(f32, at_once),
        "eight at once against diffusers same dtype (wanted: at least 1.5)": ratios(same, at_once),
        "short among long over alone (wanted: at most 3)": ratios(short, short_alone),
        "first event p95 of 50 in ms (wanted: at most 50)": round(1000 * first[47], 2),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-repository", type=Path, default=ROOT / "models")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--compile", default="on", help="off: torch computes operator by operator")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with (
        tempfile.TemporaryDirectory() as state,
        served(arguments.model_repository, Path(state), flags=("--compile", arguments.compile)) as address,
    ):
        figures = measure(
            Caller(address, arguments.steps), arguments.model_repository / "starter" / "1", arguments.rounds
        )
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
