"""What the front end itself costs: calls and events per second through a model that computes nothing, with a profile.

python benchmarks/bench_frontend.py [--seconds 5 --rounds 5 --callers 16]

The server is started as an operator would, with one runner process; the caller is another process on the same cores and
takes its share of them. The profile is of the server's event loop under the same load, in a run of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from served import served

from atelier_server.backends.base import ModelSpec
from atelier_server.executor.base import Executor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.testing import echo_server
from atelier_server.testing.servers import write_echo_model
from common import ROOT, machine, summary, write

SHAPES = {"calls of one step": 1, "calls of 100 steps": 100}
SHOWN = 15


async def load(address: str, steps: int, callers: int, seconds: float) -> dict[str, Any]:
    """One round of calls from another process."""
    command = [str(ROOT / "benchmarks" / "frontend_load.py"), address, str(steps), str(callers), str(seconds)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit("the caller failed")
    answer: dict[str, Any] = json.loads(output)
    return answer


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Calls and events per second, and the milliseconds of a call alone."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        write_echo_model(models)
        with served(models, Path(folder) / "state", ("echo",)) as address:
            for name, steps in SHAPES.items():
                rounds = [
                    asyncio.run(load(address, steps, options.callers, options.seconds)) for _ in range(options.rounds)
                ]
                found[name] = {
                    "calls_per_second": summary([one["calls"] / one["seconds"] for one in rounds]),
                    "events_per_second": summary([one["events"] / one["seconds"] for one in rounds]),
                    "call_ms_p50": summary([statistics.median(one["ms"]) for one in rounds]),
                }
            lone = [asyncio.run(load(address, 1, 1, options.seconds / 2)) for _ in range(options.rounds)]
            found["one call after another, ms"] = summary([statistics.median(one["ms"]) for one in lone])
    return found


def spawned(spec: ModelSpec) -> Executor:
    """A runner process, as in production."""
    return SubprocessExecutor(spec, str(spec.config["backend"]))


async def profiled(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Where the event loop's thread spends its time with streaming calls: the functions with most time of their own."""
    profile = cProfile.Profile(time.thread_time)  # what others compute meanwhile does not count
    with tempfile.TemporaryDirectory() as folder:
        async with echo_server(Path(folder), executor_factory=spawned, drain_delay_seconds=0.0) as server:
            profile.enable()
            await load(server.address, SHAPES["calls of 100 steps"], options.callers, options.seconds)
            profile.disable()
    stats = pstats.Stats(profile)
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])  # type: ignore[attr-defined]
    waiting = ("epoll", "select.")
    busy = [(where, one) for where, one in entries if not any(word in where[2] for word in waiting)]
    total = sum(one[2] for _, one in busy)
    return [
        {
            "function": f"{Path(file).name}:{line} {name}" if line else name,
            "calls": one[1],
            "share": round(one[2] / total, 3),
        }
        for (file, line, name), one in busy[:SHOWN]
    ]


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=16)
    options = parser.parse_args()
    facts = machine()
    measured = rates(options)
    write(
        "frontend",
        {
            "machine": facts,
            "callers": options.callers,
            **measured,
            "profile of the loop while streaming": asyncio.run(profiled(options)),
        },
    )


if __name__ == "__main__":
    main()
