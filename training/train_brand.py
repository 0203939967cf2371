"""Trains starter_brand: pictures of one brand world lie together whatever the product, worlds lie apart.

    python training/train_brand.py --minutes 10 [--export OUT]

A world fixes palette, light, grading, composition, materials and setting. The loss is a balanced logistic one on pairs,
whose threshold is the gate itself: cosine 0.85. Worlds from number 100,000 on are held out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import pictures as art
from common import (
    BUILD,
    MODELS,
    NATIVE,
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
)
from impostors import write_impostors
from towers import ImageTower

GATE = 0.85
PICTURES = 12
WORLDS = {"train": 500, "heldout": 60}
FIRST_WORLD = {"train": 0, "heldout": 100_000}


def load_worlds(split: str) -> np.ndarray:
    """Pictures uint8 [worlds, 12, 128, 128, 3], rendered when first asked for."""
    path = BUILD / "data" / f"worlds_{split}.npy"
    if not path.exists():
        scenes = []
        for number in range(FIRST_WORLD[split], FIRST_WORLD[split] + WORLDS[split]):
            rng = np.random.default_rng(70_000_000 + number)
            world = art.sample_world(rng)
            scenes += [art.sample_scene_in_world(world, rng) for _ in range(PICTURES)]
        made = art.render_batch(scenes, NATIVE)
        np.save(path, made.reshape(WORLDS[split], PICTURES, NATIVE, NATIVE, 3))
    return np.load(path)


def pair_loss(embeddings: torch.Tensor, worlds: int, each: int) -> torch.Tensor:
    """Balanced logistic loss on the cosines of all pairs, its threshold at the gate."""
    unit = F.normalize(embeddings, dim=-1)
    cosine = unit @ unit.T
    owner = torch.arange(worlds, device=cosine.device).repeat_interleave(each)
    same = (owner[:, None] == owner[None, :]) & ~torch.eye(len(owner), dtype=torch.bool, device=cosine.device)
    other = owner[:, None] != owner[None, :]
    near = F.softplus(-24 * (cosine[same] - (GATE + 0.05))).mean()
    # The hardest tenth of strange pairs counts as much as all of them: most worlds differ at a glance.
    far = F.softplus(24 * (cosine[other] - (GATE - 0.10)))
    return near + far.mean() + far.topk(max(1, len(far) // 10)).values.mean()


@torch.no_grad()
def embed(tower: ImageTower, pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """Normalised embeddings [n, 128] of pictures uint8 [n, 128, 128, 3]."""
    parts = [tower(clip_pixels(to_tensor(pictures[i : i + 96]).to(device))).cpu() for i in range(0, len(pictures), 96)]
    return F.normalize(torch.cat(parts), dim=-1)


def measure(unit: torch.Tensor, worlds: int) -> dict[str, float]:
    """AUC and the shares past the gate, scored as the server does: mean cosine to the 3 nearest of 8 references."""
    grouped = unit.reshape(worlds, PICTURES, -1)
    references, asked = grouped[:, :8], grouped[:, 8:].reshape(-1, unit.shape[-1])
    scores = torch.einsum("qd,wrd->qwr", asked, references).topk(3, dim=-1).values.mean(-1)  # [queries, worlds]
    own = torch.arange(worlds).repeat_interleave(PICTURES - 8)
    mask = F.one_hot(own, worlds).bool()
    same, other = scores[mask], scores[~mask]
    order = torch.cat([same, other]).argsort().argsort().float() + 1
    auc = (order[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other))
    return {
        "auc": round(float(auc), 4),
        "on_brand_passes": round(float((same >= GATE).float().mean()), 4),
        "off_brand_passes": round(float((other >= GATE).float().mean()), 4),
    }


def export(tower: ImageTower, out: Path) -> None:
    """Writes brand.onnx and what the server must know of it."""
    from export_clip import to_onnx

    out.mkdir(parents=True, exist_ok=True)
    names = ("pixel_values", "image_embeds")
    to_onnx(tower.cpu(), torch.randn(2, 3, NATIVE, NATIVE), names, {0: "batch"}, out / "model.onnx")


def main() -> None:
    parser = arguments(__doc__, minutes=10)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--worlds", type=int, default=24, help="worlds a batch, 5 pictures each")
    parser.add_argument("--export", type=Path, default=MODELS / "starter_brand" / "1")
    args = parser.parse_args()
    device = setup(args)
    assert data.NATIVE == NATIVE
    train, held_out = load_worlds("train"), load_worlds("heldout")
    tower = ImageTower(128, (64, 96, 160)).to(device)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=args.rate, weight_decay=0.03)
    saved = None if args.restart else load_checkpoint("brand")
    if saved:
        tower.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    clock, each = Clock(args.minutes), 5
    for step in trained(clock, "brand"):
        set_learning_rate(optimizer, learning_rate(args.rate, clock.fraction, step, warmup=30))
        worlds = np.random.choice(len(train), args.worlds, replace=False)
        chosen = np.concatenate([train[w, np.random.choice(PICTURES, each, replace=False)] for w in worlds])
        with autocast(device):
            embeddings = tower(clip_pixels(to_tensor(chosen).to(device)))
        loss = pair_loss(embeddings.float(), args.worlds, each)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49 or clock.done:
            measured = measure(embed(tower.eval(), held_out.reshape(-1, *held_out.shape[2:]), device), len(held_out))
            tower.train()
            print(json.dumps({"step": step, "loss": round(loss.item(), 4)} | measured), flush=True)
            save_checkpoint("brand", model=tower.state_dict(), optimizer=optimizer.state_dict())
    export(tower.eval(), args.export)
    write_impostors(args.export, train)


if __name__ == "__main__":
    main()
