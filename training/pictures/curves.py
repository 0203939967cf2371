"""Curves and distances that shapes.py is made of, on float32 fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Points = Sequence[tuple[float, float]]


def ellipse(x: Field, y: Field, rx: float, ry: float) -> Field:
    """Approximate signed distance to an ellipse (first order: value by gradient), negative inside."""
    f = (x / np.float32(rx)) ** 2 + (y / np.float32(ry)) ** 2
    g = 2 * np.sqrt((x / np.float32(rx * rx)) ** 2 + (y / np.float32(ry * ry)) ** 2) + np.float32(1e-6)
    # Inside, the quotient blows up near the middle; a floor keeps it a harmless "far inside".
    return np.maximum((f - 1) / g, np.float32(-min(rx, ry)))


def profile(points: Points, smooth: int) -> tuple[Field, Field, Field]:
    """A dense, smoothed curve through (position, value) points: positions, values, slopes, each [97].

    `smooth` is the reach of the smoothing in samples of 97; 0 keeps the corners.
    """
    line = np.asarray(points, np.float64)
    grid = np.linspace(line[0, 0], line[-1, 0], 97)
    values = np.interp(grid, line[:, 0], line[:, 1])
    if smooth:
        before = 2 * values[0] - values[smooth:0:-1]
        after = 2 * values[-1] - values[-2 : -smooth - 2 : -1]
        kernel = np.hanning(2 * smooth + 3)[1:-1]
        values = np.convolve(np.concatenate([before, values, after]), kernel / kernel.sum(), mode="valid")
    slopes = np.gradient(values, grid)
    return grid.astype(np.float32), values.astype(np.float32), slopes.astype(np.float32)


def at(curve: Field, where: Field, first: np.float32, step: np.float32) -> Field:
    """Linear look-up in an evenly spaced curve that begins at `first`; much faster than np.interp on pictures."""
    place = np.clip((where - first) * step, 0, len(curve) - 1.001)
    low = place.astype(np.intp)
    value: Field = curve[low] + (curve[low + 1] - curve[low]) * (place - low.astype(np.float32))
    return value
