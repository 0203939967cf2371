"""Keeps a server busy with calls to a model that computes nothing. For bench_frontend.py.

python benchmarks/frontend_load.py HOST:PORT STEPS CALLERS SECONDS

Prints one line of JSON: calls, events, seconds, and the milliseconds of each call.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc

from atelier.v1 import common_pb2, image_generation_pb2, image_generation_pb2_grpc


async def main() -> None:
    """Calls for so many seconds."""
    address, steps, callers, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    calls, events, took, seed = 0, 0, [], 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)

        async def call() -> None:
            nonlocal calls, events, seed
            seed += 1
            request = image_generation_pb2.GenerateRequest(
                prompt="a vase",
                width=64,
                height=64,
                seed=seed,
                num_inference_steps=steps,
                brand_consistency_check=False,
                cache=common_pb2.CACHE_POLICY_BYPASS,  # every round begins with the same seeds
            )
            began = time.perf_counter()
            count = 0
            async for _ in stub.Generate(request):
                count += 1
            calls, events = calls + 1, events + count
            took.append(round(1000 * (time.perf_counter() - began), 2))

        async def keep_calling(end: float) -> None:
            while time.perf_counter() < end:
                await call()

        await call()
        calls, events, took = 0, 0, []
        begin = time.perf_counter()
        await asyncio.gather(*(keep_calling(begin + seconds) for _ in range(callers)))
        elapsed = time.perf_counter() - begin
    print(json.dumps({"calls": calls, "events": events, "seconds": elapsed, "ms": took}), flush=True)


asyncio.run(main())
