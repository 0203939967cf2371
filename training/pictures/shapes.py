"""Shapes with anti-aliased coverage and surface normals, in the object's own coordinates.

The object's frame: X to the right, Y up from the ground, 1 = the object's nominal height. All shapes are analytic
(distances, not pixels), so a scene is the same picture at every size. Depth is the painter's: later parts cover
earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pictures.curves import Field, Points, at, ellipse, profile
from pictures.scene import Scene

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Part:
    """A visible piece: coverage, unit normal and texture coordinates, all [h, w] over `window` of the picture."""

    window: Window
    cover: Field
    nx: Field
    ny: Field
    nz: Field
    u: Field
    v: Field
    paint: str  # "body", "accent", "dark", "light", or a colour name
    material: str | None  # None: the scene's
    gain: float  # brightness factor, for insides and far sides
    grounded: bool  # whether it casts a shadow


class Stage:
    """Collects the parts of one object at one picture size."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene = scene
        self.size = size
        angle = math.radians(scene.roll_degrees)
        line = (np.arange(size, dtype=np.float32) + 0.5) / size
        across = (line[None, :] - (0.5 + scene.x)) / scene.scale
        up = (scene.ground - line[:, None]) / scene.scale
        turn = 1 if not scene.mirrored else -1
        self.x: Field = (math.cos(angle) * across - math.sin(angle) * up).astype(np.float32) * np.float32(turn)
        self.y: Field = (math.sin(angle) * across + math.cos(angle) * up).astype(np.float32)
        self.pixel = 1 / (size * scene.scale)
        self.k = scene.pitch
        self.parts: list[Part] = []
        self._turn, self._angle = turn, angle

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> Window | None:
        """The pixels that a box of the object's frame can touch."""
        s, size, pad = self.scene, self.size, 2 * self.pixel
        cos, sin = math.cos(self._angle), math.sin(self._angle)
        columns, rows = [], []
        for x in (x0 - pad, x1 + pad):
            for y in (y0 - pad, y1 + pad):
                turned = x * self._turn
                columns.append(((cos * turned + sin * y) * s.scale + 0.5 + s.x) * size)
                rows.append((s.ground - (cos * y - sin * turned) * s.scale) * size)
        left, right = max(0, math.floor(min(columns))), min(size, math.ceil(max(columns)))
        top, bottom = max(0, math.floor(min(rows))), min(size, math.ceil(max(rows)))
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def _add(
        self, window: Window, cover: Field, nx: Field, ny: Field, u: Field, v: Field,
        paint: str, material: str | None, gain: float, grounded: bool = True,
    ) -> None:  # fmt: skip
        nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.02))
        self.parts.append(
            Part(window, cover, nx * np.float32(self._turn), ny, nz, u, v, paint, material, gain, grounded)
        )

    def lathe(
        self, outline: Points, x: float = 0.0, y: float = 0.0, paint: str = "body", material: str | None = None,
        cap: str | None = "body", hollow: float = 0.0, smooth: int = 9, gain: float = 1.0, squash: float = 1.0,
    ) -> None:  # fmt: skip
        """A turned body: `outline` of (height, radius) from the foot up, standing at (x, y).

        `cap` paints the top disc (None: no disc), `hollow` 0..1 opens it so wide. `squash` flattens the ellipses.
        """
        heights, radii, slopes = profile(outline, smooth)
        top, widest, k = float(heights[-1]), float(radii.max()), self.k * squash
        window = self._window(x - widest, y + float(heights[0]) - k * widest, x + widest, y + top + k * widest)
        if window is None:
            return
        px, py = self.x[window] - np.float32(x), self.y[window] - np.float32(y)
        step = np.float32((len(heights) - 1) / (heights[-1] - heights[0]))
        first = np.float32(heights[0])
        h, radius = py, at(radii, py, first, step)
        for _ in range(2):
            h = py + np.float32(k) * np.sqrt(np.maximum(radius * radius - px * px, 0))
            radius = at(radii, h, first, step)
        slope = at(slopes, h, first, step)
        length = np.sqrt(1 + slope * slope)
        side = (radius - np.abs(px)) / (np.float32(self.pixel) * length) + 0.5
        cover = np.clip(side, 0, 1) * np.clip((h - first) / np.float32(self.pixel) + 0.5, 0, 1)
        cover *= np.clip((np.float32(top) - h) / np.float32(self.pixel) + 0.5, 0, 1)
        across = np.clip(px / np.maximum(radius, 1e-4), -1, 1)
        turn = np.arcsin(across) * np.float32(widest)
        self._add(window, cover, across / length, -slope / length, turn, h, paint, material, gain)
        rim = float(radii[-1])
        if cap and rim > 0.01:
            self.disc(x, y + top, rim, rim * k, cap, material, gain)
            if hollow:
                self.disc(x, y + top, rim * hollow, rim * hollow * k, "dark", None, 0.5)

    def disc(
        self, x: float, y: float, rx: float, ry: float, paint: str = "body", material: str | None = None,
        gain: float = 1.0, tilt: float = 0.75,
    ) -> None:  # fmt: skip
        """A flat ellipse that looks up (`tilt` is its normal's Y)."""
        window = self._window(x - rx, y - ry, x + rx, y + ry)
        if window is None:
            return
        px, py = self.x[window] - np.float32(x), self.y[window] - np.float32(y)
        cover = np.clip(0.5 - ellipse(px, py, rx, ry) / np.float32(self.pixel), 0, 1)
        flat = np.zeros_like(px)
        self._add(window, cover, flat, flat + np.float32(tilt), px, py, paint, material, gain)

    def ball(
        self, x: float, y: float, rx: float, ry: float, paint: str = "body", material: str | None = None,
        gain: float = 1.0, flat: float = 1.0,
    ) -> None:  # fmt: skip
        """An ellipsoid; `flat` < 1 makes its face flatter, as a cushion's."""
        window = self._window(x - rx, y - ry, x + rx, y + ry)
        if window is None:
            return
        px, py = self.x[window] - np.float32(x), self.y[window] - np.float32(y)
        cover = np.clip(0.5 - ellipse(px, py, rx, ry) / np.float32(self.pixel), 0, 1)
        nx, ny = np.clip(px / rx, -1, 1) * np.float32(flat), np.clip(py / ry, -1, 1) * np.float32(flat)
        self._add(window, cover, nx, ny, px, py, paint, material, gain)

    def slab(
        self, x: float, y: float, width: float, height: float, corner: float = 0.04, bevel: float = 0.05,
        taper: float = 0.0, lean: float = 0.0, paint: str = "body", material: str | None = None, gain: float = 1.0,
        tilt: float = 0.0, grounded: bool = True,
    ) -> None:  # fmt: skip
        """A rounded box whose foot's middle is (x, y): `taper` narrows the top (share), `lean` shifts it (units),
        `bevel` is the width of its rounded edge, `tilt` the normal's Y of its face."""
        half = width / 2
        reach = half * max(1.0, 1 - taper) + abs(lean)
        window = self._window(x - reach, y, x + reach, y + height)
        if window is None:
            return
        py = self.y[window] - np.float32(y + height / 2)
        share = py / np.float32(height) + np.float32(0.5)
        px = (self.x[window] - np.float32(x) - share * np.float32(lean)) / (1 - share * np.float32(taper))
        qx, qy = np.abs(px) - np.float32(half - corner), np.abs(py) - np.float32(height / 2 - corner)
        ox, oy = np.maximum(qx, 0), np.maximum(qy, 0)
        outside = np.sqrt(ox * ox + oy * oy)
        distance = outside + np.minimum(np.maximum(qx, qy), 0) - np.float32(corner)
        cover = np.clip(0.5 - distance / np.float32(self.pixel), 0, 1)
        edge = np.clip(1 + distance / np.float32(max(bevel, 1e-3)), 0, 1)
        ex = np.clip((np.abs(px) - np.float32(half - bevel)) / np.float32(bevel), 0, 1) * np.sign(px) * edge
        ey = np.clip((np.abs(py) - np.float32(height / 2 - bevel)) / np.float32(bevel), 0, 1) * np.sign(py) * edge
        # No face is quite flat: a slight bulge lets light run across it.
        nx = ex * np.float32(0.7) + px * np.float32(0.22 / half)
        ny = ey * np.float32(0.7) + np.float32(tilt) + py * np.float32(0.30 / height)
        self._add(window, cover, nx, ny, px, py, paint, material, gain, grounded)

    def tube(
        self, points: Points, radius: float, paint: str = "body", material: str | None = None, gain: float = 1.0,
        dash: float = 0.0, grounded: bool = True, end_radius: float | None = None,
    ) -> None:  # fmt: skip
        """A round rod along a line through `points`; `dash` > 0 breaks it into stitches of that length."""
        line = np.asarray(points, np.float32)
        window = self._window(
            float(line[:, 0].min()) - radius, float(line[:, 1].min()) - radius,
            float(line[:, 0].max()) + radius, float(line[:, 1].max()) + radius,
        )  # fmt: skip
        if window is None:
            return
        px, py = self.x[window], self.y[window]
        best = np.full(px.shape, 1e9, np.float32)
        dx, dy, along = np.zeros_like(px), np.zeros_like(px), np.zeros_like(px)
        gone = 0.0
        for (ax, ay), (bx, by) in pairwise(line):
            sx, sy = bx - ax, by - ay
            length2 = float(sx * sx + sy * sy) + 1e-9
            t = np.clip(((px - ax) * sx + (py - ay) * sy) / np.float32(length2), 0, 1)
            cx, cy = px - (ax + t * sx), py - (ay + t * sy)
            d2 = cx * cx + cy * cy
            near = d2 < best
            best = np.where(near, d2, best)
            dx, dy = np.where(near, cx, dx), np.where(near, cy, dy)
            along = np.where(near, gone + t * np.float32(math.sqrt(length2)), along)
            gone += math.sqrt(length2)
        r: Field | np.float32 = np.float32(radius)
        if end_radius is not None:
            r = np.float32(radius) + along * np.float32((end_radius - radius) / max(gone, 1e-6))
        cover = np.clip((r - np.sqrt(best)) / np.float32(self.pixel) + 0.5, 0, 1)
        if dash:
            cover = cover * np.clip(1.4 * np.sin(along * np.float32(math.pi / dash)) + 0.6, 0, 1)
        nx, ny = np.clip(dx / r, -1, 1), np.clip(dy / r, -1, 1)
        self._add(window, cover, nx, ny, along, best, paint, material, gain, grounded)

    def hoop(
        self, x: float, y: float, rx: float, ry: float, radius: float, paint: str = "body",
        material: str | None = None, gain: float = 1.0, half: int = 0,
    ) -> None:  # fmt: skip
        """An elliptic ring of tube radius `radius`; `half` 1 draws its upper half only, -1 its lower."""
        window = self._window(x - rx - radius, y - ry - radius, x + rx + radius, y + ry + radius)
        if window is None:
            return
        px, py = self.x[window] - np.float32(x), self.y[window] - np.float32(y)
        distance = ellipse(px, py, rx, ry)
        cover = np.clip((np.float32(radius) - np.abs(distance)) / np.float32(self.pixel) + 0.5, 0, 1)
        if half:
            cover = cover * np.clip(half * py / np.float32(self.pixel) + 0.5, 0, 1)
        gx, gy = px / np.float32(rx * rx), py / np.float32(ry * ry)
        norm = np.sqrt(gx * gx + gy * gy) + 1e-6
        t = np.clip(distance / np.float32(radius), -1, 1)
        along = np.arctan2(py, px) * np.float32(rx)
        self._add(window, cover, t * gx / norm, t * gy / norm, along, distance, paint, material, gain)

    def span(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], paint: str = "body",
        material: str | None = None, gain: float = 1.0, round_: float = 0.9, smooth: int = 5,
    ) -> None:  # fmt: skip
        """A body between two curves over x, rounded from the lower to the upper one (a shoe's sole, its upper)."""
        grid, bottom, _ = profile(list(zip(xs, low, strict=True)), smooth)
        _, top, rise = profile(list(zip(xs, high, strict=True)), smooth)
        window = self._window(float(grid[0]), float(bottom.min()), float(grid[-1]), float(top.max()))
        if window is None:
            return
        px, py = self.x[window], self.y[window]
        first, step = np.float32(grid[0]), np.float32((len(grid) - 1) / (grid[-1] - grid[0]))
        lo, hi, slope = at(bottom, px, first, step), at(top, px, first, step), at(rise, px, first, step)
        pixel = np.float32(self.pixel)
        length = np.sqrt(1 + slope * slope)
        cover = np.clip((hi - py) / (pixel * length) + 0.5, 0, 1) * np.clip((py - lo) / pixel + 0.5, 0, 1)
        cover *= np.clip((px - first) / pixel + 0.5, 0, 1) * np.clip((np.float32(grid[-1]) - px) / pixel + 0.5, 0, 1)
        t = np.clip((py - (lo + hi) / 2) / np.maximum((hi - lo) / 2, 1e-3), -1, 1)
        ny = np.sign(t) * t * t * np.float32(round_)
        upper = (t > 0).astype(np.float32)
        nx = -slope / length * ny * upper
        self._add(window, cover, nx, ny / (1 + (length - 1) * upper), px, py, paint, material, gain)
