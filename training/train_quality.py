"""Teaches starter_clip's image tower to see damage: contrastive training goes on with spoilt twins of clean pictures.

    python training/train_quality.py --minutes 10

The texts stay frozen, so the diffusion pipeline's encoders are untouched. Damage is drawn anew at every step; beside
the contrastive loss and the attribute heads (the kind of damage among them), the margins of the antonym pairs
(export_clip.PAIRS) are drawn to fall with the severity, and those of a clean picture to exceed those of spoilt ones.
What is kept is the average of the weights. Writes the checkpoint build/train/quality.pt, which export_clip.py prefers
to clip.pt.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import torch
import torch.nn.functional as F

import data
import pictures as art
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
)
from export_clip import PAIRS, embed_pictures, embed_texts
from muon import Muon
from towers import ImageTower
from train_clip import Towers, contrast, get_tokenizer

# How often each damage is drawn for training: those that are harder to see, oftener.
OFTEN = {"crooked": 2.0, "colourcast": 1.6, "jpeg": 1.5, "overexposed": 1.3, "lowcontrast": 1.3, "cut": 0.7}


def spoil(picture: np.ndarray, rng: np.random.Generator, kind: str | None = None) -> tuple[np.ndarray, str, float, str]:
    """A damaged copy, the words for it, its severity and kind; slight damage is drawn oftener than heavy."""
    if kind is None:
        share = np.array([OFTEN.get(k, 1.0) for k in art.DAMAGES])
        kind = art.DAMAGES[int(rng.choice(len(share), p=share / share.sum()))]
    severity = float(0.08 + 0.92 * rng.random() ** 1.3)
    return art.damage(picture, kind, severity, rng), art.damage_words(kind, severity, rng), severity, kind


def target_of(severity: torch.Tensor) -> torch.Tensor:
    """The score in 0..1 that a picture of this severity should get."""
    return torch.where(severity > 0, 0.60 - 0.54 * severity, torch.full_like(severity, 0.94))


def ranking_loss(raw: torch.Tensor, gap: torch.Tensor, severity: torch.Tensor) -> torch.Tensor:
    """The mean margin's distance from its target, and how far spoilt pictures are from lying below clean ones."""
    scores = torch.sigmoid(8 * (F.normalize(raw, dim=-1) @ gap.T)).mean(1)
    ahead = scores[severity == 0][:, None] - scores[severity > 0][None]
    off = F.smooth_l1_loss(scores, target_of(severity), beta=0.1)
    return 6 * off + F.softplus(-20 * (ahead - 0.1)).mean()


def check(image: ImageTower, gap: torch.Tensor, seed: int = 5) -> dict[str, float]:
    """AUC of clean against spoilt held-out pictures by the mean margin, over all and by kind of damage, and the rank
    correlation of that margin with severity."""
    rng = np.random.default_rng(seed)
    clean = np.array(data.load("heldout").pictures[:180])
    made = [spoil(p, rng, art.DAMAGES[i % len(art.DAMAGES)]) for i, p in enumerate(clean)]
    unit = embed_pictures(image, np.concatenate([clean, np.stack([m[0] for m in made])]))
    score = torch.sigmoid(8 * (unit @ gap.T)).mean(1)
    severity = torch.tensor([m[2] for m in made])
    good, bad = score[:180], score[180:]
    ranks = torch.stack([v.argsort().argsort().float() for v in (bad, severity)])
    wins = (good[:, None] > bad[None]).float().mean(0)
    return {
        "auc": round(float((good[:, None] > bad[None]).float().mean()), 4),
        "spearman_of_spoilt": round(float(torch.corrcoef(ranks)[0, 1]), 4),
        "clean": round(float(good.mean()), 3),
        "heavy": round(float(bad[severity > 0.7].mean()), 3),
        **{k: round(float(wins[i :: len(art.DAMAGES)].mean()), 2) for i, k in enumerate(art.DAMAGES)},
    }


def main() -> None:
    parser = arguments(__doc__, minutes=10)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=40, help="clean pictures a step; as many spoilt twins")
    args = parser.parse_args()
    device = setup(args)
    tokenizer = get_tokenizer()
    towers = Towers(len(tokenizer)).to(device)
    saved = (None if args.restart else load_checkpoint("quality")) or load_checkpoint("clip")
    if saved is None:
        raise SystemExit("train_quality.py: run train_clip.py first")
    towers.load_state_dict(saved["model"])
    for part in (towers.first, towers.second, towers.first_projection, towers.text_heads):
        part.eval().requires_grad_(False)
    split = data.load("train")
    praise, blame = (embed_texts(towers, [pair[i] for pair in PAIRS]).to(device) for i in (1, 2))
    gap = praise - blame
    learning = [*towers.image.parameters(), *towers.heads.parameters()]
    optimizer, ema = Muon(learning, lr=args.rate), Ema(towers.image, 0.98)
    kept = copy.deepcopy(towers.image).eval()
    rng = np.random.default_rng()
    clock = Clock(args.minutes)
    for step in trained(clock, "quality"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=20))
        rows = rng.integers(len(split), size=args.batch)
        clean = [np.array(split.pictures[i]) for i in rows]
        spoilt = [spoil(p, rng) for p in clean]
        captions = [split.captions[i][int(rng.integers(data.CAPTIONS))] for i in rows]
        captions += [data.spoil(c, s[1], rng) for c, s in zip(captions, spoilt, strict=True)]
        severity = torch.tensor([0.0] * args.batch + [s[2] for s in spoilt], device=device)
        tokens = tokenizer(captions, padding=True, truncation=True, return_tensors="pt").input_ids.to(device)
        with torch.no_grad(), autocast(device):
            texts = towers.second(tokens).text_embeds.float()
        with autocast(device):
            raw = towers.image(clip_pixels(to_tensor([*clean, *(s[0] for s in spoilt)]).to(device)))
        raw = raw.float()
        loss = contrast(raw, texts, towers.scale[1].detach()) + ranking_loss(raw, gap, severity)
        labels = {k: np.concatenate([split.labels[k][rows]] * 2) for k in ("product", "colour", "setting", "style")}
        labels["damage"] = np.array([0] * args.batch + [1 + art.DAMAGES.index(s[3]) for s in spoilt])
        for name, wanted in labels.items():
            part = F.cross_entropy(towers.heads[name](raw), torch.from_numpy(wanted).to(device))
            loss = loss + (0.5 if name == "damage" else 0.15) * part
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 2.0)
        optimizer.step()
        ema.update(towers.image, step)
        if step % 50 == 49 or clock.done:
            ema.copy_to(kept)
            print(json.dumps({"step": step, "loss": round(loss.item(), 3)} | check(kept, gap)), flush=True)
            weights = towers.state_dict() | {f"image.{k}": v for k, v in kept.state_dict().items()}
            save_checkpoint("quality", model=weights)


if __name__ == "__main__":
    main()
