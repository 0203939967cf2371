"""Makes checkpoints and tokenizer in build/train from the shipped weights: training then goes on where it once ended.

    python training/resume.py && python training/train_unet.py --minutes 60

The text encoders need no checkpoint: train_unet.py takes the shipped ones where train_clip.py has not run.
"""

from __future__ import annotations

import shutil

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from common import BUILD, MODELS, save_checkpoint
from train_clip import TOKENIZER

STARTER = MODELS / "starter" / "1"


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    shutil.copytree(STARTER / "tokenizer", TOKENIZER, dirs_exist_ok=True)  # before any other is learnt
    vae = AutoencoderKL.from_pretrained(STARTER / "vae").float().state_dict()
    code = load_file(STARTER / "components.safetensors")
    save_checkpoint("vae", vae=vae, code=(code["mean"], code["basis"], code["scale"]), step=0)
    unet = UNet2DConditionModel.from_pretrained(STARTER / "unet").float().state_dict()
    save_checkpoint("unet", model=unet, ema={k: v.clone() for k, v in unet.items()}, step=0)
    print(f"unet.pt, vae.pt and the tokenizer in build/train are those of {STARTER.relative_to(MODELS.parent)}")


if __name__ == "__main__":
    main()
