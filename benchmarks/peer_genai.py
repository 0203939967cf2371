"""OpenVINO GenAI's Text2ImagePipeline as a contender; see contender.py. Runs in an environment of its own.

python benchmarks/peer_genai.py CHECKPOINT f32|default EXPORTED

CHECKPOINT is exported to the folder EXPORTED once, with optimum-intel. "default" leaves the precision to OpenVINO.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import openvino_genai

PROMPT = "a red leather handbag on white marble, soft light"


def main() -> None:
    """Loads, then answers lines of standard input."""
    checkpoint, precision, exported = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if not (exported / "model_index.json").is_file():
        command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "openvino", "--model", checkpoint]
        command += ["--task", "text-to-image", "--weight-format", "fp32", str(exported)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    begin = time.perf_counter()
    options = {"INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0))}
    if precision != "default":
        options["INFERENCE_PRECISION_HINT"] = precision
    pipe = openvino_genai.Text2ImagePipeline(str(exported), "CPU", **options)
    say(load_seconds=round(time.perf_counter() - begin, 3))
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        for index in range(asked.get("count", 1)):
            pipe.generate(
                PROMPT,
                negative_prompt="blurry",
                width=asked["side"],
                height=asked["side"],
                num_inference_steps=asked["steps"],
                guidance_scale=7.5,
                rng_seed=asked.get("seed", 1) + index,
            )
        say(seconds=time.perf_counter() - begin)


def say(**facts: float) -> None:
    """One line of JSON, with the most memory that was ever resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**facts, "peak_rss_bytes": peak}), flush=True)


main()
