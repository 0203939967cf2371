"""Trains the starter's UNet on the latents of the rendered pictures, with both text encoders frozen.

    python training/train_unet.py --minutes 90

Wants the checkpoints of train_vae.py (its linear code gives the latents) and train_clip.py (the text encoders). The
prediction is v on DDPM's linear betas (architecture.make_noise_schedule). A tenth of the captions is dropped to SDXL's
zero embeddings, which is what the pipeline takes for "no negative prompt"; time_ids vary and mean nothing, so that
callers may pass any size. One picture in sixteen is a spoilt one whose caption says so: negative prompts then work.

On CPU each core is a worker of its own with one thread, and all update the same weights in shared memory without locks
(Hogwild). On a busy machine that is several times faster than one process with a thread a core, which waits at every
layer for the core that something else occupies.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import data
from architecture import PROJECTION, WIDTH_1, WIDTH_2, encode_prompts, make_noise_schedule, make_unet
from common import (
    MODELS,
    Clock,
    Ema,
    arguments,
    autocast,
    learning_rate,
    load_checkpoint,
    parameters,
    save_checkpoint,
    set_learning_rate,
    setup,
    to_tensor,
    trained,
)  # fmt: skip
from muon import Muon
from train_clip import Towers, get_tokenizer
from train_vae import Components

SPOILT_SHARE = 1 / 16
DROPPED_SHARE = 0.1


class Captions:
    """Text embeddings of numbered captions in shared memory, fp16, computed when first asked for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.states = torch.empty(len(texts), 77, WIDTH_1 + WIDTH_2, dtype=torch.float16).share_memory_()
        self.pooled = torch.empty(len(texts), PROJECTION, dtype=torch.float16).share_memory_()
        self.known = torch.zeros(len(texts), dtype=torch.bool).share_memory_()

    def get(self, numbers: torch.Tensor, tokenizer: CLIPTokenizer, towers: Towers) -> tuple[torch.Tensor, torch.Tensor]:
        """States [n, 77, 256] and pooled embeddings [n, 128] of captions."""
        missing = numbers[~self.known[numbers]]
        if len(missing):
            states, pooled = encode_prompts([self.texts[n] for n in missing], tokenizer, towers.first, towers.second)
            self.states[missing], self.pooled[missing] = states.half(), pooled.half()
            self.known[missing] = True
        return self.states[numbers].float(), self.pooled[numbers].float()


def all_latents(pictures: np.ndarray, code: Components) -> torch.Tensor:
    """Latents fp16 [2, n, 12, 16, 16] of the pictures and of their mirror images."""
    sides = []
    for flip in (1, -1):
        parts = [code.encode(to_tensor(pictures[i : i + 500, :, ::flip])).half() for i in range(0, len(pictures), 500)]
        sides.append(torch.cat(parts))
    return torch.stack(sides)


def time_ids(count: int) -> torch.Tensor:
    """Six numbers a row as SDXL's (original size, crop corner, target size); the size varies without meaning."""
    sizes = torch.tensor([128.0, 128.0, 256.0, 512.0, 1024.0])[torch.randint(5, (count, 1))]
    return torch.cat([sizes, sizes, torch.zeros(count, 2), sizes, sizes], dim=1)


def timesteps(count: int) -> torch.Tensor:
    """Most of them in the middle, where shapes are made (logistic normal around 340), a quarter anywhere.

    Stratified: one draw in each of `count` equal parts of the distribution makes the loss less noisy.
    """
    share = (torch.randperm(count) + torch.rand(count)) / count
    middle = torch.sigmoid(-0.65 + torch.special.ndtri((share * 4 / 3).clamp(1e-4, 1 - 1e-4)))
    anywhere = (share - 0.75) * 4
    return (torch.where(share < 0.75, middle, anywhere) * 1000).long().clamp(0, 999)


def load_towers(tokenizer: CLIPTokenizer) -> Towers:
    """The trained text encoders, frozen: train_clip.py's, or else those that are shipped."""
    towers = Towers(len(tokenizer))
    saved, shipped = load_checkpoint("clip"), MODELS / "starter" / "1"
    if saved is not None:
        towers.load_state_dict(saved["model"])
    elif (shipped / "text_encoder").is_dir():
        towers.first = CLIPTextModel.from_pretrained(shipped / "text_encoder")
        towers.second = CLIPTextModelWithProjection.from_pretrained(shipped / "text_encoder_2")
    else:
        raise SystemExit("run train_clip.py first: it trains the text encoders")
    return towers.eval().requires_grad_(False)


def work(
    rank: int,
    args: argparse.Namespace,
    model: UNet2DConditionModel,
    latents: torch.Tensor,
    captions: Captions,
    clean: int,
) -> None:
    """One worker: trains the shared model; the first one also keeps the average, reports and saves."""
    device = setup(args, seed=time.time_ns() % 2**31 + rank)
    tokenizer = get_tokenizer()
    towers = load_towers(tokenizer)
    signal = make_noise_schedule().alphas_cumprod.sqrt().to(device)
    noise_share = (1 - signal.square()).sqrt()
    optimizer = Muon(model.parameters(), lr=args.rate)
    saved = None if args.restart else load_checkpoint("unet")
    if saved and saved.get("muon"):
        optimizer.load_state_dict(saved["optimizer"])
    ema = Ema(model, 0.997)
    if saved:
        ema.shadow = saved["ema"]
    clock, first = Clock(args.minutes), saved["step"] if saved else 0
    losses: list[float] = []
    saved_at = 0.0
    for step in trained(clock, "unet") if rank == 0 else counted(clock):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, final=args.final))
        rows = torch.randint(clean, (args.batch,))
        bad = torch.rand(args.batch) < SPOILT_SHARE
        rows[bad] = torch.randint(clean, latents.shape[1], (int(bad.sum()),))
        numbers = rows * data.CAPTIONS + torch.randint(data.CAPTIONS, (args.batch,))
        states, pooled = captions.get(numbers, tokenizer, towers)
        kept = (torch.rand(args.batch) >= DROPPED_SHARE).float()
        states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        clear = latents[torch.randint(2, (args.batch,)), rows].float().to(device)
        times = timesteps(args.batch).to(device)
        noise = torch.randn_like(clear)
        a, b = signal[times].view(-1, 1, 1, 1), noise_share[times].view(-1, 1, 1, 1)
        added = {"text_embeds": pooled.to(device), "time_ids": time_ids(args.batch).to(device)}
        with autocast(device):
            made = model(a * clear + b * noise, times, states.to(device), added_cond_kwargs=added).sample
        loss = (made.float() - (a * noise - b * clear)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if rank:
            continue
        ema.update(model, first + step)
        if step % 50 == 0:
            note = {"step": first + step, "seconds": round(clock.spent), "loss": round(float(np.mean(losses[-50:])), 4)}
            print(json.dumps(note), flush=True)
        if clock.spent - saved_at > 120 or clock.done:
            saved_at = clock.spent
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow, "muon": True}
            save_checkpoint("unet", **state, step=first + step + 1)


def counted(clock: Clock) -> Iterator[int]:
    """Counts steps until the time is up."""
    step = 0
    while not clock.done:
        yield step
        step += 1


def main() -> None:
    parser = arguments(__doc__, minutes=90)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--final", type=float, default=0.05, help="last learning rate as a share of the first")
    parser.add_argument("--batch", type=int, default=32, help="pictures a step and worker")
    parser.add_argument("--workers", type=int, help="default: one a core on CPU, one on CUDA")
    args = parser.parse_args()
    device = setup(args)
    vae = load_checkpoint("vae")
    if vae is None:
        raise SystemExit("train_unet.py: run train_vae.py first")
    clean, spoilt = data.load("train"), data.load("damaged")
    latents = torch.cat([all_latents(s.pictures, Components(*vae["code"])) for s in (clean, spoilt)], dim=1)
    captions = Captions([c for s in (clean, spoilt) for group in s.captions for c in group])
    model = make_unet()
    model.set_attn_processor(AttnProcessor())  # for sequences this short 1.28x faster in training than CPU's SDPA
    saved = None if args.restart else load_checkpoint("unet")
    if saved:
        model.load_state_dict(saved["model"])
    model = model.to(device).train()
    print(f"{parameters(model):.1f} M parameters, {latents.shape[1]} pictures", flush=True)
    workers = args.workers or (1 if device.type == "cuda" else os.cpu_count() or 1)
    shared = (args, model, latents.share_memory_(), captions, len(clean))
    if workers == 1:
        work(0, *shared)
    else:
        args.threads = 1
        torch.multiprocessing.spawn(work, (args, model.share_memory(), *shared[2:]), nprocs=workers)


if __name__ == "__main__":
    main()
