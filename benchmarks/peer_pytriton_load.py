"""Calls PyTriton's SDXL from several threads, in the Triton client's own environment.

python benchmarks/peer_pytriton_load.py HOST:PORT

It prints one line of JSON when the model is ready, and for every line {"steps", "side", "count", "seed"} that it reads
the seconds until the last of `count` calls at once.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc as triton

LONGEST_START_SECONDS = 300.0


def main() -> None:
    """Answers lines of standard input."""
    client = triton.InferenceServerClient(sys.argv[1])
    begin = time.perf_counter()
    while not ready(client):
        if time.perf_counter() - begin > LONGEST_START_SECONDS:
            sys.exit("PyTriton did not start")
        time.sleep(1)
    print(json.dumps({"load_seconds": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        with ThreadPoolExecutor(asked["count"]) as pool:
            calls = [pool.submit(call, client, asked, asked["seed"] + index) for index in range(asked["count"])]
            for one in calls:
                one.result()
        print(json.dumps({"seconds": time.perf_counter() - begin, "peak_rss_bytes": 0}), flush=True)


def ready(client: triton.InferenceServerClient) -> bool:
    """Whether Triton answers and has the model."""
    try:
        return bool(client.is_model_ready("sdxl"))
    except triton.InferenceServerException:
        return False


def call(client: triton.InferenceServerClient, asked: dict[str, int], seed: int) -> None:
    """One picture."""
    side = asked["side"]
    inputs = [
        tensor("prompt", "BYTES", np.array([["a red leather handbag on white marble, soft light"]], dtype=object)),
        tensor("negative", "BYTES", np.array([["blurry"]], dtype=object)),
        tensor("seed", "INT64", np.array([[seed]], dtype=np.int64)),
        tensor("steps", "INT32", np.array([[asked["steps"]]], dtype=np.int32)),
        tensor("side", "INT32", np.array([[side]], dtype=np.int32)),
    ]
    image = client.infer("sdxl", inputs).as_numpy("image")
    assert image.shape == (1, side, side, 3)


def tensor(name: str, datatype: str, value: np.ndarray) -> triton.InferInput:
    """An input with its value."""
    made = triton.InferInput(name, list(value.shape), datatype)
    made.set_data_from_numpy(value)
    return made


main()
