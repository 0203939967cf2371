"""Teaches the VAE's decoder to draw from the UNet's latents, faults and all; the latents themselves stay as they are.

    python training/train_decoder.py --minutes 12

Comes after train_unet.py. Latents of training pictures are noised part of the way and denoised again with guidance, as
image to image does: they then show the same picture with the UNet's own ripples and blotches. Half of each batch
is such latents, the rest exact ones with a little noise; wanted is always the rendered picture. Saves vae.pt, whose
encoder is left alone.

What the latents leave open, a mean over all possibilities answers with a blur. So a small critic of patches (hinge
loss, spectral norms) learns to tell made crops from rendered ones, and the decoder learns to pass, while its features
of the made crop are drawn to those of the rendered one: edges then stand somewhere instead of everywhere a little.
`--sharp 0` leaves it out.
"""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

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


class Critic(nn.Module):
    """Says of every patch of 30 pixels whether it was rendered (above 0) or made (below); also gives its features."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((12, 64), (64, 64), (256, 128), (128, 128))
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 3, 1, 1)) for a, b in widths)
        self.verdict = spectral_norm(nn.Conv2d(128, 1, 3, 1, 1))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Verdicts [n, 1, h/4, w/4] of pictures -1..1 [n, 3, h, w], and the features of every layer."""
        x, features = pictures, []
        for number, layer in enumerate(self.layers):
            x = F.leaky_relu(layer(F.pixel_unshuffle(x, 2) if number in (0, 2) else x), 0.2)
            features.append(x)
        return self.verdict(x), features


def critics_loss(critic: Critic, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the critic on crops that were made and crops that were rendered."""
    verdicts = critic(torch.cat([made.detach(), wanted]))[0].float()
    false, true = verdicts.chunk(2)
    return F.relu(1 + false).mean() + F.relu(1 - true).mean()


def sharpness_loss(critic: Critic, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """What the decoder is told by the critic: to pass, and with features like those of the rendered crop."""
    verdict, features = critic(made)
    with torch.no_grad():
        aims = critic(wanted)[1]
    alike = sum((f.float() - a.float()).abs().mean() for f, a in zip(features, aims, strict=True))
    return 2 * alike - verdict.float().mean()


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
    """The UNet's versions [count, 12, 16, 16] of the first latents of a split, noised to 120..520 of 1000."""
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
        made.append(remake(clear, states, pooled, unet, int(torch.randint(120, 520, ()))))
    return torch.cat(made)


def cropped(pixels: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same random crop of all pictures [n, 3, 128, 128] and of their latents."""
    y, x = (int(v) for v in torch.randint(0, 17 - CROP, (2,)))
    picture = pixels[..., y * 8 : (y + CROP) * 8, x * 8 : (x + CROP) * 8]
    return picture, latents[..., y : y + CROP, x : x + CROP]


def draw(split: data.Split, code: Components, own: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random crops of `count` pictures and their latents: half of them the UNet's own, where there are any."""
    faulty = count // 2 if len(own) else 0
    rows = torch.randint(len(split), (count,))
    rows[:faulty] = torch.randint(max(1, len(own)), (faulty,))
    pixels = to_tensor(np.array(split.pictures[rows.numpy()]))
    latents = code.encode(pixels)
    latents = latents + torch.randn_like(latents) * (0.08 * torch.rand(count, 1, 1, 1))
    latents[:faulty] = own[rows[:faulty]]
    return cropped(pixels, latents)


def main() -> None:
    parser = arguments(__doc__, minutes=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--sharp", type=float, default=0.06, help="weight of the critic's word")
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
    critic = Critic().to(device)
    optimizer, clock = Muon(learning, lr=args.rate), Clock(args.minutes)
    critics = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.5, 0.95))
    own = own_latents(split, args.own, code) if args.own else torch.zeros(0, 12, 16, 16)
    for step in trained(clock, "decoder"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=20))
        set_learning_rate(critics, learning_rate(4e-4, clock.fraction, step, warmup=20))
        picture, part = (t.to(device) for t in draw(split, code, own, args.batch))
        with autocast(device):
            made = vae.decode(part).sample.float()
            judged = critics_loss(critic, made, picture)
        critics.zero_grad()
        judged.backward()
        critics.step()
        loss = picture_loss(made, picture)
        if args.sharp:
            share = args.sharp * min(1.0, step / 100)  # the critic knows nothing at first
            with autocast(device):
                loss = loss + share * sharpness_loss(critic, made, picture)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if step % 100 == 99 or clock.done:
            measured = check(vae, code, held_out) | {
                "step": step,
                "seconds": clock.spent,
                "loss": loss.item(),
                "critic": judged.item(),
            }
            print(json.dumps({k: round(v, 3) for k, v in measured.items()}), flush=True)
            save_checkpoint("vae", **(saved | {"vae": vae.state_dict()}))


if __name__ == "__main__":
    main()
