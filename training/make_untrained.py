"""Writes the starter's exact layout with random weights, for tests that need shapes and code paths, not pictures.

python training/make_untrained.py OUT [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import architecture
import tokenizer as bpe

WORDS = Path(__file__).with_name("words.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    vocab, merges = bpe.learn(WORDS.read_text().split("\n"), merges=1000)
    vae = architecture.make_vae()
    vae.register_to_config(scaling_factor=0.8)
    matrix = torch.randn(architecture.CHANNELS, 3).mul(0.1).tolist()
    preview = {"matrix": matrix, "bias": [0.0] * 3}
    encoders = architecture.make_text_encoders(len(vocab))
    architecture.export(args.out, vae, architecture.make_unet(), encoders, vocab, merges, preview)


if __name__ == "__main__":
    main()
