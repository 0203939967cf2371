"""Measures the shipped starter models on held-out captions, combinations and seeds, and prints the table.

    python training/evaluate.py [--pictures 240] [--out build/train/evaluation]

Everything is read from models/ as shipped; only the probe (train_probe.py, trained on renders alone) comes from
build/train and is trained (half an hour) where it is missing. Beside the table: evaluation.json, samples.png (the model
card's contact sheet), nearest.jpg (the generated pictures that are nearest to a training picture, above that picture).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # so that `python -m training.evaluate` finds its neighbours

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer

import data
import pictures as art
from common import BUILD, CLIP_MEAN, CLIP_STD, MODELS, autocast, contact_sheet, load_checkpoint, to_tensor
from export_starter import MISSION, PROMPTS, sample
from train_brand import WORLDS, load_worlds, measure
from train_probe import JUDGED, Probe, accuracy

GUIDANCE, STEPS = 7.5, 25
DTYPE = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
Row = tuple[str, str, str]
"""Measure, at least, measured."""


def session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from a graph's one input to its one output, normalised, in batches of 50."""
    graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = graph.get_inputs()[0].name

    def run(values: np.ndarray) -> np.ndarray:
        parts = [graph.run(None, {name: values[i : i + 50]})[0] for i in range(0, len(values), 50)]
        out = np.concatenate(parts)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    return run


class Clip:
    """starter_clip as shipped."""

    def __init__(self, folder: Path) -> None:
        self.vision, self.text = session(folder / "vision.onnx"), session(folder / "text.onnx")
        self.fit = json.loads((folder / "calibration.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.fit["context_length"])
        self.tokenizer.enable_padding(length=self.fit["context_length"], pad_id=self.fit["pad_id"])

    def images(self, pictures: np.ndarray) -> np.ndarray:
        return self.vision(pixel_values(pictures))

    def texts(self, texts: list[str]) -> np.ndarray:
        return self.text(np.array([e.ids for e in self.tokenizer.encode_batch(texts)], np.int64))

    def score(self, pictures: np.ndarray, swapped: bool = False) -> np.ndarray:
        """Aesthetic scores 0..10; `swapped` exchanges the praising and the blaming texts."""
        pairs = self.fit["pairs"]
        gap = self.texts([p["positive"] for p in pairs]) - self.texts([p["negative"] for p in pairs])
        margins = self.images(pictures) @ (-gap if swapped else gap).T
        scale, bias, weight = (np.array([p[k] for p in pairs]) for k in ("scale", "bias", "weight"))
        return 10 * (weight / (1 + np.exp(-(scale * margins + bias)))).sum(1) / weight.sum()


def pixel_values(pictures: np.ndarray) -> np.ndarray:
    """CLIP's normalisation of uint8 [n, h, w, 3] as float32 [n, 3, h, w]."""
    scaled = (pictures.astype(np.float32) / 255 - np.float32(CLIP_MEAN)) / np.float32(CLIP_STD)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def auc(high: np.ndarray, low: np.ndarray) -> float:
    """Chance that a value of `high` exceeds one of `low`."""
    return float((high[:, None] > low[None, :]).mean() + 0.5 * (high[:, None] == low[None, :]).mean())


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values sharing their mean rank."""
    ranks = []
    for values in (a, b):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((count.cumsum() - (count - 1) / 2)[place])
    return float(np.corrcoef(*ranks)[0, 1])


def load_probe(minutes: float) -> Probe:
    """The judge, trained first where there is none."""
    if load_checkpoint("probe") is None:
        script = Path(__file__).with_name("train_probe.py")
        subprocess.run([sys.executable, str(script), "--minutes", str(minutes)], check=True)
    probe = Probe()
    probe.load_state_dict(load_checkpoint("probe")["model"])  # type: ignore[index]
    return probe.eval().requires_grad_(False)


def features(probe: Probe, pictures: np.ndarray) -> torch.Tensor:
    """Probe features [n, 128] of uint8 pictures."""
    with autocast(torch.device("cpu")):
        return torch.cat([probe.features(to_tensor(pictures[i : i + 100])) for i in range(0, len(pictures), 100)])


def judge_starter(folder: Path, probe: Probe, count: int, out: Path) -> tuple[list[Row], np.ndarray]:
    """Attributes, novelty and diversity of generated pictures; returns rows and the pictures."""
    rng = np.random.default_rng(90_000_000)
    scenes = [art.sample_scene(rng, split="heldout") for _ in range(count)]
    made = sample(folder, [art.full_caption(s) for s in scenes], STEPS, GUIDANCE, seed=1000, dtype=DTYPE)
    labels = [data.labels_of(s) for s in scenes]
    own = accuracy(probe, data.load("heldout"), torch.device("cpu"))
    probe.eval()
    pixels = to_tensor(made)
    answers: dict[str, list[int]] = {k: [] for k in JUDGED}
    for i in range(0, count, 100):
        for k, logits in probe.judge(pixels[i : i + 100]).items():
            if k == "style":
                logits = logits[:, 1:]  # the caption named one of the eight
            answers[k] += (logits.argmax(1) + (k == "style")).tolist()
    rows: list[Row] = []
    for k, least in zip(JUDGED, ("90%", "85%", "85%", "70%"), strict=True):
        asked = [i for i in range(count) if k != "style" or labels[i]["style"]]
        right = np.mean([answers[k][i] == labels[i][k] for i in asked])
        name = f"{k} of {len(asked)} generated pictures (probe on held-out renders {own[k]:.1%})"
        rows.append((name, least, f"{right:.1%}"))
    training = data.load("train").pictures
    known = features(probe, np.array(training))
    new, renders = (torch.cdist(features(probe, p), known) for p in (made, data.load("heldout").pictures[:count]))
    share = float(new.min(1).values.mean() / renders.min(1).values.mean())
    rows.append(("new: distance to the nearest training picture, against held-out renders", "70%", f"{share:.0%}"))
    nearest = new.min(1).values.argsort()[:12]
    beside = [made[i] for i in nearest] + [training[int(new[i].argmin())] for i in nearest]
    contact_sheet(beside, out / "nearest.jpg", columns=12)
    seeds = sample(folder, ["a red leather handbag on marble"] * 16, STEPS, GUIDANCE, seed=2000, dtype=DTYPE)
    same = [art.make_scene(rng, "handbag", "red", "marble", material="leather") for _ in range(16)]
    spread = [torch.pdist(features(probe, p)).mean() for p in (seeds, np.stack([art.render(s, 128) for s in same]))]
    rows.append(("diversity of 16 seeds, against 16 renders", "60%", f"{float(spread[0] / spread[1]):.0%}"))
    return rows, made


def judge_clip(clip: Clip, folder: Path, made: np.ndarray) -> list[Row]:
    """Retrieval and the aesthetic score."""
    held_out = data.load("heldout")
    rng = np.random.default_rng(91_000_000)
    found = []
    images = clip.images(np.array(held_out.pictures[:1000]))
    scenes_rng = [np.random.default_rng(data.FIRST_SEED["heldout"] + i) for i in range(1000)]
    captions = [art.full_caption(art.sample_scene(r, split="heldout")) for r in scenes_rng]
    texts = clip.texts(captions)
    for start in range(0, 1000, 100):
        part = slice(start, start + 100)
        found.append(((texts[part] @ images[part].T).argmax(1) == np.arange(100)).mean())
    pictures = np.array(held_out.pictures[:400])
    clean, swapped = clip.score(pictures), clip.score(pictures, swapped=True)
    severity = rng.uniform(0.1, 1.0, 400)
    kinds = [art.DAMAGES[i % len(art.DAMAGES)] for i in range(400)]
    spoilt = np.stack([art.damage(p, k, float(s), rng) for p, k, s in zip(pictures, kinds, severity, strict=True)])
    bad, bad_swapped = clip.score(spoilt), clip.score(spoilt, swapped=True)
    heavy = bad[severity >= 0.7]
    falls = []
    for kind in art.DAMAGES:
        ladder = [(s, art.damage(p, kind, s, rng)) for p in pictures[:16] for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
        falls.append(spearman(clip.score(np.stack([p for _, p in ladder])), np.array([s for s, _ in ladder])))
    few = sample(folder, [MISSION] * 8 + list(PROMPTS[1:9]), 3, GUIDANCE, seed=3000, dtype=DTYPE)
    own = clip.score(made)
    by_steps = f"{own.mean():.2f} / {clip.score(few).mean():.2f}"
    turned = spearman(np.r_[clean, bad], np.r_[swapped, bad_swapped]) < -0.5
    return [
        ("starter_clip: caption to picture among 100, R@1", "80%", f"{np.mean(found):.1%}"),
        ("aesthetic of generated pictures at 25 steps: share >= 7.5", "reported", f"{(own >= 7.5).mean():.1%}"),
        ("mean aesthetic at 25 steps / at 3 steps", "clearly lower", by_steps),
        ("swapping the texts turns the ranking round", "yes", "yes" if turned else "no"),
        ("aesthetic AUC, clean against damaged", "0.97", f"{auc(clean, bad):.3f}"),
        ("Spearman with severity 0 to 1, mean over 9 kinds of damage", "<= -0.8", f"{np.mean(falls):.3f}"),
        ("mean aesthetic of clean pictures", ">= 8", f"{clean.mean():.2f}"),
        ("mean aesthetic of heavily damaged ones (severity >= 0.7)", "<= 4", f"{heavy.mean():.2f}"),
    ]


def judge_brand(path: Path) -> list[Row]:
    """Brand worlds that training never saw."""
    worlds = load_worlds("heldout")
    unit = session(path)(pixel_values(worlds.reshape(-1, *worlds.shape[2:])))
    found = measure(torch.from_numpy(unit), WORLDS["heldout"])
    return [
        ("starter_brand: AUC same against other world", "0.95", f"{found['auc']:.3f}"),
        ("on-brand pictures >= 0.85", "90%", f"{found['on_brand_passes']:.1%}"),
        ("off-brand pictures >= 0.85", "<= 10%", f"{found['off_brand_passes']:.1%}"),
    ]


def write_card(model: str, rows: list[Row]) -> None:
    """Puts the rows between the marks of a model's README.md."""
    path = MODELS / model / "README.md"
    before, rest = path.read_text().split("<!-- measured -->")
    after = rest.split("<!-- /measured -->")[1]
    path.write_text(f"{before}<!-- measured -->\n{table(rows)}\n<!-- /measured -->{after}")


def table(rows: list[Row]) -> str:
    head = ["| measure | at least | measured |", "|---|---|---|"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=240)
    parser.add_argument("--out", type=Path, default=BUILD / "evaluation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--probe-minutes", type=float, default=30)
    parser.add_argument("--cards", action="store_true", help="also write the tables into the model cards")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    starter = MODELS / "starter" / "1"
    found: dict[str, list[Row]] = {}
    found["starter"], made = judge_starter(starter, load_probe(args.probe_minutes), args.pictures, args.out)
    styled = [f"{MISSION}, {', '.join(art.STYLE_WORDS[s][:4])}" for s in art.STYLES]
    sheet = args.out / "samples.png"
    contact_sheet(sample(starter, [*styled, *PROMPTS], STEPS, GUIDANCE, dtype=DTYPE), sheet, columns=8)
    if (MODELS / "starter_clip" / "1" / "vision.onnx").exists():
        found["starter_clip"] = judge_clip(Clip(MODELS / "starter_clip" / "1"), starter, made)
    if (MODELS / "starter_brand" / "1" / "model.onnx").exists():
        found["starter_brand"] = judge_brand(MODELS / "starter_brand" / "1" / "model.onnx")
    (args.out / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table([row for rows in found.values() for row in rows]))
    if args.cards:
        for model, rows in found.items():
            write_card(model, rows)
        for picture in (sheet, args.out / "nearest.jpg"):
            shutil.copy(picture, MODELS / "starter" / picture.name)


if __name__ == "__main__":
    main()
