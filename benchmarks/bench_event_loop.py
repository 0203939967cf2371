"""Measures the longest time that the server's event loop was blocked while pictures were resampled and encoded.

    python benchmarks/bench_event_loop.py [--side 1024] [--calls 8] [--rounds 5]

A server with the echo model runs in this process; a task of its loop sleeps 1 ms at a time and notes how late it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import grpc

from atelier.v1 import image_generation_pb2, image_generation_pb2_grpc
from atelier_server.backends.base import ModelSpec
from atelier_server.executor.base import Executor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.testing import echo_server


def spawned(spec: ModelSpec) -> Executor:
    """A runner process, as in production: the loop shares its process with nothing else."""
    return SubprocessExecutor(spec, str(spec.config["backend"]))


async def ticking(late: list[float]) -> None:
    """Notes how much longer than 1 ms each sleep of 1 ms took."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - begin - 0.001)


async def call(channel: grpc.aio.Channel, side: int, seed: int) -> int:
    """One call; returns the bytes of its picture."""
    stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
    request = image_generation_pb2.GenerateRequest(
        prompt="a vase", width=side, height=side, seed=seed, num_inference_steps=1
    )
    return sum([len(event.image_chunk.data) async for event in stub.Generate(request)])


async def measure(side: int, calls: int, rounds: int) -> dict[str, object]:
    """The worst lateness of every round, in ms."""
    worst: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with echo_server(Path(folder), executor_factory=spawned, drain_delay_seconds=0.0) as server:
            await call(server.channel, side, 0)
            for number in range(rounds):
                late: list[float] = []
                ticker = asyncio.create_task(ticking(late))
                sizes = await asyncio.gather(
                    *(call(server.channel, side, 1 + number * calls + index) for index in range(calls))
                )
                ticker.cancel()
                assert all(sizes)
                worst.append(1000 * max(late))
    return {
        "side": side,
        "calls": calls,
        "longest block of the loop in ms (wanted: at most 50)": {
            "median": round(statistics.median(worst), 1),
            "min": round(min(worst), 1),
            "max": round(max(worst), 1),
        },
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.side, arguments.calls, arguments.rounds)), indent=2))


if __name__ == "__main__":
    main()
