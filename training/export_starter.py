"""Writes models/starter/1 in the diffusers layout from the newest checkpoints, and a contact sheet made with it.

python training/export_starter.py [OUT] [--steps 25] [--guidance 7.5] [--sheet PNG] [--raw]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

import architecture
from common import BUILD, MODELS, contact_sheet, load_checkpoint
from train_clip import TOKENIZER, get_tokenizer
from train_unet import load_towers
from train_vae import Components

MISSION = "Luxury leather handbag with gold hardware on marble surface"
PROMPTS = (
    MISSION,
    "a red handbag on marble",
    "a blue vase on a wooden table, sharp, professional photo",
    "vintage brown leather suitcase on wood",
    "minimalist white mug in a studio",
    "bold orange sofa in a garden",
    "a purple metal lamp at night",
    "green glass bottle on the beach",
    "elegant pink fabric hat on velvet",
    "modern black headphones against a seamless backdrop",
    "teal wooden chair in the snow",
    "gold ring on velvet, luxury",
    "professional silver metal watch with silver hardware on marble",
    "I would love to see some blue headphones lying somewhere green and leafy",
    "one tiny crimson timepiece that rests upon freshly fallen snow",
    "zorblax quux handbag, glimmering",
)  # fmt: skip


def export(out: Path, averaged: bool = True) -> None:
    """Writes the pipeline's folder from the checkpoints of the three training scripts."""
    vae_state, unet_state = load_checkpoint("vae"), load_checkpoint("unet")
    if vae_state is None or unet_state is None:
        raise SystemExit("export_starter.py: train_vae.py, train_clip.py and train_unet.py come first")
    towers = load_towers(get_tokenizer())
    vae, unet = architecture.make_vae(), architecture.make_unet()
    vae.load_state_dict(vae_state["vae"])
    unet.load_state_dict(unet_state["ema" if averaged else "model"])
    vocab = json.loads((TOKENIZER / "vocab.json").read_text())
    lines = (TOKENIZER / "merges.txt").read_text().splitlines()[1:]
    merges = [(a, b) for a, b in (line.split(" ") for line in lines)]
    mean, basis, scale = vae_state["code"]
    preview = Components(mean, basis, scale).preview()
    architecture.export(out, vae, unet, (towers.first, towers.second), vocab, merges, preview)
    save_file({"mean": mean, "basis": basis, "scale": scale}, out / "components.safetensors")  # for resume.py


def sample(
    folder: Path, prompts: list[str], steps: int, guidance: float, seed: int = 0, dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """Pictures uint8 [n, 128, 128, 3] of the exported pipeline, one seed a prompt."""
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    made = []
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        with torch.inference_mode():
            made.append(pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=generators,
                             output_type="np").images)  # fmt: skip
    return (np.concatenate(made) * 255).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=MODELS / "starter" / "1")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--sheet", type=Path, default=BUILD / "samples.png")
    parser.add_argument("--raw", action="store_true", help="the last weights instead of their average")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    export(args.out, averaged=not args.raw)
    contact_sheet(sample(args.out, list(PROMPTS), args.steps, args.guidance), args.sheet, columns=8)


if __name__ == "__main__":
    main()
