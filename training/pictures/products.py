"""The products that stand on a table or are worn, each drawn from parts on a Stage; furniture is in furniture.py.

Coordinates are those of shapes.py: the ground at y = 0, the object about 1 high and up to 1.3 wide. `a`, `b`, `c` are
the scene's free proportions, 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pictures.furniture import backpack, book, chair, lamp, sofa, suitcase
from pictures.shapes import Stage

Draw = Callable[[Stage], None]


def handbag(s: Stage) -> None:
    a, b, c = s.scene.shape
    w, h = 0.88 + 0.18 * a, 0.58 + 0.08 * b
    grip = 0.24 + 0.05 * c
    s.hoop(0.05, h - 0.03, grip, 0.30 + 0.05 * a, 0.022, gain=0.6, half=1)
    s.slab(0.07, 0.03, w, h - 0.02, 0.07, 0.07, taper=0.16, gain=0.55)
    s.slab(0, 0, w, h, 0.08, 0.09, taper=0.16)
    s.tube([(-w * 0.42, 0.055), (w * 0.42, 0.055)], 0.0065, "light", "plain", dash=0.022)
    # The flap is lit a little more than the body and throws a thin shade below itself.
    s.slab(0, h * 0.52, w * 0.94, h * 0.47, 0.11, 0.04, taper=0.04, gain=0.5)
    s.slab(0, h * 0.55, w * 0.94, h * 0.46, 0.11, 0.06, taper=0.06, gain=1.07, tilt=0.08)
    s.tube([(-w * 0.37, h * 0.62), (w * 0.37, h * 0.62)], 0.0065, "light", "plain", dash=0.022)
    s.hoop(0, h - 0.04, grip + 0.01, 0.34 + 0.05 * a, 0.030, half=1)
    for side in (-1, 1):
        s.slab(side * (grip + 0.01), h * 0.80, 0.085, 0.13, 0.03, 0.02)
        s.hoop(side * (grip + 0.01), h - 0.03, 0.042, 0.048, 0.016, "accent")
    s.slab(0, h * 0.48, 0.17, 0.13, 0.03, 0.035, paint="accent")
    s.ball(0, h * 0.48 + 0.07, 0.026, 0.026, "accent")


def watch(s: Stage) -> None:
    a, b, _ = s.scene.shape
    strap = 0.27 + 0.06 * a
    s.slab(0, 0.0, strap * 0.86, 0.34, 0.05, 0.07, taper=-0.18, tilt=-0.15)
    s.slab(0, 0.68, strap, 0.34, 0.05, 0.07, taper=0.16, tilt=0.2)
    for x in (-1, 1):
        for y in (0.29, 0.73):
            s.ball(x * strap * 0.36, y, 0.05, 0.07, "accent")
    for y in (0.06, 0.12, 0.18):
        s.ball(0, y, 0.011, 0.015, "dark", "plain")
    s.slab(0.30, 0.475, 0.09, 0.07, 0.02, 0.02, paint="accent")
    s.ball(0, 0.51, 0.31, 0.31, "accent")
    face = "ink" if b > 0.6 else "cream"
    marks = "accent" if b > 0.6 else "ink"
    s.disc(0, 0.51, 0.245, 0.245, "dark", "plain")
    s.disc(0, 0.51, 0.23, 0.23, face, "plain", tilt=0.15)
    for i in range(12):
        t = math.radians(30 * i)
        long = 0.045 if i % 3 == 0 else 0.02
        end, start = 0.205, 0.205 - long
        sin, cos = math.sin(t), math.cos(t)
        s.tube([(start * sin, 0.51 + start * cos), (end * sin, 0.51 + end * cos)], 0.009, marks)
    s.tube([(0, 0.51), (0.10, 0.59)], 0.014, marks)
    s.tube([(0, 0.51), (-0.07, 0.66)], 0.010, marks)
    s.ball(0, 0.51, 0.02, 0.02, "accent")


def ring(s: Stage) -> None:
    a, b, _ = s.scene.shape
    band = 0.045 + 0.025 * a
    s.hoop(0.05, 0.37, 0.30, 0.33, band, gain=0.55)
    s.hoop(0, 0.36, 0.32, 0.34, band)
    gem = 0.13 + 0.05 * b
    y = 0.74 + gem * 0.5
    for side in (-1, 1):
        s.tube([(side * 0.04, 0.68), (side * gem * 0.9, y + 0.02)], 0.022, "accent")
    # A brilliant: pavilion, girdle, table; facets by slabs of different brightness.
    s.slab(0, y - gem * 0.8, gem * 0.5, gem * 0.85, 0.02, 0.02, taper=-2.6, paint="gem", material="glass", gain=0.75)
    s.slab(0, y, gem * 1.9, gem * 0.45, 0.02, 0.03, taper=0.34, paint="gem", material="glass")
    s.slab(0, y + 0.02, gem * 0.8, gem * 0.42, 0.01, 0.02, taper=0.2, paint="gem", material="glass", gain=1.3, tilt=0.5)
    s.tube([(-gem * 0.3, y), (0, y - gem * 0.75), (gem * 0.3, y)], 0.008, "gem", "plain", gain=1.2)


def shoe(s: Stage) -> None:
    a, b, _ = s.scene.shape
    collar, toe = 0.50 + 0.10 * a, 0.20 + 0.05 * b
    heel = [-0.60, -0.58, -0.46, -0.28, -0.14, 0.0, 0.18, 0.36, 0.50, 0.60, 0.645]
    inside = [collar, collar + 0.035, collar + 0.03, collar - 0.02]
    s.span([-0.55, -0.4, -0.2, -0.12], [0.3] * 4, inside, gain=0.45, smooth=3)
    tongue = [collar - 0.05, collar + 0.09, collar + 0.06, 0.38]
    s.span([-0.30, -0.2, -0.08, 0.02], [0.3] * 4, tongue, gain=0.8, smooth=3)
    s.span(heel, [0.06] * 11, [0.3, collar, collar - 0.02, collar - 0.09, collar - 0.04, 0.41, 0.34, toe + 0.09,
                               toe + 0.065, toe - 0.01, 0.09], smooth=3)  # fmt: skip
    # Toe cap, heel counter, and a stripe along the side in another tone.
    s.span([0.34, 0.42, 0.56, 0.655], [0.06] * 4, [0.07, toe + 0.06, toe + 0.02, 0.10], gain=1.16, smooth=4)
    s.span([-0.61, -0.52, -0.44, -0.40], [0.06] * 4, [0.28, 0.34, 0.30, 0.10], gain=0.78, smooth=4)
    s.tube([(-0.30, 0.15), (-0.12, 0.34), (0.10, 0.15)], 0.024, "accent" if s.scene.accent else "light", "plain")
    for i in range(4):
        x, y = -0.06 + 0.09 * i, collar - 0.10 - 0.055 * i
        s.tube([(x - 0.045, y - 0.07), (x + 0.05, y + 0.005)], 0.017, "cream", "plain")
    s.span([-0.645, -0.62, -0.3, 0.2, 0.6, 0.70], [0.02, 0, 0, 0, 0.0, 0.06], [0.12, 0.125, 0.11, 0.10, 0.10, 0.115],
           "cream", "plain", smooth=3)  # fmt: skip
    s.tube([(-0.62, 0.045), (0.64, 0.045)], 0.008, "dark", "plain")


def bottle(s: Stage) -> None:
    a, b, _ = s.scene.shape
    r = 0.19 + 0.06 * a
    s.lathe([(0, r * 0.93), (0.03, r), (0.52, r), (0.60 + 0.04 * b, r * 0.86), (0.70, 0.085), (0.74, 0.07),
             (0.84, 0.07)], cap=None, smooth=5)  # fmt: skip
    s.lathe([(0, r * 1.004), (0.25, r * 1.004)], y=0.17, paint="cream", material="plain", cap=None, smooth=0)
    s.lathe([(0, r * 1.007), (0.022, r * 1.007)], y=0.215, paint="accent", cap=None, smooth=0)
    s.lathe([(0, r * 1.007), (0.05, r * 1.007)], y=0.29, paint="body", material="plain", cap=None, smooth=0)
    s.lathe([(0, 0.078), (0.03, 0.078)], y=0.79, paint="accent", cap="accent", smooth=0, gain=0.8)
    s.lathe([(0, 0.09), (0.17, 0.09)], y=0.82, paint="accent", cap="accent", smooth=0)


def vase(s: Stage) -> None:
    a, b, c = s.scene.shape
    s.lathe([(0, 0.13 + 0.05 * c), (0.02, 0.15 + 0.05 * c), (0.28, 0.26 + 0.07 * a), (0.45, 0.29 + 0.07 * a),
             (0.64, 0.22), (0.80, 0.10 + 0.03 * b), (0.88, 0.10 + 0.03 * b), (0.97, 0.16 + 0.03 * b),
             (1.0, 0.175 + 0.03 * b)], hollow=0.86)  # fmt: skip
    if s.scene.accent:
        r = 0.10 + 0.03 * b
        s.lathe([(0, r + 0.012), (0.03, r + 0.012)], y=0.82, paint="accent", cap=None, smooth=0)


def mug(s: Stage) -> None:
    a, b, _ = s.scene.shape
    r, h = 0.30 + 0.05 * a, 0.72 + 0.12 * b
    s.hoop(r + 0.06, h * 0.52, 0.17, h * 0.27, 0.042)
    s.lathe([(0, r * 0.86), (0.04, r * 0.97), (h, r)], cap=None, smooth=3)
    s.disc(0, h, r, r * s.k, "accent" if s.scene.accent else "light", gain=0.95)
    s.disc(0, h, r * 0.92, r * 0.92 * s.k, "dark", "plain", gain=0.8)
    s.disc(0, h - 0.045, r * 0.84, r * 0.78 * s.k, "coffee", "leather")


def teapot(s: Stage) -> None:
    a, _, _ = s.scene.shape
    r = 0.38 + 0.05 * a
    s.hoop(-r - 0.02, 0.36, 0.19, 0.20, 0.036)
    s.tube([(r - 0.12, 0.22), (r + 0.07, 0.30), (r + 0.15, 0.44), (r + 0.25, 0.60)], 0.085, end_radius=0.038)
    s.lathe([(0, 0.22), (0.02, 0.25), (0.14, r * 0.92), (0.28, r), (0.42, r * 0.88), (0.55, 0.23), (0.58, 0.21)])
    s.lathe([(0, 0.235), (0.025, 0.235)], y=0.55, paint="accent", cap="accent", smooth=0)
    s.lathe([(0, 0.21), (0.06, 0.16), (0.10, 0.06), (0.11, 0.03)], y=0.575)
    s.ball(0, 0.72, 0.055, 0.055, "accent")


def candle(s: Stage) -> None:
    a, b, _ = s.scene.shape
    r, h = 0.29 + 0.06 * a, 0.56 + 0.08 * b
    s.lathe([(0, r), (h, r)], cap=None, smooth=0)
    s.disc(0, h, r, r * s.k, "light")
    s.disc(0, h, r * 0.93, r * 0.93 * s.k, "cream", "plain", gain=1.1)
    s.lathe([(0, r * 1.005), (0.20, r * 1.005)], y=h * 0.34, paint="cream", material="plain", cap=None, smooth=0)
    s.lathe([(0, r * 1.008), (0.025, r * 1.008)], y=h * 0.34 + 0.08, paint="accent", cap=None, smooth=0)
    s.disc(0, h, r * 0.40, r * 0.40 * s.k, "flame", "plain", gain=1.2)
    s.tube([(0, h), (0, h + 0.08)], 0.012, "ink", "plain")
    s.ball(0, h + 0.17, 0.055, 0.12, "flame", "plain", gain=1.3)
    s.ball(0, h + 0.14, 0.030, 0.075, "flame", "plain", gain=2.2)


def hat(s: Stage) -> None:
    a, b, _ = s.scene.shape
    brim, crown = 0.60 + 0.08 * a, 0.36 + 0.06 * b
    flat = 0.17 + 0.25 * s.k
    s.disc(0, 0.13, brim, flat, gain=0.6, tilt=0.2)
    s.disc(0, 0.155, brim, flat, tilt=0.62)
    s.lathe([(0, 0.37), (0.06, 0.365), (crown * 0.7, 0.33), (crown * 0.95, 0.27), (crown, 0.20)], y=0.17, squash=1.2)
    ribbon = "accent" if s.scene.accent else "dark"
    s.lathe([(0, 0.378), (0.10, 0.37)], y=0.17, paint=ribbon, cap=None, squash=1.2, smooth=0)
    s.tube([(-0.12, 0.17 + crown + 0.012), (0.10, 0.17 + crown - 0.004)], 0.012, gain=0.75)


def sunglasses(s: Stage) -> None:
    a, b, _ = s.scene.shape
    rx, ry = 0.27 + 0.04 * a, 0.22 + 0.05 * b
    y = ry + 0.05
    for side in (-1, 1):
        s.tube([(side * 0.60, y + 0.12), (side * 0.52, y + 0.30), (side * 0.36, y + 0.33)], 0.022, gain=0.6)
        s.ball(side * 0.33, y, rx, ry, "ink", "glass", flat=0.55)
        s.tube([(side * 0.33 - 0.15, y + 0.07), (side * 0.33 - 0.02, y + 0.13)], 0.022, "glint", "plain")
        s.hoop(side * 0.33, y, rx, ry, 0.042)
        s.slab(side * 0.61, y + 0.08, 0.09, 0.08, 0.02, 0.03)
        s.ball(side * 0.61, y + 0.12, 0.026, 0.022, "accent")
    s.hoop(0, y + 0.04, 0.085, 0.08, 0.026, "accent" if s.scene.accent else "body", half=1)


def headphones(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w = 0.38 + 0.05 * a
    s.hoop(0, 0.42, w + 0.01, 0.50, 0.052, half=1)
    s.hoop(0, 0.42, w - 0.015, 0.475, 0.022, paint="dark", material="plain", half=1)
    for side in (-1, 1):
        x = side * w
        s.tube([(x, 0.56), (x, 0.40)], 0.030, "accent")
        s.ball(x - side * 0.07, 0.26, 0.085, 0.22, "ink", "leather")
        s.ball(x + side * 0.03, 0.26, 0.115 + 0.02 * b, 0.25)
        s.ball(x + side * 0.085, 0.26, 0.05, 0.15, "accent")


DRAW: dict[str, Draw] = {
    "handbag": handbag, "watch": watch, "ring": ring, "shoe": shoe, "bottle": bottle, "vase": vase, "chair": chair,
    "lamp": lamp, "mug": mug, "teapot": teapot, "candle": candle, "hat": hat, "sunglasses": sunglasses,
    "headphones": headphones, "backpack": backpack, "suitcase": suitcase, "sofa": sofa, "book": book,
}  # fmt: skip
