"""Mixed calls that arrive at random: 60% of 30 steps, 25% of 20 steps at half size, 15% of 4 steps.

python benchmarks/bench_mixed.py [--execution compiled --calls 150 --loads 0.5 0.8 0.95 1.1]

Load 1 is what diffusers' pipeline (bfloat16) can do one call after another. The same arrivals meet the served starter,
in real time, and a serial first-come-first-served queue before that pipeline, whose waiting times follow exactly from
the arrivals and from its own times for each kind of call, measured in the same run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calling import Caller
from field import contender
from repositories import starter_by
from served import served

from common import STARTER, machine, summary, write

KINDS = {"30 steps": (30, 128, 0.60), "20 steps, half size": (20, 64, 0.25), "4 steps": (4, 128, 0.15)}
SOLO_CALLS = 5
WITHIN = 3.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call of a kind, `at` seconds after the begin."""

    at: float
    kind: str


def arrivals(count: int, per_second: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of mixed kinds; the same for the same seed, but for the time scale."""
    dice, now, made = random.Random(seed), 0.0, []
    kinds, shares = list(KINDS), [share for _, _, share in KINDS.values()]
    for _ in range(count):
        now += dice.expovariate(per_second)
        made.append(Arrival(now, dice.choices(kinds, shares)[0]))
    return made


def serial(calls: list[Arrival], seconds: dict[str, float]) -> list[float]:
    """From arrival to end in a queue that does one after another."""
    free, taken = 0.0, []
    for one in calls:
        free = max(free, one.at) + seconds[one.kind]
        taken.append(free - one.at)
    return taken


def play(caller: Caller, calls: list[Arrival]) -> list[float]:
    """From arrival to picture, in real time."""
    begin = time.perf_counter()

    def call(one: Arrival) -> float:
        caller.call(*KINDS[one.kind][:2])
        return time.perf_counter() - begin - one.at

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = []
        for one in calls:
            time.sleep(max(0.0, begin + one.at - time.perf_counter()))
            futures.append(pool.submit(call, one))
        return [future.result() for future in futures]


def figures(calls: list[Arrival], taken: list[float], solo: dict[str, float]) -> dict[str, float]:
    """Mean, p50, p95 in seconds and the share within 3× the kind's time alone."""
    within = sum(seconds <= WITHIN * solo[one.kind] for one, seconds in zip(calls, taken, strict=True))
    cuts = statistics.quantiles(taken, n=20, method="inclusive")
    return {
        "mean": round(statistics.mean(taken), 3),
        "p50": round(cuts[9], 3),
        "p95": round(cuts[18], 3),
        "within 3x alone": round(within / len(taken), 3),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times alone first, in turns; then every load."""
    alone: dict[str, dict[str, list[float]]] = {"diffusers": {}, "served": {}}
    with tempfile.TemporaryDirectory() as folder, contender("diffusers-bfloat16", STARTER, 128) as pipe:
        repository = starter_by(Path(folder), options.execution, "bfloat16")
        with served(repository, Path(folder) / "state") as address:
            caller = Caller(address)
            for number in range(SOLO_CALLS + 1):
                for kind, (steps, side, _) in KINDS.items():
                    pair = {"diffusers": pipe.make(steps, side), "served": caller.make(steps, side)}
                    for who, seconds in pair.items():
                        if number:
                            alone[who].setdefault(kind, []).append(seconds)
            solo = {who: {kind: statistics.median(all_) for kind, all_ in one.items()} for who, one in alone.items()}
            per_second = 1 / sum(share * solo["diffusers"][kind] for kind, (_, _, share) in KINDS.items())
            loads = {}
            for load in options.loads:
                calls = arrivals(options.calls, load * per_second, seed=options.seed)
                ours = figures(calls, play(caller, calls), solo["served"])
                theirs = figures(calls, serial(calls, solo["diffusers"]), solo["diffusers"])
                loads[str(load)] = {
                    "served": ours,
                    "serial": theirs,
                    "served over serial": {key: round(ours[key] / max(theirs[key], 1e-3), 3) for key in ours},
                }
                print(f"load {load}: {loads[str(load)]}", file=sys.stderr, flush=True)
    return {
        "seconds alone": {who: {kind: summary(values) for kind, values in one.items()} for who, one in alone.items()},
        "serial capacity in calls per second": round(per_second, 3),
        "loads": loads,
    }


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--execution", default="compiled")
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.95, 1.1])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="")
    options = parser.parse_args()
    facts = machine()
    measured = measure(options)
    name = options.name or f"mixed-{options.execution}"
    write(name, {"machine": facts, "execution": options.execution, "calls": options.calls, **measured})


if __name__ == "__main__":
    main()
