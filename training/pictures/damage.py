"""Ways to spoil a picture, from hardly to badly, and the words that say so."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Picture = NDArray[np.uint8]
DAMAGES: tuple[str, ...] = (
    "blur", "noise", "jpeg", "overexposed", "underexposed", "crooked", "cut", "lowcontrast", "colourcast",
)  # fmt: skip
WORDS: dict[str, tuple[str, ...]] = {
    "blur": ("blurry", "out of focus", "blurred", "soft and unsharp", "motion blur"),
    "noise": ("noisy", "grainy", "full of noise", "high iso noise", "speckled with noise"),
    "jpeg": ("jpeg artifacts", "compressed", "blocky compression", "pixelated", "low resolution"),
    "overexposed": ("overexposed", "blown out highlights", "too bright", "washed out by light"),
    "underexposed": ("underexposed", "too dark", "badly lit", "murky"),
    "crooked": ("crooked", "tilted horizon", "skewed camera", "slanted snapshot"),
    "cut": ("badly cropped", "cut off", "object out of frame", "poor composition"),
    "lowcontrast": ("low contrast", "flat and dull", "hazy", "washed out"),
    "colourcast": ("bad white balance", "color cast", "wrong colors", "sickly tint"),
}
DEGREES = ("slightly", "somewhat", "very", "extremely")
BAD = ("low quality", "bad photo", "amateur snapshot", "worst quality", "ugly", "poor quality", "deformed")
CLEAN = (
    "sharp, high quality, professional photo", "high quality", "sharp focus", "professional photo", "crisp and clear",
    "well lit, well composed", "sharp, detailed", "best quality", "excellent product photography", "beautiful photo",
)  # fmt: skip


def damage(picture: Picture, kind: str, severity: float, rng: np.random.Generator) -> Picture:
    """Spoils a picture uint8 [h, w, 3]; severity 0 (nothing to see) .. 1 (heavy). Raises ValueError for other kinds.

    Just above 0 every kind can be seen by who does not know the original.
    """
    if kind not in DAMAGES:
        raise ValueError(f"unknown damage {kind!r}; one of {', '.join(DAMAGES)}")
    if severity <= 0:
        return picture.copy()
    side = min(picture.shape[:2])
    sign = 1 if rng.random() < 0.5 else -1
    if kind == "blur":
        reach = side * (0.004 + 0.034 * severity)
        return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(reach)))
    if kind == "noise":
        # Grain is drawn coarser than a pixel at large sizes, so that severity looks alike at every size.
        cell = max(1, side // 128)
        shape = (-(-picture.shape[0] // cell), -(-picture.shape[1] // cell), 3)
        grain: NDArray[np.float32] = rng.normal(0, 5 + 60 * severity, shape).astype(np.float32)
        grain = grain.repeat(cell, 0).repeat(cell, 1)[: picture.shape[0], : picture.shape[1]]
        return _bytes(picture + grain)
    if kind == "jpeg":
        return _jpeg(picture, severity)
    if kind == "overexposed":
        return _bytes(picture * np.float32(1.25 + 1.45 * severity) + np.float32(12 + 40 * severity))
    if kind == "underexposed":
        dim = np.power(picture.astype(np.float32) / 255, np.float32(1.25 + 0.65 * severity), dtype=np.float32)
        return _bytes(dim * np.float32(255 * (0.82 - 0.54 * severity)))
    if kind == "crooked":
        return _crooked(picture, sign * (7 + 28 * severity))
    if kind == "cut":
        return _cut(picture, severity, rng)
    values = picture.astype(np.float32)
    if kind == "lowcontrast":
        mean = np.float32(0.5 * values.mean() + 0.5 * 150)
        return _bytes(mean + (values - mean) * np.float32(0.75 - 0.60 * severity))
    casts = np.array([[0.55, 1.05, 0.55], [1.1, 0.55, 1.1], [0.5, 0.95, 1.15], [1.2, 1.05, 0.35]], np.float32)
    cast = casts[int(rng.integers(len(casts)))]
    return _bytes(values * (1 + (cast - 1) * np.float32(0.25 + 0.75 * severity)))


def damage_words(kind: str, severity: float, rng: np.random.Generator) -> str:
    """A caption fragment that names the damage and its degree, such as "very blurry, low quality"."""
    words = WORDS[kind][int(rng.integers(len(WORDS[kind])))]
    if rng.random() < 0.5:
        words = f"{DEGREES[min(3, int(severity * 4))]} {words}"
    if rng.random() < 0.5:
        words += f", {BAD[int(rng.integers(len(BAD)))]}"
    return words


def clean_words(rng: np.random.Generator) -> str:
    """A caption fragment that praises an undamaged picture."""
    return CLEAN[int(rng.integers(len(CLEAN)))]


def _bytes(values: NDArray[np.float32]) -> Picture:
    rounded: Picture = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _jpeg(picture: Picture, severity: float) -> Picture:
    """JPEG at low quality, of a picture first brought to 128 rows or fewer so that blocks show alike at every size."""
    height, width = picture.shape[:2]
    shrink = max(1.0, min(height, width) / 128) * (1 + severity)
    small = Image.fromarray(picture).resize((max(8, round(width / shrink)), max(8, round(height / shrink))))
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=max(3, round(32 - 28 * severity)))
    return np.asarray(Image.open(packed).resize((width, height), Image.Resampling.NEAREST)).copy()


def _crooked(picture: Picture, degrees: float) -> Picture:
    """Turns the picture and fills what it uncovers from its own edges."""
    height, width = picture.shape[:2]
    pad = math.ceil(max(height, width) / 4)
    wide = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    turned = np.asarray(Image.fromarray(wide).rotate(degrees, Image.Resampling.BICUBIC))
    return turned[pad : pad + height, pad : pad + width].copy()


def _cut(picture: Picture, severity: float, rng: np.random.Generator) -> Picture:
    """Moves a closer crop towards a border or corner so that the object leaves the frame."""
    height, width = picture.shape[:2]
    share = 0.8 - 0.3 * severity
    angle = rng.uniform(0, 2 * math.pi)
    reach = 0.5 + 0.5 * severity
    x = (width * (1 - share)) * (0.5 + 0.5 * reach * float(np.clip(1.4 * math.cos(angle), -1, 1)))
    y = (height * (1 - share)) * (0.5 + 0.5 * reach * float(np.clip(1.4 * math.sin(angle), -1, 1)))
    box = (x, y, x + width * share, y + height * share)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box)).copy()
