"""Trains the probe that judges generated pictures: product, colour, setting and style, from renders alone.

    python training/train_probe.py --minutes 10

It never sees a generated picture. It starts from starter_clip's image tower where that is trained. Its weights stay in
build/train: evaluate.py wants them, the server does not.
Light augmentation (shifts, mirrors, brightness, a little blur and noise) so that it reads what is shown, not single
pixels. What is kept is the average of the weights; answers are the mean over a picture and its mirror image.
"""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import data
from common import (
    Clock,
    Ema,
    arguments,
    autocast,
    clip_pixels,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    setup,
    to_tensor,
    trained,
)  # fmt: skip
from muon import Muon
from towers import ImageTower

JUDGED = ("product", "colour", "setting", "style")


class Probe(nn.Module):
    """An image tower with one linear head for each attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = ImageTower(128)
        self.heads = nn.ModuleDict({k: nn.Linear(128, len(data.ATTRIBUTES[k])) for k in JUDGED})

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, 128] of pixels in -1..1; distances between them are what evaluate.py reports."""
        return self.tower(clip_pixels(pixels)).float()

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = self.features(pixels)
        return {k: head(seen) for k, head in self.heads.items()}

    def judge(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean of the answers for pictures and for their mirror images."""
        straight, mirrored = self(pixels), self(pixels.flip(-1))
        return {k: straight[k].log_softmax(1) + mirrored[k].log_softmax(1) for k in JUDGED}


def vary(pixels: torch.Tensor) -> torch.Tensor:
    """Shifts by up to 4 pixels, mirrors, brightness, and blur or noise for a quarter each."""
    shift = np.random.randint(0, 9, size=2)
    padded = F.pad(pixels, (4, 4, 4, 4), mode="replicate")
    pixels = padded[..., shift[0] : shift[0] + 128, shift[1] : shift[1] + 128]
    mirrored = torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5
    pixels = torch.where(mirrored, pixels.flip(-1), pixels)
    quarter = len(pixels) // 4
    soft = F.avg_pool2d(F.pad(pixels[:quarter], (1, 1, 1, 1), mode="replicate"), 3, 1)
    noisy = pixels[quarter : 2 * quarter]
    noisy = noisy + 0.04 * torch.randn_like(noisy)
    pixels = torch.cat([soft, noisy, pixels[2 * quarter :]])
    return (pixels * (1 + 0.03 * torch.randn(len(pixels), 1, 1, 1, device=pixels.device))).clamp(-1, 1)


@torch.no_grad()
def accuracy(probe: Probe, split: data.Split, device: torch.device) -> dict[str, float]:
    """Share of right answers by attribute."""
    probe.eval()
    found: dict[str, list[np.ndarray]] = {k: [] for k in JUDGED}
    for start in range(0, len(split), 100):
        out = probe.judge(to_tensor(np.array(split.pictures[start : start + 100])).to(device))
        for k in JUDGED:
            found[k].append(out[k].argmax(1).cpu().numpy())
    probe.train()
    return {k: round(float((np.concatenate(v) == split.labels[k]).mean()), 4) for k, v in found.items()}


def main() -> None:
    parser = arguments(__doc__, minutes=10)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=80)
    args = parser.parse_args()
    device = setup(args)
    split, held_out = data.load("train"), data.load("heldout")
    pictures = np.array(split.pictures)
    probe, kept = Probe().to(device), Probe().to(device)
    saved = None if args.restart else load_checkpoint("probe")
    if saved:
        probe.load_state_dict(saved["model"])
    elif clip := load_checkpoint("quality") or load_checkpoint("clip"):
        image = {k.removeprefix("image."): v for k, v in clip["model"].items() if k.startswith("image.")}
        probe.tower.load_state_dict(image)
        for name, head in probe.heads.items():
            head.load_state_dict({k: clip["model"][f"heads.{name}.{k}"] for k in ("weight", "bias")})
    optimizer, ema = Muon(probe.parameters(), lr=args.rate), Ema(probe, 0.98)
    clock, first = Clock(args.minutes), saved["step"] if saved else 0
    for step in trained(clock, "probe"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=20))
        rows = np.random.randint(len(split), size=args.batch)
        with autocast(device):
            out = probe(vary(to_tensor(pictures[rows]).to(device)))
        losses = [
            F.cross_entropy(out[k].float(), torch.from_numpy(split.labels[k][rows]).to(device), label_smoothing=0.02)
            for k in JUDGED
        ]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(probe, step)
        if step % 100 == 99 or clock.done:
            ema.copy_to(kept)
            measured = accuracy(kept, held_out, device)
            print(json.dumps({"step": first + step, "loss": round(loss.item(), 3)} | measured), flush=True)
            save_checkpoint("probe", model=kept.state_dict(), step=first + step + 1)


if __name__ == "__main__":
    main()
