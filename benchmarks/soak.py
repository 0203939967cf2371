"""Calls of many kinds for a long time, with callers who leave and runners that are killed; looks for what grows.

    python benchmarks/soak.py [--minutes 60] [--rate 2] [--starter] [--kill-minutes 5] [--json FILE]

The echo model gets most calls; with `--starter` the shipped models make and score a picture every few seconds too.
Every `--sample-seconds` memory, file descriptors, threads and processes of the server and its runners are noted, and
what lies in /dev/shm and in the server's temporary folder. The last two thirds are judged: memory by its slope,
the rest by whether its least value in the last third is above the greatest of the middle one. Exit status 1 when
something grew, or a call failed in a way that callers cannot act on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from servers import ROOT, Server, running

from atelier_client import AsyncAtelier, AtelierError, Progress, Retry
from atelier_server.testing import write_echo_model

MOST_GROWTH_MIB_PER_HOUR = 60.0
"""Of all processes together; caches are filled before the judged part begins, since few different calls are made."""
ACTIONABLE = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
PROMPTS = ("a red handbag on marble", "a blue chair", "a cup of tea", "a gold ring")
MIB = 1024 * 1024
FLAT = ("descriptors", "threads", "processes", "shm_files", "temporary_folders")


async def generate(atelier: AsyncAtelier, number: int, model: str) -> None:
    """A call of one of several kinds; one in ten leaves in the middle."""
    kinds = itertools.cycle(
        (
            {"seed": number % 16},
            {"num_images": 3, "preview": {"every_n_steps": 2}},
            {"cache": "bypass", "reproducibility": "exact"},
            {"on_disconnect": "continue", "request_id": f"{model}-{number}"},
            {"gate": "retry", "max_attempts": 2},
        )
    )
    fields: dict[str, Any] = {"width": 128, "height": 128, "num_inference_steps": 8, "model_name": model}
    fields |= next(itertools.islice(kinds, number % 5, None))
    events = atelier.generate_events(PROMPTS[number % 4], timeout=60.0, **fields)
    try:
        async for event in events:
            if number % 10 == 9 and isinstance(event, Progress):
                return
    finally:
        await events.aclose()


class Soak:
    """The calls and what became of them."""

    def __init__(self, server: Server, arguments: argparse.Namespace) -> None:
        self.server = server
        self.arguments = arguments
        self.end = time.monotonic() + 60 * arguments.minutes
        self.outcomes: Counter[str] = Counter()
        self.samples: list[dict[str, float]] = []
        self.kills = 0

    async def run(self) -> None:
        """Until the time is over."""
        async with AsyncAtelier(self.server.address, retry=Retry(attempts=1)) as atelier:
            work = [self._calls(atelier, "echo", self.arguments.rate), self._sample(), self._kill()]
            if self.arguments.starter:
                work += [self._calls(atelier, "starter", 0.2), self._scores(atelier)]
            await asyncio.gather(*work)

    async def _calls(self, atelier: AsyncAtelier, model: str, rate: float) -> None:
        open_calls: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            if time.monotonic() >= self.end:
                break
            task = asyncio.create_task(self._noted(generate(atelier, number, model)))
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)
            await asyncio.sleep(random.expovariate(rate))
        await asyncio.gather(*open_calls)

    async def _scores(self, atelier: AsyncAtelier) -> None:
        picture = (await atelier.generate(PROMPTS[0], model_name="starter", seed=1)).images[0].data
        while time.monotonic() < self.end:
            await self._noted(atelier.score(picture, prompt=PROMPTS[0]))
            await asyncio.sleep(2)

    async def _noted(self, work: Any) -> None:
        try:
            await work
            self.outcomes["done"] += 1
        except AtelierError as error:
            self.outcomes[error.code] += 1

    async def _kill(self) -> None:
        pause = 60 * self.arguments.kill_minutes
        while pause and time.monotonic() + pause < self.end - 60:
            await asyncio.sleep(pause)
            with suppress(LookupError, psutil.Error):
                self.server.runner("echo").kill()
                self.kills += 1

    async def _sample(self) -> None:
        began = time.monotonic()
        while time.monotonic() < self.end:
            with suppress(psutil.Error):  # a process ended while it was looked at
                self.samples.append(sample(self.server, time.monotonic() - began))
            await asyncio.sleep(self.arguments.sample_seconds)


def sample(server: Server, seconds: float) -> dict[str, float]:
    """What there is now."""
    tree = server.tree()
    return {
        "seconds": round(seconds, 1),
        "memory_mib": round(sum(process.memory_info().rss for process in tree) / MIB, 2),
        "server_mib": round(tree[0].memory_info().rss / MIB, 2),
        "descriptors": sum(process.num_fds() for process in tree),
        "threads": sum(process.num_threads() for process in tree),
        "processes": len(tree),
        "shm_files": len(list(Path("/dev/shm").iterdir())),
        "temporary_folders": len(list(server.temporary.iterdir())),
    }


def verdict(samples: list[dict[str, float]]) -> dict[str, Any]:
    """What grew, by the last two thirds."""
    judged = samples[len(samples) // 3 :]
    middle, last = judged[: len(judged) // 2], judged[len(judged) // 2 :]
    hours = [one["seconds"] / 3600 for one in judged]
    slopes = {
        name: round(statistics.linear_regression(hours, [one[name] for one in judged]).slope, 2)
        for name in ("memory_mib", "server_mib")
    }
    grown = [name for name in FLAT if min(one[name] for one in last) > max(one[name] for one in middle)]
    if slopes["server_mib"] > MOST_GROWTH_MIB_PER_HOUR:
        grown.append("server_mib")
    ranges = {name: [min(one[name] for one in judged), max(one[name] for one in judged)] for name in FLAT}
    return {"slopes_per_hour": slopes, "ranges": ranges, "first": samples[0], "last": samples[-1], "grown": grown}


async def show(arguments: argparse.Namespace) -> dict[str, Any]:
    """On a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        write_echo_model(models, step_seconds=0.02)
        if arguments.starter:
            for name in ("starter", "starter_clip", "starter_brand"):
                shutil.copytree(ROOT / "models" / name, models / name)
        server = Server(models, Path(folder) / "state", ("--cache-memory-bytes", str(8 * MIB)))
        async with running(server):
            soak = Soak(server, arguments)
            await soak.run()
    told = verdict(soak.samples)
    failed = {code: count for code, count in soak.outcomes.items() if code not in ACTIONABLE | {"done"}}
    return {
        "minutes": arguments.minutes,
        "calls": dict(soak.outcomes),
        "failed": failed,
        "runners_killed": soak.kills,
        "samples": len(soak.samples),
        **told,
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=2.0, help="echo calls a second")
    parser.add_argument("--kill-minutes", type=float, default=5.0, help="time between two kills of a runner; 0: none")
    parser.add_argument("--sample-seconds", type=float, default=5.0)
    parser.add_argument("--starter", action="store_true", help="the shipped models too")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "soak.json")
    arguments = parser.parse_args()
    figures = asyncio.run(show(arguments))
    text = json.dumps(figures, indent=2)
    print(text)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(text + "\n")
    if figures["grown"] or figures["failed"]:
        raise SystemExit("something grew or failed")


if __name__ == "__main__":
    main()
