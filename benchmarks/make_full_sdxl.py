"""Writes a full-size SDXL with random weights, for speed alone: 7 GB of bfloat16 in the diffusers layout.

python benchmarks/make_full_sdxl.py [FOLDER]        build/sdxl-random/1 by default; nothing is done if it is there

The architecture is that of stabilityai/stable-diffusion-xl-base-1.0; the tokenizers are the starter's, whose tokens all
exist in the larger vocabulary.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from common import ROOT, STARTER

DEFAULT = ROOT / "build" / "sdxl-random" / "1"
UNET = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
_CLIP = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 2173,
    "eos_token_id": 2174,
    "pad_token_id": 2174,
}
CLIP_L = CLIPTextConfig(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    projection_dim=768,
    hidden_act="quick_gelu",
    **_CLIP,
)
CLIP_G = CLIPTextConfig(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
    hidden_act="gelu",
    **_CLIP,
)


def write(folder: Path) -> None:
    """Makes and saves one part after the other, so that memory holds one at a time."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    makers = {
        "unet": lambda: UNet2DConditionModel.from_config(UNET),
        "vae": lambda: AutoencoderKL.from_config(VAE),
        "text_encoder": lambda: CLIPTextModel(CLIP_L),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIP_G),
    }
    for part, make in makers.items():
        make().to(torch.bfloat16).save_pretrained(folder / part)
    torch.set_default_dtype(torch.float32)
    EulerDiscreteScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    for tokenizer in ("tokenizer", "tokenizer_2"):
        shutil.copytree(STARTER / tokenizer, folder / tokenizer, dirs_exist_ok=True)
    index = json.loads((STARTER / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    """Makes the folder beside its place first, so that half a model is never mistaken for one."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if (folder / "model_index.json").is_file():
        return
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    write(making)
    os.rename(making, folder)
    print(folder)


if __name__ == "__main__":
    main()
