"""How surfaces look: shading of a part by material, colour and light."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pictures.curves import Field
from pictures.scene import Scene
from pictures.shapes import Part
from pictures.vocabulary import ACCENT_RGB, COLOUR_RGB

TILE = 512  # texels of a noise tile, which repeats
FIXED_RGB: dict[str, tuple[float, float, float]] = {
    "cream": (0.93, 0.90, 0.83),
    "ink": (0.06, 0.06, 0.07),
    "gem": (0.80, 0.92, 1.0),
    "flame": (1.0, 0.80, 0.42),
    "coffee": (0.20, 0.11, 0.06),
    "glint": (0.62, 0.66, 0.72),
}


@dataclass(frozen=True)
class Light:
    """The key light's direction (unit), its colour, and the light that comes from everywhere."""

    x: float
    y: float
    z: float
    key: NDArray[np.float32]  # [3]
    sky: NDArray[np.float32]  # [3] from above
    bounce: NDArray[np.float32]  # [3] from the ground
    hardness: float
    rim: NDArray[np.float32]  # [3] edge light, black for none


@cache
def noise(cells: int, seed: int = 0) -> NDArray[np.float32]:
    """A smooth tileable noise [TILE, TILE], about -1..1, with `cells` bumps a side."""
    rng = np.random.default_rng(1000 * cells + seed)
    lattice = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    wrapped = np.pad(lattice, 3, mode="wrap")
    full = (cells + 6) * TILE // cells
    image = Image.fromarray(wrapped).resize((full, full), Image.Resampling.BICUBIC)
    start = 3 * TILE // cells
    tile: NDArray[np.float32] = np.asarray(image)[start : start + TILE, start : start + TILE].copy()
    return tile


def lookup(tile: NDArray[np.float32], u: Field, v: Field, scale: float) -> Field:
    """The tile's values at texture coordinates; one repeat is 1/scale units."""
    rows = (v * np.float32(scale * TILE)).astype(np.int32) & (TILE - 1)
    columns = (u * np.float32(scale * TILE)).astype(np.int32) & (TILE - 1)
    values: Field = tile[rows, columns]
    return values


def paint_rgb(scene: Scene, paint: str) -> NDArray[np.float32]:
    """The RGB that a part's paint name stands for in this scene."""
    if paint in FIXED_RGB:
        return np.array(FIXED_RGB[paint], np.float32)
    if paint == "accent" and scene.accent:
        return np.array(ACCENT_RGB[scene.accent], np.float32)
    factor, lift = {"body": (1.0, 0.0), "accent": (0.45, 0.04), "dark": (0.35, 0.02), "light": (0.75, 0.25)}[paint]
    body = np.array(COLOUR_RGB[scene.colour], np.float32) + np.array(scene.hue, np.float32)
    rgb: NDArray[np.float32] = np.clip(body * np.float32(factor) + np.float32(lift), 0.03, 1)
    return rgb


def shade(part: Part, scene: Scene, light: Light, behind: Field) -> tuple[Field, Field]:
    """Colour [h, w, 3] and opacity [h, w] of a part in front of `behind` [h, w, 3]."""
    material = part.material or scene.material
    if part.paint == "accent":
        material = "metal"
    rgb = paint_rgb(scene, part.paint) * np.float32(part.gain)
    nx, ny, nz = part.nx, part.ny, part.nz
    facing = nx * np.float32(light.x) + ny * np.float32(light.y) + nz * np.float32(light.z)
    half = np.array([light.x, light.y, light.z + 1], np.float32)
    half /= np.linalg.norm(half)
    gloss = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1)
    up = ny * np.float32(0.5) + np.float32(0.5)
    ambient = light.bounce + (light.sky - light.bounce) * up[..., None]
    wrap = 0.45 - 0.35 * light.hardness
    diffuse = np.clip(facing * np.float32(1 - wrap) + np.float32(wrap), 0, None)
    opacity = part.cover
    if material == "metal":
        colour = _metal(part, rgb, light, gloss, diffuse, ambient)
        if part.paint == "body" and scene.colour == "white":
            # White metal is enamelled: polished it would be silver to anyone who looks.
            flat = rgb * (ambient + diffuse[..., None] * light.key)
            colour = colour + (flat - colour) * np.float32(0.75)
    elif material == "glass":
        colour, opacity = _glass(part, rgb, light, gloss, behind)
    else:
        texture, shine, power = _texture(part, material, scene.seed)
        colour = rgb * texture[..., None] * (ambient + diffuse[..., None] * light.key)
        spot = gloss**power * np.float32(shine * (0.5 + 0.5 * light.hardness))
        colour = colour + spot[..., None] * light.key * (0.35 + 0.65 * rgb)
        if part.paint == "body" and scene.colour in ACCENT_RGB and material != "wood":
            # Gold leather is foiled: without a metallic sheen it reads as mustard.
            sheen = _metal(part, rgb, light, gloss, diffuse, ambient)
            colour = colour + (sheen * texture[..., None] - colour) * np.float32(0.55)
    if light.rim.any():
        edge = np.clip(1 - nz, 0, 1) ** 2 * np.clip(-nx * np.sign(light.x) * 0.8 + 0.35 + 0.4 * ny, 0, 1)
        colour = colour + edge[..., None] * light.rim
    return colour, opacity


def _texture(part: Part, material: str, seed: int) -> tuple[Field, float, int]:
    """Brightness factor around 1, strength and sharpness of the highlight. Amplitudes are low and features coarse on
    purpose: a small VAE must be able to keep them."""
    u, v = part.u + np.float32(seed % 97 / 97), part.v
    if material == "wood":
        bend = lookup(noise(4), u, v, 0.5)
        rings = np.sin((u + bend * np.float32(0.06) + v * np.float32(0.1)) * np.float32(58))
        return 1 + np.float32(0.11) * rings + np.float32(0.06) * bend, 0.10, 18
    if material == "plain":  # paper, wax, enamel: dials, labels, soles
        return np.ones_like(u), 0.08, 14
    if material == "fabric":
        weave = np.sin((u + v) * np.float32(92)) + np.float32(0.5) * np.sin((u - v) * np.float32(92))
        slub = lookup(noise(16, 9), u * np.float32(0.4), v, 0.8)
        return 1.0 + np.float32(0.030) * weave + np.float32(0.06) * slub, 0.0, 4
    grain = lookup(noise(32), u, v, 0.8)  # leather
    return 1 + np.float32(0.055) * grain, 0.42, 13


def _metal(part: Part, rgb: NDArray[np.float32], light: Light, gloss: Field, diffuse: Field, ambient: Field) -> Field:
    """A studio reflected in a polished surface: two soft boxes, a dark card between them, the ground below."""
    side = np.float32(1 if light.x > 0 else -1)
    t = part.nx * side
    bands = np.exp(-(((t - np.float32(0.42)) * np.float32(6.5)) ** 2)) + 0.55 * np.exp(-(((t + 0.72) * 8) ** 2))
    card = np.exp(-(((t - np.float32(0.02)) * np.float32(4.5)) ** 2))
    level = np.float32(0.60) + 0.75 * bands - 0.22 * card + 0.30 * part.ny + 0.24 * diffuse
    colour = rgb * np.clip(level, 0.12, 1.7)[..., None] * (ambient * 0.55 + 0.62)
    flash = gloss**40 * np.float32(0.9) + 0.18 * bands
    shone: Field = colour + flash[..., None] * light.key * (np.float32(0.45) + 0.55 * rgb)
    return shone


def _glass(
    part: Part, rgb: NDArray[np.float32], light: Light, gloss: Field, behind: Field
) -> tuple[Field, Field]:  # fmt: skip
    """Tinted and see-through in the middle, denser at the edges, with window highlights."""
    edge = np.clip(1 - part.nz, 0, 1)
    through = np.float32(0.55) * (1 - edge) ** 2
    tint = rgb * (np.float32(0.80) + 0.35 * (part.ny * 0.5 + 0.5))[..., None] * (light.sky + 0.55 * light.key)
    colour = tint * (1 - through)[..., None] + behind * (0.25 + 0.75 * rgb) * through[..., None]
    colour *= (1 - 0.28 * edge)[..., None]
    side = np.float32(1 if light.x > 0 else -1)
    window = np.exp(-(((part.nx * side - 0.55) * 9) ** 2)) * np.clip(1 - np.abs(part.ny) * 1.6, 0, 1)
    glow = np.exp(-(((part.nx * side + 0.8) * 7) ** 2))
    shine = np.float32(0.55) * window + np.float32(0.8) * gloss**60
    return colour + shine[..., None] * light.key + (0.25 * glow)[..., None] * rgb, part.cover
