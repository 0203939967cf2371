"""Keeps a KServe V2 server busy with pictures for a CLIP image tower, and prints one JSON object. For bench_kserve.py.

It runs in an environment of its own, with NVIDIA's asyncio client, the same for every server.
"""

import asyncio
import json
import sys
import time

import numpy as np
import tritonclient.grpc.aio as triton


async def main() -> None:
    """Arguments: address, model, input, output, side of the picture, concurrency, seconds."""
    address, model, taken, given, side, concurrency, seconds = sys.argv[1:8]
    pixels = np.random.default_rng(0).standard_normal((1, 3, int(side), int(side)), np.float32)
    tensor = triton.InferInput(taken, pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    wanted = [triton.InferRequestedOutput(given)]
    took: list[float] = []
    async with triton.InferenceServerClient(address) as client:
        first = (await client.infer(model, [tensor], outputs=wanted)).as_numpy(given)
        end = time.perf_counter() + float(seconds)

        async def ask() -> None:
            while (began := time.perf_counter()) < end:
                await client.infer(model, [tensor], outputs=wanted)
                took.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(int(concurrency))))
        elapsed = time.perf_counter() - began
    p50, p95 = np.percentile(took, [50, 95]) * 1000
    facts = {"per_second": len(took) / elapsed, "p50_ms": p50, "p95_ms": p95, "calls": len(took)}
    print(json.dumps(facts | {"embedding": first.ravel().tolist()}))


asyncio.run(main())
