"""Trains starter_clip's image tower and both of the starter's text encoders together, contrastively.

    python training/train_clip.py --minutes 14

One image tower, two text towers of different size: the second with the image tower is starter_clip, both are the
text encoders of the diffusion pipeline. A quarter of a batch is spoilt pictures whose captions say so. Besides the
contrastive loss, linear heads read the attributes from picture and caption: that finds the features sooner.
"""

from __future__ import annotations

import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTokenizer

import data
import tokenizer as bpe
from architecture import PROJECTION, WIDTH_1, make_text_encoders
from common import (
    BUILD,
    ROOT,
    Clock,
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
from towers import ImageTower

MERGES = 2000
TOKENIZER = BUILD / "tokenizer"


def get_tokenizer() -> CLIPTokenizer:
    """Loads the tokenizer, learning it first (captions, and common words five times over) where there is none."""
    if not (TOKENIZER / "vocab.json").exists():
        captions = [c for split in ("train", "damaged") for group in data.load(split).captions for c in group]
        words = (ROOT / "training" / "words.txt").read_text().split("\n")
        vocab, merges = bpe.learn(captions[::4] + words * 20, MERGES)
        bpe.save(TOKENIZER, vocab, merges)
    return bpe.load(TOKENIZER)


class Towers(nn.Module):
    """Image tower, both text encoders, a projection for the first, and attribute heads that only training uses."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.image = ImageTower(PROJECTION)
        self.first, self.second = make_text_encoders(tokens)
        self.first_projection = nn.Linear(WIDTH_1, PROJECTION, bias=False)
        self.scale = nn.Parameter(torch.tensor([np.log(15.0), np.log(15.0)], dtype=torch.float32))
        kinds = data.ATTRIBUTES.items()
        self.heads = nn.ModuleDict({k: nn.Linear(PROJECTION, len(v)) for k, v in kinds})
        self.text_heads = nn.ModuleList(
            nn.ModuleDict({k: nn.Linear(PROJECTION, len(v)) for k, v in kinds}) for _ in range(2)
        )

    def texts(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of token ids by either text tower, not normalised."""
        return self.first_projection(self.first(ids).pooler_output).float(), self.second(ids).text_embeds.float()


def contrast(images: torch.Tensor, texts: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross entropy of embeddings, lightly smoothed since captions may fit two pictures."""
    logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T * log_scale.clamp(max=np.log(100.0)).exp()
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target, label_smoothing=0.02)
            + F.cross_entropy(logits.T, target, label_smoothing=0.02)) / 2  # fmt: skip


@torch.no_grad()
def check(model: Towers, tokenizer: CLIPTokenizer, device: torch.device) -> dict[str, float]:
    """Retrieval among 100 held-out pictures by captions of either tower, and attribute accuracy of the heads."""
    model.eval()
    split = data.load("heldout")
    pixels = clip_pixels(to_tensor(split.pictures[:1000])).to(device)
    raw = torch.cat([model.image(p) for p in pixels.split(100)])
    images = F.normalize(raw.float(), dim=-1)
    captions = [max(c, key=len) for c in split.captions[:1000]]
    found: dict[str, list[float]] = {"first": [], "second": []}
    for start in range(0, 1000, 100):
        ids = tokenizer(captions[start : start + 100], padding=True, truncation=True, return_tensors="pt").input_ids
        for name, texts in zip(found, model.texts(ids.to(device)), strict=True):
            best = (F.normalize(texts, dim=-1) @ images[start : start + 100].T).argmax(1).cpu()
            found[name].append(float((best == torch.arange(100)).float().mean()))
    model.train()
    correct = {k: h(raw).argmax(1).cpu().numpy() == split.labels[k][:1000] for k, h in model.heads.items()}
    return {f"r1_{k}": float(np.mean(v)) for k, v in found.items()} | {k: float(v.mean()) for k, v in correct.items()}


def main() -> None:
    parser = arguments(__doc__, minutes=14)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--batch", type=int, default=160)
    args = parser.parse_args()
    device = setup(args)
    tokenizer = get_tokenizer()
    clean, spoilt = data.load("train"), data.load("damaged")
    pictures = {0: np.array(clean.pictures), 1: np.array(spoilt.pictures)}
    sets = {0: clean, 1: spoilt}
    ids = {k: [tokenizer(group, truncation=True).input_ids for group in s.captions] for k, s in sets.items()}
    model = Towers(len(tokenizer)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02)
    saved = None if args.restart else load_checkpoint("clip")
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    clock, first = Clock(args.minutes), saved["step"] if saved else 0
    pad = tokenizer.pad_token_id
    for step in trained(clock, "clip"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=30))
        draws = [(0, i) for i in np.random.randint(len(clean), size=args.batch * 3 // 4)]
        draws += [(1, i) for i in np.random.randint(len(spoilt), size=args.batch // 4)]
        pixels = clip_pixels(to_tensor([pictures[k][i] for k, i in draws])).to(device)
        texts = [random.choice(ids[k][i]) for k, i in draws]
        longest = max(map(len, texts))
        tokens = torch.tensor([t + [pad] * (longest - len(t)) for t in texts], device=device)
        with autocast(device):
            raw = model.image(pixels)
            one, two = model.texts(tokens)
        raw = raw.float()
        loss = contrast(raw, one, model.scale[0]) + contrast(raw, two, model.scale[1])
        for name in data.ATTRIBUTES:
            labels = torch.tensor([sets[k].labels[name][i] for k, i in draws], device=device)
            for heads, seen in ((model.heads, raw), (model.text_heads[0], one), (model.text_heads[1], two)):
                loss = loss + 0.25 * F.cross_entropy(heads[name](seen), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        if step % 20 == 0:
            scale = model.scale[1].exp().item()
            print(f"step {first + step} {clock.spent:.0f}s loss {loss.item():.4f} scale {scale:.1f}", flush=True)
        if step % 100 == 99 or clock.done:
            print(json.dumps({k: round(v, 3) for k, v in check(model, tokenizer, device).items()}), flush=True)
            save_checkpoint("clip", model=model.state_dict(), optimizer=optimizer.state_dict(), step=first + step + 1)


if __name__ == "__main__":
    main()
