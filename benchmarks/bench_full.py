"""One picture of full-size SDXL with random weights, 512×512 and 4 steps: this engine against its peers.

python benchmarks/bench_full.py [--rounds 5]

Makes the weights first (make_full_sdxl.py). One contender at a time is in memory; float32 needs 14 GiB of it.
"""

from __future__ import annotations

import subprocess
import sys

from make_full_sdxl import DEFAULT

from common import ROOT

KINDS = (
    "atelier-openvino-bfloat16",
    "atelier-torch-bfloat16",
    "diffusers-bfloat16",
    "genai-default",
    "diffusers-float32",
)


def main() -> None:
    """Runs bench_single.py with the full size."""
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "make_full_sdxl.py")], check=True)
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_single.py"), "--checkpoint", str(DEFAULT), "--alone"]
    command += ["--name", "single-full-size", "--side", "512", "--steps", "4", "--kinds", *KINDS]
    subprocess.run([*command, *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
