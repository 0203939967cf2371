"""One way to make pictures, in a process of its own, so that its memory is its own and all can take turns.

    python benchmarks/contender.py KIND CHECKPOINT

KIND is diffusers-float32, diffusers-bfloat16, diffusers-advised (what diffusers' guide to fast inference advises:
bfloat16, channels_last, fused projections, compiled), atelier-torch-DTYPE, atelier-compiled-DTYPE or
atelier-openvino-DTYPE (this repository's engine without a server). It prints one line of JSON when it is loaded, and
one for every line that it reads:
{"steps": 25, "side": 128, "count": 1} makes `count` pictures, at once where it can.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

if sys.argv[1].startswith("atelier"):  # as a runner has it; others have what torch chooses
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import GUIDANCE, NEGATIVE, PROMPT, ROOT

Make = Callable[[int, int, int, int], object]


def diffusers_pipeline(way: str, checkpoint: Path) -> Make:
    """diffusers' own pipeline; several pictures are made one after another."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    dtype = torch.float32 if way == "float32" else torch.bfloat16
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(checkpoint, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if way == "advised":
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
        pipe.fuse_qkv_projections()
        pipe.unet = torch.compile(pipe.unet)
        pipe.vae.decode = torch.compile(pipe.vae.decode)

    def make(steps: int, side: int, count: int, seed: int) -> None:
        for index in range(count):
            pipe(
                PROMPT,
                negative_prompt=NEGATIVE,
                width=side,
                height=side,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=torch.Generator("cpu").manual_seed(seed + index),
            )

    return make


def engine(execution: str, dtype: str, checkpoint: Path) -> Make:
    """The step engine of this repository, driven without a server."""
    from atelier_server.backends.base import DiffusionTask, Job, JobDone, JobEvent, JobFailed, ModelSpec
    from atelier_server.backends.sdxl import create

    side = json.loads((checkpoint / "unet" / "config.json").read_text())["sample_size"]
    factor = 2 ** (len(json.loads((checkpoint / "vae" / "config.json").read_text())["block_out_channels"]) - 1)
    native = os.environ.get("BENCH_SIDE", str(side * factor))
    parameters = {"native_width": native, "native_height": native}
    parameters["execution"] = "openvino" if execution == "openvino" else "torch"
    parameters["compile"] = "on" if execution == "compiled" else "off"
    threads = len(os.sched_getaffinity(0))
    derived = str(ROOT / "build" / "bench-derived")
    spec = ModelSpec(
        f"bench_{checkpoint.parent.name}",
        "1",
        checkpoint,
        parameters,
        dtype=dtype,
        threads=threads,
        derived_folder=derived,
    )
    backend = create(spec)
    backend.load()
    calls = 0

    def make(steps: int, side: int, count: int, seed: int) -> None:
        nonlocal calls
        said: list[list[JobEvent]] = []
        for index in range(count):
            calls += 1
            name = f"{calls}"
            # A prompt of its own for every call: nothing may come from the cache of embeddings.
            task = DiffusionTask(name, f"{PROMPT}, {name}", NEGATIVE, (seed + index,), side, side, steps, GUIDANCE)
            events: list[JobEvent] = []
            backend.submit(Job(task, events.append, time.monotonic()))
            said.append(events)
        while not all(isinstance(events[-1], JobDone) for events in said):
            if any(isinstance(events[-1], JobFailed) for events in said) or backend.step() is None:
                raise SystemExit(f"a job failed: {[events[-1] for events in said]}")

    return make


def contender(kind: str, checkpoint: Path) -> Make:
    """Loads one."""
    family, _, way = kind.partition("-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if family == "diffusers":
            return diffusers_pipeline(way, checkpoint)
        execution, _, dtype = way.partition("-")
        return engine(execution, dtype, checkpoint)


def main() -> None:
    """Loads, then answers lines of standard input."""
    warnings.filterwarnings("ignore")
    begin = time.perf_counter()
    make = contender(sys.argv[1], Path(sys.argv[2]))
    say(load_seconds=round(time.perf_counter() - begin, 3))
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        make(asked["steps"], asked["side"], asked.get("count", 1), asked.get("seed", 1))
        say(seconds=time.perf_counter() - begin)


def say(**facts: float) -> None:
    """One line of JSON, with the most memory that was ever resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**facts, "peak_rss_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
