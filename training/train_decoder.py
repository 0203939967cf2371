"""Teaches the VAE's decoder to draw from the UNet's latents, faults and all; the latents themselves stay as they are.

    python training/train_decoder.py --minutes 12

Comes after train_unet.py. Latents of training pictures are noised part of the way and denoised again with guidance, as
image to image does: they then show the same picture with the UNet's own ripples and blotches. Half of each batch
is such latents, the rest exact ones with a little noise; wanted is always the rendered picture. Saves vae.pt, whose
encoder is left alone.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from diffusers import UNet2DConditionModel

import data
from architecture import encode_prompts, make_noise_schedule, make_unet, make_vae
from common import (
    Clock,
    arguments,
    autocast,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    setup,
    to_tensor,
    trained,
)  # fmt: skip
from muon import Muon
from train_clip import get_tokenizer
from train_unet import load_towers, time_ids
from train_vae import Components, check, picture_loss

GUIDANCE = 7.5
CROP = 8
"""Side of the crops in latents; 64 pixels."""


@torch.no_grad()
def remake(
    clear: torch.Tensor, states: torch.Tensor, pooled: torch.Tensor, unet: UNet2DConditionModel, start: int
) -> torch.Tensor:
    """Latents [n, 12, 16, 16] noised to timestep `start` and denoised by DDIM, a step every 60."""
    signal = make_noise_schedule().alphas_cumprod.sqrt()
    noise, made = torch.randn_like(clear), clear
    ids = time_ids(len(clear)).repeat(2, 1)
    added = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": ids}
    words = torch.cat([torch.zeros_like(states), states])
    for now in torch.linspace(start, 0, 2 + start // 60).long()[:-1]:
        a, b = signal[now], (1 - signal[now] ** 2).sqrt()
        mixed = a * made + b * noise
        with autocast(clear.device):
            both = unet(mixed.repeat(2, 1, 1, 1), now, words, added_cond_kwargs=added).sample.float()
        plain, told = both.chunk(2)
        v = plain + GUIDANCE * (told - plain)
        made, noise = a * mixed - b * v, a * v + b * mixed
    return made


def own_latents(split: data.Split, count: int, code: Components) -> torch.Tensor:
    """The UNet's versions [count, 12, 16, 16] of the first latents of a split, noised to 120..450 of 1000."""
    saved = load_checkpoint("unet")
    if saved is None:
        raise SystemExit("train_decoder.py: run train_unet.py first")
    unet = make_unet().eval()
    unet.load_state_dict(saved["ema"])
    tokenizer = get_tokenizer()
    towers = load_towers(tokenizer)
    made = []
    for rows in np.array_split(np.arange(count), -(-count // 40)):
        clear = code.encode(to_tensor(np.array(split.pictures[rows])))
        captions = [max(split.captions[i], key=len) for i in rows]
        states, pooled = encode_prompts(captions, tokenizer, towers.first, towers.second)
        made.append(remake(clear, states, pooled, unet, int(torch.randint(120, 450, ()))))
    return torch.cat(made)


def cropped(pixels: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same random crop of all pictures [n, 3, 128, 128] and of their latents."""
    y, x = (int(v) for v in torch.randint(0, 17 - CROP, (2,)))
    picture = pixels[..., y * 8 : (y + CROP) * 8, x * 8 : (x + CROP) * 8]
    return picture, latents[..., y : y + CROP, x : x + CROP]


def main() -> None:
    parser = arguments(__doc__, minutes=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--own", type=int, default=1200, help="pictures of which the UNet makes its own version")
    args = parser.parse_args()
    device = setup(args)
    split = data.load("train")
    held_out = to_tensor(np.array(data.load("heldout").pictures[:100]))
    saved = load_checkpoint("vae")
    if saved is None:
        raise SystemExit("train_decoder.py: run train_vae.py first")
    code, vae = Components(*saved["code"]), make_vae()
    vae.load_state_dict(saved["vae"])
    vae = vae.to(device)
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer, clock = Muon(learning, lr=args.rate), Clock(args.minutes)
    own = own_latents(split, args.own, code) if args.own else torch.zeros(0)
    for step in trained(clock, "decoder"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=20))
        faulty = args.batch // 2 if args.own else 0
        rows = torch.randint(len(split), (args.batch,))
        rows[:faulty] = torch.randint(max(1, args.own), (faulty,))
        pixels = to_tensor(np.array(split.pictures[rows.numpy()]))
        latents = code.encode(pixels)
        latents = latents + torch.randn_like(latents) * (0.08 * torch.rand(args.batch, 1, 1, 1))
        if faulty:
            latents[:faulty] = own[rows[:faulty]]
        picture, part = (t.to(device) for t in cropped(pixels, latents))
        with autocast(device):
            made = vae.decode(part).sample.float()
        loss = picture_loss(made, picture)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if step % 100 == 99 or clock.done:
            measured = check(vae, code, held_out) | {"step": step, "seconds": clock.spent, "loss": loss.item()}
            print(json.dumps({k: round(v, 3) for k, v in measured.items()}), flush=True)
            save_checkpoint("vae", **(saved | {"vae": vae.state_dict()}))


if __name__ == "__main__":
    main()
