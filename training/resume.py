"""Makes build/train/unet.pt and vae.pt from the shipped weights, so that training goes on where it once ended.

    python training/resume.py && python training/train_unet.py --minutes 60

The text encoders need no checkpoint: train_unet.py takes the shipped ones where train_clip.py has not run. The VAE's
linear code follows from the pictures but for the signs of its components, which are taken from the shipped encoder.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

import data
from common import BUILD, MODELS, save_checkpoint, to_tensor
from train_vae import Components

STARTER = MODELS / "starter" / "1"


@torch.no_grad()
def shipped_code(vae: AutoencoderKL, pictures: np.ndarray) -> Components:
    """The linear code whose latents the shipped decoder draws.

    Raises:
        SystemExit: The pictures are not those that the shipped weights learnt from.
    """
    code, pixels = Components.fit(to_tensor(pictures[:16000:10])), to_tensor(pictures[:64])
    ours, theirs = code.encode(pixels), vae.encode(pixels).latent_dist.mean
    sign = (ours * theirs).mean((0, 2, 3)).sign()
    code.basis *= sign
    preview = json.loads((STARTER / "preview.json").read_text())
    apart = np.abs(np.array(code.preview()["matrix"]) - np.array(preview["matrix"])).max()
    if apart > 1e-3:
        raise SystemExit(f"resume.py: the code of these pictures is not the shipped one ({apart:.4f} apart)")
    return code


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    pictures = data.load("train").pictures
    vae = AutoencoderKL.from_pretrained(STARTER / "vae").float().eval()
    code = shipped_code(vae, np.array(pictures[:16000]))
    save_checkpoint("vae", vae=vae.state_dict(), code=(code.mean, code.basis, code.scale), step=0)
    unet = UNet2DConditionModel.from_pretrained(STARTER / "unet").float().state_dict()
    save_checkpoint("unet", model=unet, ema={k: v.clone() for k, v in unet.items()}, step=0)
    print(f"build/train/unet.pt and vae.pt are those of {STARTER.relative_to(MODELS.parent)}")


if __name__ == "__main__":
    main()
