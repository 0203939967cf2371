"""The surroundings: what stands behind and under the object, by setting. Colours are display RGB in 0..1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pictures.curves import Field
from pictures.materials import TILE, lookup, noise
from pictures.scene import Scene
from pictures.styles import RGB
from pictures.view import View, disc, rgb, view_of

# The ground's own colour, which it throws back up at the object, and how far it mirrors.
GROUND: dict[str, tuple[RGB, float]] = {
    "marble": ((0.94, 0.94, 0.95), 0.30),
    "wood": ((0.56, 0.35, 0.19), 0.10),
    "beach": ((0.92, 0.82, 0.62), 0.0),
    "studio": ((0.76, 0.77, 0.78), 0.10),
    "velvet": ((0.36, 0.05, 0.12), 0.0),
    "night": ((0.07, 0.08, 0.16), 0.42),
    "garden": ((0.30, 0.50, 0.16), 0.0),
    "snow": ((0.92, 0.95, 1.0), 0.0),
}
VELVETS: tuple[tuple[RGB, RGB], ...] = (  # valley, crest
    ((0.17, 0.005, 0.04), (0.62, 0.07, 0.17)),
    ((0.17, 0.005, 0.04), (0.62, 0.07, 0.17)),
    ((0.03, 0.03, 0.17), (0.20, 0.20, 0.56)),
    ((0.17, 0.02, 0.15), (0.52, 0.13, 0.45)),
)


def backdrop(scene: Scene, size: int) -> Field:
    """The empty set of a scene, float32 [size, size, 3] in 0..1."""
    return np.clip(PAINT[scene.setting](view_of(scene, size)), 0, 1)


def marble(view: View) -> Field:
    picture = view.blend((0.60, 0.61, 0.64), (0.76, 0.77, 0.80), (0.86, 0.86, 0.88), (0.97, 0.97, 0.97))
    veins = lookup(_veins(), view.u, view.v, 0.62) * view.ground
    picture -= veins[..., None] * rgb((0.68, 0.66, 0.62))
    return picture


def wood(view: View) -> Field:
    picture = view.blend((0.52, 0.44, 0.36), (0.78, 0.69, 0.58), (0.50, 0.30, 0.15), (0.66, 0.42, 0.23))
    board = view.u * np.float32(3.2)
    tone = np.sin(np.floor(board) * np.float32(12.9) + view.seed % 7) * np.float32(0.10)
    inside = board - np.floor(board)
    seam = np.exp(-((np.minimum(inside, 1 - inside) * np.float32(22)) ** 2))
    bend = lookup(noise(6), view.u, view.v, 0.35)
    grain = np.sin(board * np.float32(15) + bend * np.float32(7)) * np.float32(0.055)
    factor = 1 + (tone + grain + bend * np.float32(0.05) - seam * np.float32(0.45)) * view.ground
    glow = np.exp(-(((view.x - 0.25 - 0.5 * view.shift) ** 2 + (view.y - 0.2) ** 2) * np.float32(9)))
    picture *= factor[..., None]
    picture += (glow * (1 - view.ground) * np.float32(0.2))[..., None] * rgb((1, 0.9, 0.7))
    return picture


def beach(view: View) -> Field:
    picture = view.blend((0.30, 0.62, 0.93), (0.80, 0.92, 0.98), (0.90, 0.80, 0.60), (0.96, 0.87, 0.68))
    clouds = np.clip(lookup(noise(6), view.x + view.shift, view.y * 2, 0.6), 0, 1) * (1 - view.ground)
    picture += (clouds * np.float32(0.35))[..., None] * (1 - picture)
    line = view.y
    shore = view.horizon + 0.012 * np.sin(view.x * np.float32(9) + view.shift * np.float32(6))
    sea = np.clip((line - np.float32(view.horizon - 0.11)) * 90, 0, 1) * np.clip((shore - line) * 70 + 0.5, 0, 1)
    waves = np.sin(line * 300 + np.sin(view.x * 14) * 1.5) * np.float32(0.035)
    deep = np.clip((line - np.float32(view.horizon - 0.11)) / np.float32(0.12), 0, 1)[..., None]
    water = rgb((0.03, 0.36, 0.58)) + rgb((0.12, 0.36, 0.20)) * deep + waves[..., None]
    picture += (water - picture) * sea[..., None]
    foam = np.exp(-(((line - shore) / np.float32(0.011)) ** 2))
    picture += foam[..., None] * (np.float32(0.97) - picture) * np.float32(0.85)
    ripples = np.sin(view.v * np.float32(26) + lookup(noise(12), view.u, view.v, 0.5) * np.float32(3.5))
    sand = (ripples * np.float32(0.022) + lookup(noise(64), view.u, view.v, 0.8) * np.float32(0.02)) * view.ground
    picture += sand[..., None]
    return picture


def studio(view: View) -> Field:
    """A paper sweep: no edge between wall and floor, a pool of light behind the object."""
    line = view.y
    bend = 1 / (1 + np.exp(-(line - np.float32(view.horizon)) * np.float32(11)))
    level = np.float32(0.50) + np.float32(0.24) * bend - np.float32(0.10) * np.clip(line - view.horizon - 0.1, 0, 1)
    middle = np.float32(0.5 + view.scene.x)
    pool = np.exp(-(((view.x - middle) ** 2 + (line - np.float32(view.horizon - 0.1)) ** 2) * np.float32(5)))
    paper: Field = (level + np.float32(0.30) * pool)[..., None] * rgb((0.985, 0.995, 1.01))
    return paper


def velvet(view: View) -> Field:
    """Cloth that hangs in folds behind and spreads towards the viewer; its sheen is on the slopes, not the crests."""
    valley, crest = (rgb(tone) for tone in VELVETS[view.seed % len(VELVETS)])
    bend = lookup(noise(4), view.x + view.shift, view.y, 0.5)
    hang = np.sin(view.x * np.float32(24) + bend * np.float32(4.5) + view.shift * 6)
    lie = np.sin(view.u * np.float32(15) + lookup(noise(4), view.u, view.v, 0.4) * np.float32(4) + view.v * 4)
    fold = hang + (np.float32(0.8) * lie - hang) * view.ground
    light = np.float32(0.42) + np.float32(0.36) * fold + np.float32(0.16) * fold * fold
    level = light * (0.72 + np.float32(0.28) * view.ground) * (0.8 + np.float32(0.3) * view.y)
    cloth: Field = valley + (crest - valley) * level[..., None]
    return cloth


def night(view: View) -> Field:
    picture = view.blend((0.015, 0.02, 0.075), (0.11, 0.10, 0.24), (0.09, 0.09, 0.18), (0.03, 0.035, 0.08))
    rng = np.random.default_rng(view.seed)
    hues = ((1.0, 0.72, 0.32), (1.0, 0.86, 0.62), (1.0, 0.38, 0.24), (0.45, 0.68, 1.0), (0.95, 0.45, 0.75))
    for _ in range(16):
        place = (rng.uniform(0, 1), view.horizon - abs(rng.normal(0, 0.22)) - 0.02)
        radius, power = rng.uniform(0.018, 0.055), rng.uniform(0.25, 0.75)
        disc(picture, view, place, radius, rgb(hues[int(rng.integers(len(hues)))]) * np.float32(power))
        below = (place[0], 2 * view.horizon - place[1] + 0.02)
        disc(picture, view, below, radius * 1.3, rgb(hues[int(rng.integers(len(hues)))]) * np.float32(power * 0.25))
    return picture


def garden(view: View) -> Field:
    """Leaves far out of focus, a lawn under the object."""
    picture = view.blend((0.20, 0.42, 0.17), (0.50, 0.70, 0.33), (0.42, 0.63, 0.22), (0.22, 0.44, 0.10))
    wall = 1 - view.ground
    leaves = lookup(noise(8), view.x + view.shift, view.y, 0.9)
    leaves = leaves + np.float32(0.6) * lookup(noise(16, 1), view.x, view.y + view.shift, 0.9)
    picture *= (1 + np.float32(0.30) * leaves * wall)[..., None]
    rng = np.random.default_rng(view.seed)
    for _ in range(9):
        place = (rng.uniform(0, 1), rng.uniform(0.02, max(0.1, view.horizon - 0.08)))
        power = np.float32(rng.uniform(0.12, 0.3))
        disc(picture, view, place, rng.uniform(0.025, 0.06), rgb((0.95, 1.0, 0.55)) * power)
    sway: Field = view.u + np.float32(0.04) * np.sin(view.v * np.float32(9))
    blades = lookup(noise(64, 2), sway, view.v * np.float32(0.3), 0.9)
    tufts = lookup(noise(16, 3), view.u, view.v, 0.7)
    picture *= (1 + (np.float32(0.17) * blades + np.float32(0.14) * tufts) * view.ground)[..., None]
    return picture


def snow(view: View) -> Field:
    picture = view.blend((0.48, 0.63, 0.84), (0.84, 0.90, 0.97), (0.84, 0.90, 0.98), (0.97, 0.98, 1.0))
    rng = np.random.default_rng(view.seed)
    for _ in range(7):  # firs in the haze
        foot, height = rng.uniform(0, 1), rng.uniform(0.16, 0.34)
        reach = 0.35 * height + 0.02 + abs(math.sin(math.radians(view.scene.roll_degrees)))
        near = slice(max(0, int((foot - reach) * view.size)), math.ceil((foot + reach) * view.size))
        rise = (np.float32(view.horizon) - view.y[:, near]) / np.float32(height)
        width = np.clip(1 - rise, 0, 1) * np.float32(height * 0.27) * (1 + 0.25 * np.sin(rise * np.float32(22)))
        tree = np.clip((width - np.abs(view.x[:, near] - np.float32(foot))) / np.float32(0.014) + 0.3, 0, 1)
        tree *= (rise > 0) & (rise < 1)
        haze = np.float32(rng.uniform(0.35, 0.6))
        picture[:, near] += (tree * haze)[..., None] * (rgb((0.24, 0.37, 0.47)) - picture[:, near])
    drifts = lookup(noise(4), view.u, view.v * 2, 0.5) + 0.4 * lookup(noise(16), view.u, view.v, 0.5)
    picture -= (np.clip(drifts, -0.4, 1) * np.float32(0.10) * view.ground)[..., None] * rgb((1.2, 0.8, 0.35))
    for _ in range(22):
        place = (rng.uniform(0, 1), rng.uniform(0, view.horizon))
        disc(picture, view, place, rng.uniform(0.005, 0.011), rgb((0.35, 0.35, 0.35)))
    return picture


PAINT: dict[str, Callable[[View], Field]] = {
    "marble": marble, "wood": wood, "beach": beach, "studio": studio,
    "velvet": velvet, "night": night, "garden": garden, "snow": snow,
}  # fmt: skip


@cache
def _veins() -> NDArray[np.float32]:
    """Carrara-like veins [TILE, TILE], 0 none .. 1: ridges of warped noise, wide pale ones and thin dark ones."""
    rows, columns = np.indices((TILE, TILE)).astype(np.float32) / TILE
    warp = 0.10 * lookup(noise(8, 4), columns, rows, 1) + 0.05 * lookup(noise(16, 5), columns, rows, 1)
    u, v = columns + warp, rows + 0.8 * warp
    broad = np.exp(-np.abs(lookup(noise(4, 6), u, v, 1)) * 7)
    thin = np.exp(-np.abs(lookup(noise(8, 7), u, v, 1)) * 20)
    cloud = np.clip(lookup(noise(4, 8), columns, rows, 1) + 0.3, 0, 1)
    veins = 0.42 * broad * cloud + 0.42 * thin * (0.25 + 0.75 * cloud) + 0.06 * cloud
    return np.asarray(veins, np.float32)
