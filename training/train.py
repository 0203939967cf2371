"""Trains all starter models in order and exports them: `make train`, or python training/train.py [--minutes 180].

Each script keeps a checkpoint under build/train and goes on from it; `--minutes` is shared out among them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STAGES = (
    ("data.py", 0.0),
    ("train_vae.py", 0.10),
    ("train_clip.py", 0.10),
    ("train_quality.py", 0.09),
    ("train_unet.py", 0.53),
    ("train_decoder.py", 0.06),
    ("train_probe.py", 0.08),
    ("train_brand.py", 0.04),
    ("export_clip.py", 0.0),
    ("export_starter.py", 0.0),
)
"""Scripts in order, and each one's share of the time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=180, help="training time in all (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args()
    for script, share in STAGES:
        options = ["--minutes", f"{args.minutes * share:.1f}", "--device", args.device] if share else []
        print(f"{script} {' '.join(options)}", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *options], check=True)


if __name__ == "__main__":
    main()
