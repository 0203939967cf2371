"""The rendered pictures that everything is trained on, cached under build/train/data as one array and one list a split.

    python training/data.py            # renders what is missing (a few minutes on two cores)

Splits: `train` and `damaged` (training combinations), `val` (training combinations, unseen seeds), `heldout`
(combinations of product, colour and setting that training never sees). Every picture follows from its seed alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import pictures as art
from common import BUILD, HELD_OUT_SEED, NATIVE

CAPTIONS = 4
SIZES = {"train": 30_000, "damaged": 5_000, "val": 600, "heldout": 1_200}
FIRST_SEED = {"train": 0, "damaged": 10_000_000, "val": HELD_OUT_SEED, "heldout": HELD_OUT_SEED + 10_000_000}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "product": art.PRODUCTS,
    "colour": art.COLOURS,
    "material": art.MATERIALS,
    "setting": art.SETTINGS,
    "style": ("none", *art.STYLES),
    "accent": ("none", *art.ACCENTS),
    "damage": ("none", *art.DAMAGES),
}


@dataclass
class Split:
    """Pictures uint8 [n, 128, 128, 3], captions (4 a picture) and class numbers by attribute [n]."""

    pictures: np.ndarray
    captions: list[list[str]]
    labels: dict[str, np.ndarray]
    severity: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)


def labels_of(scene: Any, damage: str | None = None) -> dict[str, int]:
    """The class numbers of a scene, by attribute."""
    values = {name: getattr(scene, name, None) for name in ATTRIBUTES} | {"damage": damage}
    return {name: choices.index(values[name] or "none") for name, choices in ATTRIBUTES.items()}


def make(index: int, split: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Renders picture `index` of a split; returns it with its captions, labels and severity of damage."""
    rng = np.random.default_rng(FIRST_SEED[split] + index)
    scene = art.sample_scene(rng, split="heldout" if split == "heldout" else "train")
    picture = art.render(scene, NATIVE)
    captions = [art.caption(scene, rng) for _ in range(CAPTIONS)]
    kind, severity = None, 0.0
    if split == "damaged":
        kind = art.DAMAGES[int(rng.integers(len(art.DAMAGES)))]
        severity = float(rng.uniform(0.15, 1.0))
        picture = art.damage(picture, kind, severity, rng)
        captions = [spoil(c, art.damage_words(kind, severity, rng), rng) for c in captions]
    else:
        captions = [c if rng.random() < 0.75 else f"{c}, {art.clean_words(rng)}" for c in captions]
    return picture, {"captions": captions, "labels": labels_of(scene, kind), "severity": severity}


def spoil(caption: str, words: str, rng: np.random.Generator) -> str:
    """A caption that says the damage before, behind or instead of what is seen."""
    place = rng.random()
    if place < 0.2:
        return words
    return f"{caption}, {words}" if place < 0.7 else f"{words}, {caption}"


def folder() -> Path:
    return BUILD / "data"


def render_split(split: str, processes: int) -> None:
    """Renders a split into the cache unless it is there."""
    path = folder() / f"{split}.npy"
    if path.exists() and path.with_suffix(".json").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    count = SIZES[split]
    temporary = path.with_suffix(".part.npy")
    array = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, NATIVE, NATIVE, 3))
    notes = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.imap(partial(make, split=split), range(count), chunksize=32)
        for i, (picture, note) in enumerate(track(done, split, count)):
            array[i] = picture
            notes.append(note)
    array.flush()
    path.with_suffix(".json").write_text(json.dumps(notes))
    temporary.rename(path)


def load(split: str) -> Split:
    """Reads a split, rendering it first where it is missing."""
    render_split(split, os.cpu_count() or 1)
    notes = json.loads((folder() / f"{split}.json").read_text())
    labels = {a: np.array([n["labels"][a] for n in notes]) for a in ATTRIBUTES}
    severity = np.array([n["severity"] for n in notes], np.float32)
    return Split(np.load(folder() / f"{split}.npy", mmap_mode="r"), [n["captions"] for n in notes], labels, severity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    for split in SIZES:
        render_split(split, args.processes)


if __name__ == "__main__":
    main()
