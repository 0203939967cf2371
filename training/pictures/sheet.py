"""Contact sheets and the rendering rate: `python -m pictures.sheet OUT.png` or `--rate`, in training/."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pictures.brand import sample_scene_in_world, sample_world
from pictures.damage import DAMAGES, damage
from pictures.render import render, render_batch
from pictures.scene import make_scene, sample_scene
from pictures.vocabulary import COLOURS, MATERIALS, PRODUCTS, SETTINGS, STYLES

Picture = NDArray[np.uint8]


def grid(pictures: Iterable[Picture], columns: int, gap: int = 4) -> Picture:
    """Pictures uint8 [h, w, 3] of one size laid out in rows on white."""
    tiles = list(pictures)
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def part(name: str, size: int, seed: int) -> Picture:
    """One section of the sheet by name."""
    rng = np.random.default_rng(seed)
    if name == "products":
        scenes = [make_scene(rng, p, COLOURS[(i + j * 5) % 12], SETTINGS[(i + 3 * j) % 8])
                  for i, p in enumerate(PRODUCTS) for j in range(4)]  # fmt: skip
        return grid((render(s, size) for s in scenes), 12)
    if name == "colours":
        scenes = [make_scene(rng, p, c, "studio") for p in ("handbag", "vase") for c in COLOURS]
        return grid((render(s, size) for s in scenes), 12)
    if name == "settings":
        scenes = [make_scene(rng, p, c, s) for p, c in (("bottle", "teal"), ("shoe", "red")) for s in SETTINGS]
        return grid((render(s, size) for s in scenes), 8)
    if name == "materials":
        kinds = ("handbag", "vase", "chair", "mug")
        scenes = [make_scene(rng, p, "teal", "studio", None, m) for p in kinds for m in MATERIALS]
        return grid((render(s, size) for s in scenes), 10)
    if name == "styles":
        bag = ("marble", "leather", "gold")
        scenes = [make_scene(rng, "handbag", c, bag[0], s, bag[1], bag[2]) for c in ("brown", "gold") for s in STYLES]
        scenes += [make_scene(rng, "lamp", "teal", "wood", s) for s in STYLES]
        return grid((render(s, size) for s in scenes), 8)
    if name == "damages":
        picture = render(make_scene(rng, "watch", "blue", "wood"), size)
        return grid((damage(picture, k, v, rng) for v in (0.3, 0.6, 1.0) for k in DAMAGES), len(DAMAGES))
    worlds = [sample_world(rng) for _ in range(4)]
    return grid((render(sample_scene_in_world(w, rng), size) for w in worlds for _ in range(10)), 10)


PARTS = ("products", "colours", "settings", "materials", "styles", "damages", "worlds")


def rate(count: int = 1000) -> str:
    """Measures pictures a second at 128 pixels: on one core by its CPU time, and on all cores by the wall clock."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(count)]
    for scene in scenes[:40]:
        render(scene)
    start = time.process_time()
    for scene in scenes[:200]:
        render(scene)
    one = 200 / (time.process_time() - start)
    start = time.perf_counter()
    render_batch(scenes)
    both = count / (time.perf_counter() - start)
    return f"{one:.0f} pictures/s of one core's time, {both:.0f} by the clock on all cores with their start-up"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--only", choices=PARTS, help="one section instead of all")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", action="store_true", help="print pictures per second")
    args = parser.parse_args()
    if args.rate:
        print(rate())
    if args.out:
        sections = [part(name, args.size, args.seed) for name in ([args.only] if args.only else PARTS)]
        width = max(s.shape[1] for s in sections)
        padded = [np.pad(s, ((0, 12), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sections]
        Image.fromarray(np.concatenate(padded)).save(args.out)


if __name__ == "__main__":
    main()
