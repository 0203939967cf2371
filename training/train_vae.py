"""Trains the starter's VAE in minutes on a CPU by not learning the code: its latents are principal components.

    python training/train_vae.py --minutes 12

An 8x8 patch of these pictures has 192 numbers; its 12 leading principal components keep 30.3 dB of PSNR, colours
first. So the latents are those components (scaled, each by the square root of its deviation, so that the diffusion
model sees neither noise-sized details nor one huge channel), the decoder learns to draw pictures from them, seeing
beyond its patch, and the encoder, needed for image to image only, learns to compute them. The latents are known before
training starts, and colour cannot be lost. 64x64 crops: a convolutional decoder does not mind, and steps are cheap.
"""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import data
from architecture import CHANNELS, make_vae
from common import (
    BUILD,
    Clock,
    arguments,
    autocast,
    contact_sheet,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    setup,
    to_pictures,
    to_tensor,
    trained,
)  # fmt: skip

PATCH = 8


class Components:
    """The linear code: `encode` pictures -1..1 [n, 3, h, w] to latents [n, 12, h/8, w/8], and back."""

    def __init__(self, mean: torch.Tensor, basis: torch.Tensor, scale: torch.Tensor) -> None:
        self.mean, self.basis, self.scale = mean, basis, scale  # [192], [192, 12], [12]

    @classmethod
    def fit(cls, pixels: torch.Tensor) -> Components:
        """Principal components of all patches; latents have a standard deviation of 1 over all channels."""
        patches = F.pixel_unshuffle(pixels, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH**2).double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        deviation = values.flip(0)[:CHANNELS].sqrt()
        shrunk = deviation.sqrt()
        shrunk = shrunk / shrunk.square().mean().sqrt()
        return cls(mean.float(), vectors.flip(1)[:, :CHANNELS].float().contiguous(), (shrunk / deviation).float())

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = F.pixel_unshuffle(pixels, PATCH).permute(0, 2, 3, 1)
        return (((patches - self.mean) @ self.basis) * self.scale).permute(0, 3, 1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        patches = (latents.permute(0, 2, 3, 1) / self.scale) @ self.basis.T + self.mean
        return F.pixel_shuffle(patches.permute(0, 3, 1, 2), PATCH)

    def preview(self) -> dict[str, list[object]]:
        """Latent to RGB in 0..1: rgb = latent @ matrix + bias, the mean colour of each patch."""
        channel_mean = (self.basis / self.scale).reshape(3, PATCH**2, CHANNELS).mean(1)  # [3, 12]
        bias = self.mean.reshape(3, PATCH**2).mean(1)
        return {"matrix": (channel_mean.T / 2).tolist(), "bias": (bias / 2 + 0.5).tolist()}


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over pictures of the PSNR in dB of pixels in -1..1."""
    error = (a.clamp(-1, 1) - b).square().mean((1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def picture_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1, squares, edges, and colours of 16x16 blocks."""
    gap = made - wanted
    edges = (gap[..., 1:] - gap[..., :-1]).abs().mean() + (gap[..., 1:, :] - gap[..., :-1, :]).abs().mean()
    return gap.abs().mean() + 2 * gap.square().mean() + 0.5 * edges + F.avg_pool2d(gap, 16).abs().mean()


@torch.no_grad()
def check(vae: AutoencoderKL, code: Components, pixels: torch.Tensor) -> dict[str, float]:
    """PSNR of the decoder, of encoder and decoder, and of the linear code alone; colour error in 0..255."""
    device = next(vae.parameters()).device
    made = torch.cat([vae.decode(code.encode(p).to(device)).sample.cpu() for p in pixels.split(50)])
    both = torch.cat([vae(p.to(device)).sample.cpu() for p in pixels.split(50)])
    colour = F.avg_pool2d(made.clamp(-1, 1) - pixels, 32).abs().mean() * 127.5
    contact_sheet(to_pictures(torch.cat([pixels[:16], made[:16], both[:16]])), BUILD / "vae.png", columns=16)
    return {
        "decoder_db": psnr(made, pixels), "encoder_decoder_db": psnr(both, pixels),
        "linear_db": psnr(code.decode(code.encode(pixels)), pixels), "colour": float(colour),
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, minutes=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    device = setup(args)
    pictures = np.array(data.load("train").pictures[:16000])
    held_out = to_tensor(data.load("heldout").pictures[:100])
    vae = make_vae().to(device)
    torch.nn.init.zeros_(vae.quant_conv.weight[CHANNELS:])
    torch.nn.init.constant_(vae.quant_conv.bias[CHANNELS:], -12.0)  # log variance: the encoder is as good as exact
    optimizer = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    saved = None if args.restart else load_checkpoint("vae")
    if saved:
        vae.load_state_dict(saved["vae"])
        if "optimizer" in saved:  # not after resume.py
            optimizer.load_state_dict(saved["optimizer"])
        code = Components(*saved["code"])
    else:
        code = Components.fit(to_tensor(pictures[::10]))
    clock, first = Clock(args.minutes), saved["step"] if saved else 0
    for step in trained(clock, "vae"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=50))
        chosen = np.random.randint(len(pictures), size=args.batch)
        corners = np.random.randint(0, 9, size=(args.batch, 2)) * PATCH
        crops = [pictures[i, y : y + 64, x : x + 64] for i, (y, x) in zip(chosen, corners, strict=True)]
        pixels = to_tensor(crops).to(device)
        latents = code.encode(pixels)
        with autocast(device):
            if step % 5 == 4:
                mean = vae.encode(pixels).latent_dist.mean.float()
                loss = (mean - latents).square().mean() + 0.5 * (mean - latents).abs().mean()
            else:
                noise = torch.randn_like(latents) * (0.1 * torch.rand(args.batch, 1, 1, 1, device=device))
                made = vae.decode(latents + noise).sample.float()
                loss = picture_loss(made, pixels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {first + step} {clock.spent:.0f}s loss {loss.item():.4f}", flush=True)
        if step % 400 == 399 or clock.done:
            measured = check(vae, code, held_out)
            print(json.dumps({k: round(v, 3) for k, v in measured.items()}), flush=True)
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint("vae", **state, code=(code.mean, code.basis, code.scale), step=first + step + 1)


if __name__ == "__main__":
    main()
