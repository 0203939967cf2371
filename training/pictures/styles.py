"""The eight styles: how each grades the colours, places the object and lights it, and the words that ask for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Grade:
    """Colour grading and backdrop of a picture; the default is neutral."""

    exposure: float = 1.0  # factor on the finished picture
    contrast: float = 1.0  # factor around middle grey
    saturation: float = 1.0  # factor on chroma
    warmth: float = 0.0  # -1 cool .. 1 warm
    fade: float = 0.0  # how far black is lifted towards a warm grey, 0..0.3
    vignette: float = 0.0  # darkening of the corners, 0..1
    backdrop: RGB = (0.5, 0.5, 0.5)  # colour that wall and floor are mixed with ...
    backdrop_mix: float = 0.0  # ... and how much, 0..1
    backdrop_gain: float = 1.0  # brightness of the surroundings against the object
    spot: float = 0.0  # pool of light around the object, 0..1
    beams: float = 0.0  # geometric bars of light on the wall, 0..1
    dapple: float = 0.0  # sun through leaves, 0..1
    leak: float = 0.0  # orange light leak at the right edge, 0..1
    halo: float = 0.0  # white paper lit evenly behind the object, 0..1
    rim: float = 0.16  # edge light on the object, 0..1: keeps black things off dark sets
    rim_rgb: RGB = (0.95, 0.97, 1.0)


@dataclass(frozen=True)
class Style:
    """A style: its grading and the ranges from which composition and light are drawn."""

    grade: Grade
    scale: Range = (0.52, 0.64)  # object height as a share of the picture
    x: Range = (-0.05, 0.05)  # offset of the object's middle from the picture's middle
    ground: Range = (0.76, 0.82)  # where the object stands, from the top
    roll_degrees: Range = (-1.5, 1.5)
    pitch: Range = (0.16, 0.30)  # camera height: sine of the angle looking down
    hardness: Range = (0.3, 0.6)  # 0 overcast .. 1 bare sun
    light_height: Range = (0.5, 0.8)


NEUTRAL = Style(Grade(), x=(-0.08, 0.08), roll_degrees=(-2, 2), hardness=(0.2, 0.8))

STYLES_LOOK: dict[str, Style] = {
    "luxury": Style(
        Grade(exposure=1.12, contrast=1.12, saturation=1.05, warmth=0.40, vignette=0.8, backdrop=(0.10, 0.06, 0.03),
              backdrop_mix=0.22, backdrop_gain=0.44, spot=0.95, rim=0.6, rim_rgb=(1.0, 0.8, 0.45)),
        scale=(0.54, 0.64), hardness=(0.6, 0.8), light_height=(0.5, 0.7), pitch=(0.20, 0.32),
    ),
    "casual": Style(
        Grade(exposure=1.05, contrast=0.98, saturation=1.10, warmth=0.12, dapple=0.8),
        scale=(0.50, 0.60), x=(-0.10, 0.10), roll_degrees=(6, 11), hardness=(0.7, 0.9), pitch=(0.24, 0.38),
    ),
    "minimalist": Style(
        Grade(exposure=1.05, contrast=0.9, saturation=0.9, backdrop=(0.93, 0.92, 0.90), backdrop_mix=0.62,
              backdrop_gain=1.04),
        scale=(0.27, 0.33), x=(-0.02, 0.02), ground=(0.66, 0.70), hardness=(0.1, 0.3), light_height=(0.7, 0.9),
    ),
    "bold": Style(
        Grade(exposure=1.02, contrast=1.18, saturation=1.30, vignette=0.1, rim=0.4),
        scale=(0.78, 0.86), ground=(0.90, 0.94), hardness=(0.95, 1.0), light_height=(0.35, 0.5), pitch=(0.10, 0.18),
    ),
    "elegant": Style(
        Grade(exposure=1.08, contrast=0.86, saturation=0.88, warmth=0.06, fade=0.10, backdrop=(0.95, 0.88, 0.89),
              backdrop_mix=0.40, backdrop_gain=1.05, vignette=-0.25),
        scale=(0.56, 0.64), hardness=(0.0, 0.2), light_height=(0.7, 0.9),
    ),
    "modern": Style(
        Grade(exposure=1.02, contrast=1.12, saturation=0.95, warmth=-0.25, beams=0.8, backdrop=(0.60, 0.73, 0.86),
              backdrop_mix=0.32),
        scale=(0.50, 0.60), x=(0.08, 0.14), hardness=(0.7, 0.9), pitch=(0.12, 0.2), roll_degrees=(0, 0),
    ),
    "vintage": Style(
        Grade(exposure=0.98, contrast=0.86, saturation=0.76, warmth=0.75, fade=0.15, vignette=0.5, leak=0.8,
              backdrop=(0.70, 0.56, 0.38), backdrop_mix=0.24),
        scale=(0.50, 0.60), hardness=(0.2, 0.5),
    ),
    "professional": Style(
        Grade(exposure=1.03, contrast=1.06, saturation=1.0, backdrop=(0.93, 0.93, 0.93), backdrop_mix=0.30, halo=0.9),
        scale=(0.62, 0.68), x=(0, 0), ground=(0.82, 0.84), roll_degrees=(0, 0), hardness=(0.3, 0.4), pitch=(0.18, 0.22),
        light_height=(0.7, 0.85),
    ),
}  # fmt: skip

# The plain word first, then the modifiers with which a prompt-engineering layer asks for the same style.
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "luxury": ("luxury", "luxurious", "opulent", "gold accents", "premium", "rich warm lighting", "high-end",
               "dramatic low-key light"),
    "casual": ("casual", "relaxed", "everyday lifestyle", "natural daylight", "candid", "easygoing", "bright and airy"),
    "minimalist": ("minimalist", "minimal", "clean composition", "negative space", "simple", "uncluttered",
                   "muted pale background"),
    "bold": ("bold", "vivid saturated colors", "high contrast", "dynamic", "striking", "hard light", "close up"),
    "elegant": ("elegant", "graceful", "soft pastel light", "refined", "delicate", "sophisticated", "soft focus glow"),
    "modern": ("modern", "contemporary", "sleek", "cool tones", "geometric light", "crisp lines", "futuristic"),
    "vintage": ("vintage", "retro", "warm faded tones", "nostalgic", "film photography", "sepia",
                "classic old-fashioned"),
    "professional": ("professional", "commercial product photo", "catalogue shot", "neutral lighting",
                     "clean studio light", "centered", "corporate"),
}  # fmt: skip


def look(style: str | None) -> Style:
    """The look of a style; None is the neutral one. Raises KeyError for an unknown name."""
    return NEUTRAL if style is None else STYLES_LOOK[style]


def stage_light(
    picture: NDArray[np.float32], grade: Grade, middle: float, foot: float, horizon: float, light_x: float
) -> NDArray[np.float32]:
    """Tints and lights the empty set (float [n, n, 3]) as the grade asks; positions are shares of the side."""
    x, y = plane(picture.shape[0])
    if grade.backdrop_mix:
        picture += (np.array(grade.backdrop, np.float32) - picture) * np.float32(grade.backdrop_mix)
    if grade.backdrop_gain != 1:
        picture *= np.float32(grade.backdrop_gain)
    if grade.spot:
        # A lamp behind the object on the wall, and its pool on the ground.
        pool = np.exp(-((x - np.float32(middle)) ** 2 * 6 + (y - np.float32(foot + 0.02)) ** 2 * 38))
        halo = np.exp(-((x - np.float32(middle)) ** 2 + (y - np.float32(foot - 0.42)) ** 2) * 11)
        level = 1 + np.float32(grade.spot) * (2.0 * pool + 0.9 * halo - 0.42)
        picture *= level[..., None]
        picture += (np.float32(grade.spot * 0.16) * halo)[..., None] * np.array([1.0, 0.66, 0.28], np.float32)
    if grade.halo:
        far = ((x - np.float32(middle)) ** 2 * 3.2 + (y - np.float32(foot - 0.33)) ** 2 * 4.5) ** 2
        # Less of it where the set is dark, so that velvet stays velvet and night stays night.
        white = np.float32(grade.halo) * np.exp(-far * 2.2) * (0.3 + 0.7 * picture.mean(axis=2))
        picture += (white * np.clip((foot - 0.02 - y) * 9, 0, 1))[..., None] * (np.float32(0.97) - picture)
    if grade.beams:
        # Light through a tall window: slanting panes with crisp borders, upright again where they meet the ground.
        slant = x + np.float32(math.copysign(0.7, light_x)) * y
        wave = np.sin(slant * np.float32(11)) - np.float32(0.15)
        panes = np.clip(wave * 7 + 0.5, 0, 1) * np.clip((horizon - y) * 40, 0.25, 1)
        picture *= (1 + np.float32(grade.beams) * (0.34 * panes - 0.17))[..., None]
    if grade.dapple:
        # Sun through leaves: overlapping soft blobs, brighter where they let light through.
        leaves = np.sin(x * 17 + 2 * np.sin(y * 7)) + np.sin(y * 19 + 2 * np.sin(x * 6 + 1)) + np.sin((x + y) * 29)
        amount = np.float32(grade.dapple) * (0.55 + 0.45 * np.clip((y - np.float32(horizon)) * 30, 0, 1))
        picture *= (1 + amount * (0.19 * np.tanh(leaves) - 0.06))[..., None]
    return picture


def apply_grade(picture: NDArray[np.float32], grade: Grade) -> NDArray[np.float32]:
    """Grades a picture float [n, n, 3] in 0..1 (changed in place)."""
    w = grade.warmth
    gain = np.array([1 + 0.16 * w, 1 + 0.02 * w, 1 - 0.24 * w], np.float32) * np.float32(grade.exposure)
    picture *= gain
    if grade.saturation != 1:
        grey = (picture @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
        picture -= grey
        picture *= np.float32(grade.saturation)
        picture += grey
    if grade.contrast != 1:
        picture -= np.float32(0.45)
        picture *= np.float32(grade.contrast)
        picture += np.float32(0.45)
    if grade.fade:
        veil = np.array([0.66, 0.54, 0.40], np.float32) if w > 0.3 else np.array([0.90, 0.84, 0.86], np.float32)
        picture *= np.float32(1 - grade.fade)
        picture += veil * np.float32(grade.fade)
    if grade.leak:
        # Light that crept into an old camera along one edge of the film.
        x, y = plane(picture.shape[0])
        glow = np.exp(-(((x - 1.02) / 0.22) ** 2)) * (0.6 + 0.4 * np.sin(y * 4 + 0.6))
        picture += (np.float32(grade.leak) * glow)[..., None] * np.array([0.50, 0.22, 0.02], np.float32)
    if grade.vignette:
        x, y = plane(picture.shape[0])
        picture *= (1 - np.float32(2 * grade.vignette) * ((x - 0.5) ** 2 + (y - 0.5) ** 2))[..., None]
    return picture


@cache
def plane(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pixel centres' x and y in 0..1, each [size, size]."""
    line = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = np.meshgrid(line, line)
    return x, y
