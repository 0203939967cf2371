"""Writes models/starter_clip/1: two ONNX graphs, the tokenizer and the fitted calibration of the scores.

    python training/export_clip.py [OUT]

The aesthetic score is K antonym pairs of texts: p_k = sigmoid(s_k (cos(x, good_k) - cos(x, bad_k)) + b_k), score =
10 * sum of w_k p_k. Scales, biases and weights are fitted on clean pictures (target 9.3) and spoilt ones (falling with
severity) of training combinations; the figures that are reported come from held-out ones (evaluate.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

import data
from architecture import PROJECTION
from common import CLIP_MEAN, CLIP_STD, MODELS, NATIVE, clip_pixels, load_checkpoint, to_tensor
from tokenizer import MAX_LENGTH
from towers import ImageTower
from train_clip import TOKENIZER, Towers, get_tokenizer

# Sub-score, praise, blame. Several pairs of one name are averaged into one sub-score by their weights.
PAIRS = (
    ("overall", "sharp, high quality, professional photo", "low quality, bad photo, worst quality"),
    ("overall", "excellent product photography", "poor quality, amateur snapshot"),
    ("sharpness", "sharp focus, crisp and clear", "blurry, out of focus"),
    ("noise", "clean, detailed, high quality", "noisy, grainy, high iso noise"),
    ("compression", "sharp, detailed, best quality", "jpeg artifacts, blocky compression"),
    ("lighting", "well lit, perfect exposure", "overexposed, blown out highlights"),
    ("lighting", "well lit, high quality", "underexposed, too dark, badly lit"),
    ("composition", "well composed, professional photo", "crooked, tilted horizon, skewed camera"),
    ("composition", "well composed, beautiful photo", "badly cropped, object out of frame"),
    ("colour", "beautiful photo, high quality", "bad white balance, wrong colors, sickly tint"),
    ("colour", "crisp and clear, best quality", "low contrast, flat and dull, washed out"),
)


class TextTower(nn.Module):
    """Token ids [n, length] to text embeddings; padding after the end token does not matter to a causal encoder."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.model = towers.second

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids).text_embeds


Names = tuple[str, str]


def to_onnx(model: nn.Module, example: torch.Tensor, names: Names, dynamic: dict[int, str], path: Path) -> None:
    """Exports one graph with its weights inside, at an opset and IR version that older runtimes read."""
    shapes = ({i: torch.export.Dim(n, min=1, max=4096 if i == 0 else MAX_LENGTH) for i, n in dynamic.items()},)
    program = torch.onnx.export(
        model.eval(), (example,), input_names=[names[0]], output_names=[names[1]], opset_version=18, dynamo=True,
        external_data=False, dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(path, external_data=False)
    graph = onnx.load(path)
    graph.ir_version = 9
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


@torch.no_grad()
def embed_pictures(tower: ImageTower, pictures: np.ndarray) -> torch.Tensor:
    """Normalised image embeddings [n, 128]."""
    parts = [tower(clip_pixels(to_tensor(pictures[i : i + 100]))) for i in range(0, len(pictures), 100)]
    return F.normalize(torch.cat(parts), dim=-1)


@torch.no_grad()
def embed_texts(towers: Towers, texts: list[str]) -> torch.Tensor:
    """Normalised embeddings [n, 128] of the second text tower."""
    tokens = get_tokenizer()(texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return F.normalize(towers.second(tokens.input_ids).text_embeds, dim=-1)


def fit_pairs(margins: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fits scale [k], bias [k] and weight [k] so that the weighted mean of sigmoids meets `target` in 0..1 [n].

    Scales stay positive: swapping a pair's texts then turns its part of the ranking round.
    """
    count = margins.shape[1]
    log_scale = torch.full((count,), 2.3, requires_grad=True)
    bias = torch.zeros(count, requires_grad=True)
    logits = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.Adam([log_scale, bias, logits], lr=0.03)
    for _ in range(1500):
        # No pair may vanish: a floor of a third of an equal share keeps every sub-score meaningful.
        weights = 0.33 / count + 0.67 * logits.softmax(0)
        parts = torch.sigmoid(log_scale.exp() * margins + bias)
        error = F.smooth_l1_loss((parts * weights).sum(1), target, beta=0.1)
        loss = error + 0.05 * (parts - target[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = 0.33 / count + 0.67 * logits.softmax(0)
    return log_scale.exp().detach(), bias.detach(), weights.detach()


def calibrate(towers: Towers) -> dict[str, object]:
    """Fits the antonym pairs and the map from cosine to alignment."""
    clean, spoilt = data.load("train"), data.load("damaged")
    good = embed_pictures(towers.image, np.array(clean.pictures[:1500]))
    bad = embed_pictures(towers.image, np.array(spoilt.pictures[:1500]))
    praise, blame = (embed_texts(towers, [pair[i] for pair in PAIRS]) for i in (1, 2))
    margins = torch.cat([good, bad]) @ (praise - blame).T
    target = torch.cat([torch.full((len(good),), 0.93), 0.60 - 0.52 * torch.from_numpy(spoilt.severity[:1500])])
    scale, bias, weight = fit_pairs(margins, target)
    # Alignment: matching against shuffled captions, a logistic regression on one number.
    texts = embed_texts(towers, [max(c, key=len) for c in clean.captions[:1500]])
    cosine = torch.cat([(good[:1500] * texts).sum(1), (good[:1500] * texts.roll(1, 0)).sum(1)])
    match = torch.cat([torch.ones(1500), torch.zeros(1500)])
    line = torch.tensor([10.0, -5.0], requires_grad=True)
    optimizer = torch.optim.Adam([line], lr=0.1)
    for _ in range(600):
        loss = F.binary_cross_entropy_with_logits(line[0] * cosine + line[1], match)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = zip(PAIRS, scale.tolist(), bias.tolist(), weight.tolist(), strict=True)
    pairs = [
        {"name": n, "positive": p, "negative": q, "scale": round(s, 4), "bias": round(b, 4), "weight": round(w, 5)}
        for (n, p, q), s, b, w in rows
    ]
    return {
        "version": "2", "method": "clip_antonym_pairs", "image_size": NATIVE, "mean": CLIP_MEAN, "std": CLIP_STD,
        "context_length": MAX_LENGTH, "pad_id": get_tokenizer().pad_token_id,
        "logit_scale": round(float(towers.scale[1].exp()), 3), "pairs": pairs,
        "alignment": {"scale": round(float(line[0]), 4), "bias": round(float(line[1]), 4)},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=MODELS / "starter_clip" / "1")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    saved = load_checkpoint("quality") or load_checkpoint("clip")
    if saved is None:
        raise SystemExit("export_clip.py: run train_clip.py first")
    towers = Towers(len(get_tokenizer()))
    towers.load_state_dict(saved["model"])
    towers.eval().requires_grad_(False)
    args.out.mkdir(parents=True, exist_ok=True)
    pixels = torch.randn(2, 3, NATIVE, NATIVE)
    to_onnx(towers.image, pixels, ("pixel_values", "image_embeds"), {0: "batch"}, args.out / "vision.onnx")
    ids = torch.full((2, 20), get_tokenizer().eos_token_id)
    to_onnx(TextTower(towers), ids, ("input_ids", "text_embeds"), {0: "batch", 1: "sequence"}, args.out / "text.onnx")
    shutil.copy(TOKENIZER / "tokenizer.json", args.out / "tokenizer.json")
    (args.out / "calibration.json").write_text(json.dumps(calibrate(towers), indent=2) + "\n")
    assert PROJECTION == 128


if __name__ == "__main__":
    main()
