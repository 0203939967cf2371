"""Ten times as many calls as the server can do: what gets done, what is refused, and how true the estimates are.

    python benchmarks/overload.py [--seconds 60] [--times 10] [--model echo|starter] [--json FILE]

First the capacity is measured with as many callers as keep the model busy. Then calls arrive at `--times` that rate,
at random times, each with its own deadline, none tried again; then one call is measured alone. Printed are the goodput
as a share of the capacity, the errors of the estimates that accepted calls were given (Queued: until the first step,
and until the last picture), how long they took over their estimate, how fast refused ones heard, and the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from servers import ROOT, Server, running

from atelier_client import AsyncAtelier, AtelierError, Completed, Queued, Retry, Started
from atelier_server.testing import write_echo_model

STEP_SECONDS, ROWS, STEPS = 0.1, 4, 10
"""Of the echo model: four calls a second."""
DEADLINE_SECONDS = 30.0
LEAST_WAIT_SECONDS = 0.5
"""Errors of shorter waits say nothing: they are of the size of a step."""
MIB = 1024 * 1024


@dataclass
class Call:
    """One call and what it heard when; seconds from its begin."""

    refused: str = ""
    estimated_wait: float | None = None
    estimated_total: float | None = None
    waited: float | None = None
    took: float = 0.0


async def call(atelier: AsyncAtelier, number: int) -> Call:
    """Makes one call that no cache answers."""
    heard, began = Call(), time.monotonic()
    fields: dict[str, Any] = {"width": 128, "height": 128, "num_inference_steps": STEPS, "seed": number}
    fields |= {"style": "none", "cache": "bypass", "brand_consistency_check": False}
    try:
        events = atelier.generate_events("a red handbag on marble", timeout=DEADLINE_SECONDS, **fields)
        async with aclosing(events):
            async for event in events:
                now = time.monotonic() - began
                if isinstance(event, Queued) and event.estimated_completion_seconds and heard.estimated_total is None:
                    heard.estimated_wait = event.estimated_wait_seconds
                    heard.estimated_total = now + event.estimated_completion_seconds
                elif isinstance(event, Started):
                    heard.waited = now
                elif isinstance(event, Completed):
                    heard.took = now
    except AtelierError as error:
        heard.refused, heard.took = error.code, time.monotonic() - began
    return heard


async def capacity(atelier: AsyncAtelier, seconds: float, callers: int) -> float:
    """Calls a second with so many callers that come again at once."""
    end, done = time.monotonic() + seconds, 0

    async def caller(first: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            heard = await call(atelier, first)
            done += not heard.refused

    began = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return done / (time.monotonic() - began)


async def flood(atelier: AsyncAtelier, seconds: float, rate: float) -> list[Call]:
    """Calls at random times, `rate` a second on average."""
    calls: list[asyncio.Task[Call]] = []
    began, due = time.monotonic(), 0.0
    while due < seconds:
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        calls.append(asyncio.create_task(call(atelier, len(calls))))
        due += random.expovariate(rate)
    return await asyncio.gather(*calls)


def memory(server: Server) -> int:
    """Bytes of the server and its runners."""
    return sum(process.memory_info().rss for process in server.tree())


def cpu_seconds(server: Server) -> dict[str, float]:
    """What the processes have computed so far, this one too."""
    server_process, *runners = server.tree()
    processes = {"server": [server_process], "runner": runners, "callers": [psutil.Process()]}
    return {
        name: sum(process.cpu_times().user + process.cpu_times().system for process in group)
        for name, group in processes.items()
    }


def percentile(values: list[float], share: float) -> float | None:
    """Nearest rank."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)] if values else None


async def measure(server: Server, seconds: float, times: float, callers: int) -> dict[str, Any]:
    """The whole show on a running server."""
    async with AsyncAtelier(server.address, retry=Retry(attempts=1)) as atelier:
        await capacity(atelier, 2.0, callers)
        able = await capacity(atelier, max(5.0, seconds / 6), callers)
        alone = (await call(atelier, 0)).took
        before, spent, began = memory(server), cpu_seconds(server), time.monotonic()
        calls = await flood(atelier, seconds, times * able)
        took = time.monotonic() - began
        after, spent_after = memory(server), cpu_seconds(server)
        await asyncio.sleep(1)
        alone_after = min([(await call(atelier, 0)).took for _ in range(3)])
    done = [one for one in calls if not one.refused]
    told = [one for one in done if one.estimated_total is not None and one.waited is not None]
    waits = [one for one in told if one.waited is not None and one.waited >= LEAST_WAIT_SECONDS]
    refusals = [one.took for one in calls if one.refused]
    over = [one.took / one.estimated_total for one in told if one.estimated_total]
    return {
        "seconds": round(took, 1),
        "capacity_per_second": round(able, 2),
        "sent": len(calls),
        "finished": len(done),
        "refused": dict(Counter(one.refused for one in calls if one.refused)),
        "goodput_of_capacity (wanted: at least 0.9)": round(len(done) / took / able, 3),
        "median_error_of_the_wait (wanted: at most 0.3)": _rounded(
            statistics.median([abs((one.estimated_wait or 0.0) - one.waited) / one.waited for one in waits])  # type: ignore[operator]
            if waits
            else None
        ),
        "median_error_of_the_total (wanted: at most 0.3)": _rounded(
            statistics.median([abs(one - 1) for one in over]) if over else None
        ),
        "p95_of_time_over_estimate (wanted: at most 2)": _rounded(percentile(over, 0.95)),
        "p95_of_refusals_ms (wanted: at most 100)": _rounded(_milliseconds(percentile(refusals, 0.95))),
        "median_of_refusals_ms": _rounded(_milliseconds(percentile(refusals, 0.5))),
        "cpu_ms_per_call": {
            name: round(1000 * (spent_after[name] - spent[name]) / len(calls), 1) for name in spent_after
        },
        "memory_mib before, after": [round(before / MIB), round(after / MIB)],
        "alone_seconds before, 1 s after": [round(alone, 2), round(alone_after, 2)],
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


async def show(arguments: argparse.Namespace) -> dict[str, Any]:
    """On a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model == "echo":
            models = Path(folder) / "models"
            write_echo_model(models, step_seconds=STEP_SECONDS, max_rows=ROWS, max_waiting=arguments.max_waiting)
            server, callers = Server(models, Path(folder) / "state"), 3 * ROWS
        else:
            server = Server(ROOT / "models", Path(folder) / "state", ("--load-model", "starter"))
            callers = 4 * ROWS
        async with running(server):
            return await measure(server, arguments.seconds, arguments.times, callers)


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--model", choices=["echo", "starter"], default="echo")
    parser.add_argument("--max-waiting", type=int, default=64, help="the echo model's queue")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "overload.json")
    arguments = parser.parse_args()
    figures = asyncio.run(show(arguments))
    text = json.dumps(figures, indent=2)
    print(text)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
