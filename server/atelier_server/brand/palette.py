"""Colours of pictures and how far apart they look: sRGB to CIELAB, swatches by k-means, CIEDE2000."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

SWATCHES = 5
"""Colours kept of a picture, and of a brand."""
_SIDE = 48
"""Pictures are averaged down to this longest side first; a palette needs no detail."""
_ROUNDS = 12
_SEED = 7
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True, slots=True)
class Swatch:
    """A colour in CIELAB (D65) and its share of the picture, 0 to 1."""

    lightness: float
    a: float
    b: float
    share: float


def picture_swatches(image: Image.Image) -> tuple[Swatch, ...]:
    """The main colours of a picture in RGB, commonest first."""
    small = image.copy() if max(image.size) <= _SIDE else image.resize(_thumbnail(image.size), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float64).reshape(-1, 3) / 255.0
    return _swatches(to_lab(pixels), np.ones(len(pixels)))


def brand_swatches(references: Sequence[tuple[Swatch, ...]]) -> tuple[Swatch, ...]:
    """The main colours of several pictures together, commonest first; each picture counts the same."""
    rows = [swatch for swatches in references for swatch in swatches]
    if not rows:
        return ()
    return _swatches(_lab(rows), np.array([swatch.share for swatch in rows]))


def palette_distance(picture: Sequence[Swatch], brand: Sequence[Swatch]) -> float:
    """Mean CIEDE2000 from each colour of the picture, by its share, to the nearest of the brand's."""
    distances = ciede2000(_lab(picture)[:, None, :], _lab(brand)[None, :, :]).min(axis=1)
    shares = np.array([swatch.share for swatch in picture])
    return float(np.average(distances, weights=shares))


def hex_colour(swatch: Swatch) -> str:
    """The colour as #rrggbb in sRGB; what sRGB cannot show is clipped."""
    fy = (swatch.lightness + 16.0) / 116.0
    f = np.array([fy + swatch.a / 500.0, fy, fy - swatch.b / 200.0])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE_D65
    linear = np.clip(np.linalg.solve(_SRGB_TO_XYZ, xyz), 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(channel)):02x}" for channel in srgb)


def to_lab(rgb: Floats) -> Floats:
    """sRGB in 0 to 1 [..., 3] to CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _SRGB_TO_XYZ.T / _WHITE_D65
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def ciede2000(first: Floats, second: Floats) -> Floats:
    """The CIEDE2000 colour difference of CIELAB colours [..., 3], broadcast against each other.

    After Sharma, Wu, Dalal: The CIEDE2000 Color-Difference Formula, 2005, with kL = kC = kH = 1.
    """
    l1, a1, b1 = np.moveaxis(np.asarray(first, np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(second, np.float64), -1, 0)
    c_mean7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.0 + 0.5 * (1.0 - np.sqrt(c_mean7 / (c_mean7 + 25.0**7)))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1 = np.degrees(np.arctan2(b1, a1 * stretch)) % 360.0
    h2 = np.degrees(np.arctan2(b2, a2 * stretch)) % 360.0
    grey = c1 * c2 == 0.0
    turn = np.where(grey, 0.0, (h2 - h1 + 180.0) % 360.0 - 180.0)
    turn = np.where(np.isclose(turn, -180.0) & (h2 > h1), 180.0, turn)
    d_l, d_c = l2 - l1, c2 - c1
    d_h = 2.0 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2.0)
    l_mean, c_mean = (l1 + l2) / 2.0, (c1 + c2) / 2.0
    h_mean = _mean_hue(h1, h2, grey)
    t = (
        1.0
        - 0.17 * np.cos(np.radians(h_mean - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * h_mean))
        + 0.32 * np.cos(np.radians(3.0 * h_mean + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * h_mean - 63.0))
    )
    s_l = 1.0 + 0.015 * (l_mean - 50.0) ** 2 / np.sqrt(20.0 + (l_mean - 50.0) ** 2)
    s_c, s_h = 1.0 + 0.045 * c_mean, 1.0 + 0.015 * c_mean * t
    rotation = 60.0 * np.exp(-(((h_mean - 275.0) / 25.0) ** 2))
    r_t = -2.0 * np.sqrt(c_mean**7 / (c_mean**7 + 25.0**7)) * np.sin(np.radians(rotation))
    parts = (d_l / s_l) ** 2 + (d_c / s_c) ** 2 + (d_h / s_h) ** 2 + r_t * (d_c / s_c) * (d_h / s_h)
    return np.asarray(np.sqrt(np.maximum(parts, 0.0)), np.float64)


def _mean_hue(h1: Floats, h2: Floats, grey: NDArray[np.bool_]) -> Floats:
    total = h1 + h2
    apart = np.abs(h1 - h2) > 180.0
    mean = np.where(apart, np.where(total < 360.0, total + 360.0, total - 360.0), total) / 2.0
    return np.asarray(np.where(grey, total, mean), np.float64)


def _lab(swatches: Sequence[Swatch]) -> Floats:
    return np.array([[swatch.lightness, swatch.a, swatch.b] for swatch in swatches], np.float64)


def _thumbnail(size: tuple[int, int]) -> tuple[int, int]:
    scale = _SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _swatches(lab: Floats, weights: Floats) -> tuple[Swatch, ...]:
    centres, shares = _k_means(lab, weights, SWATCHES)
    order = np.argsort(-shares, kind="stable")
    return tuple(
        Swatch(float(lightness), float(a), float(b), float(share))
        for (lightness, a, b), share in zip(centres[order].round(3), shares[order].round(5), strict=True)
        if share > 0
    )


def _k_means(points: Floats, weights: Floats, count: int) -> tuple[Floats, Floats]:
    """Weighted Lloyd iterations from k-means++ starts; the same points always give the same centres."""
    rng = np.random.default_rng(_SEED)
    centres = points[[int(rng.choice(len(points), p=weights / weights.sum()))]]
    while len(centres) < count:
        gaps = _squares(points, centres).min(axis=1) * weights
        if gaps.sum() <= 1e-9:
            break  # fewer colours than swatches
        centres = np.vstack([centres, points[int(rng.choice(len(points), p=gaps / gaps.sum()))]])
    shares = np.zeros(len(centres))
    for _ in range(_ROUNDS):
        members = np.eye(len(centres))[_squares(points, centres).argmin(axis=1)] * weights[:, None]
        shares = members.sum(axis=0)
        means = members.T @ points / np.maximum(shares, 1e-12)[:, None]
        centres = np.where(shares[:, None] > 0, means, centres)
    return centres, shares / shares.sum()


def _squares(points: Floats, centres: Floats) -> Floats:
    return np.asarray(((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1), np.float64)
