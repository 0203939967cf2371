"""Furniture, luggage and books, drawn from parts on a Stage (see products.py for the coordinates)."""

from __future__ import annotations

from pictures.shapes import Stage


def chair(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w, top = 0.58 + 0.10 * a, 0.94 + 0.06 * b
    feet = "accent" if s.scene.accent else "body"
    for side in (-1, 1):
        s.tube([(side * w * 0.40 + 0.06, 0.44), (side * w * 0.42 + 0.11, 0.09)], 0.026, feet, gain=0.6)
    back = w * 0.42
    if s.scene.material in ("wood", "metal"):  # posts, rails and slats
        for i in range(4):
            x = back * (-0.6 + 0.4 * i) + 0.04
            s.tube([(x, 0.50), (x * 1.04, top - 0.10)], 0.022, gain=0.92)
        for side in (-1, 1):
            s.tube([(side * back + 0.04, 0.46), (side * back * 1.06 + 0.045, top)], 0.032)
        s.slab(0.045, top - 0.15, back * 2.12, 0.13, 0.05, 0.04)
    else:  # upholstered
        for side in (-1, 1):
            s.tube([(side * back * 0.8 + 0.03, 0.42), (side * back * 0.8 + 0.04, 0.58)], 0.028, feet, gain=0.8)
        s.slab(0.04, 0.52, back * 2.2, top - 0.54, 0.12, 0.09, taper=-0.05, lean=0.015)
        s.slab(0.045, 0.575, back * 1.66, top - 0.66, 0.08, 0.07, gain=1.06)
    s.slab(0.02, 0.42, w * 1.10, 0.15, 0.06, 0.03, taper=0.16, tilt=0.55, gain=1.05)
    s.slab(0, 0.36, w * 1.12, 0.085, 0.04, 0.04, gain=0.80)
    for side in (-1, 1):
        s.tube([(side * w * 0.46, 0.38), (side * w * 0.54, 0.02)], 0.034, feet, end_radius=0.024)


def lamp(s: Stage) -> None:
    a, b, _ = s.scene.shape
    low, high, tall = 0.31 + 0.06 * a, 0.16 + 0.08 * b, 0.40
    foot = "accent" if s.scene.accent else "dark"
    s.lathe([(0, 0.20), (0.02, 0.20), (0.05, 0.15), (0.08, 0.035), (0.20, 0.03), (0.30, 0.06), (0.38, 0.03),
             (0.58, 0.022)], paint=foot, material="metal", cap=None, smooth=3)  # fmt: skip
    s.disc(0, 0.57, low, low * s.k * 0.9, "flame", "plain", gain=1.1, tilt=-0.2)
    s.lathe([(0, low), (tall, high)], y=0.57, smooth=0, cap=None)
    s.disc(0, 0.57 + tall, high, high * s.k, "light", "plain")
    s.disc(0, 0.57 + tall, high * 0.9, high * 0.9 * s.k, "flame", "plain", gain=1.15)


def sofa(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w, tall = 1.16 + 0.12 * a, 0.56 + 0.08 * b
    feet = "accent" if s.scene.accent else "dark"
    for side in (-1, 1):
        s.tube([(side * w * 0.43, 0.10), (side * w * 0.45, 0.0)], 0.026, feet, end_radius=0.018)
    s.slab(0, 0.16, w * 0.94, tall - 0.14, 0.10, 0.06, gain=0.8)
    for side in (-1, 1):
        s.slab(side * w * 0.205, 0.30, w * 0.40, tall - 0.32, 0.09, 0.12, gain=0.98, tilt=0.05)
    s.slab(0, 0.08, w * 0.86, 0.16, 0.04, 0.05, gain=0.78)
    for side in (-1, 1):
        s.slab(side * w * 0.202, 0.20, w * 0.40, 0.15, 0.06, 0.06, tilt=0.42, gain=1.05)
    for side in (-1, 1):
        s.slab(side * w * 0.45, 0.07, w * 0.15, tall - 0.20, 0.085, 0.085)


def backpack(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w = 0.60 + 0.10 * a
    for side in (-1, 1):
        s.tube([(side * w * 0.36, 0.80), (side * w * 0.62, 0.5), (side * w * 0.45, 0.12)], 0.032, gain=0.62)
    s.hoop(0, 0.90, 0.095, 0.085, 0.024, gain=0.8, half=1)
    s.slab(0, 0, w, 0.94, 0.21, 0.16)
    s.hoop(0, 0.60, w * 0.42, 0.24, 0.008, "accent", half=1)
    s.slab(0, 0.06, w * 0.80, 0.40 + 0.04 * b, 0.09, 0.09, gain=0.6)
    s.slab(0, 0.07, w * 0.78, 0.38 + 0.04 * b, 0.09, 0.08, gain=1.1, tilt=0.05)
    s.tube([(-w * 0.30, 0.36), (w * 0.30, 0.36)], 0.011, "accent")
    s.slab(w * 0.24, 0.28, 0.03, 0.09, 0.012, 0.012, paint="accent")
    s.slab(0, 0.60, 0.16, 0.09, 0.02, 0.02, paint="light", material="leather")


def suitcase(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w, h = 0.56 + 0.10 * a, 0.76 + 0.04 * b
    for side in (-1, 1):
        s.tube([(side * 0.12, h), (side * 0.12, 0.99)], 0.018, "accent")
        s.ball(side * w * 0.38, 0.03, 0.045, 0.04, "ink", "leather")
    s.slab(0, 0.96, 0.31, 0.06, 0.03, 0.03, paint="ink", material="leather")
    s.slab(0.05, 0.06, w, h - 0.04, 0.09, 0.08, gain=0.55)
    s.slab(0, 0.04, w, h, 0.09, 0.09)
    for i in range(5):
        x = w * (-0.34 + 0.17 * i)
        s.tube([(x, 0.13), (x, h - 0.06)], 0.016, gain=0.72)
        s.tube([(x - 0.012, 0.13), (x - 0.012, h - 0.06)], 0.008, gain=1.2)
    for side in (-1, 1):
        s.slab(side * w * 0.43, 0.05, 0.09, 0.10, 0.03, 0.03, paint="accent")
        s.slab(side * w * 0.43, h - 0.08, 0.09, 0.10, 0.03, 0.03, paint="accent")
    s.slab(0, h * 0.56, 0.12, 0.06, 0.02, 0.02, paint="accent")


def book(s: Stage) -> None:
    a, b, _ = s.scene.shape
    w, h = 0.58 + 0.08 * a, 0.86 + 0.06 * b
    s.slab(0.085, 0.045, w, h - 0.01, 0.02, 0.02, gain=0.5)
    s.slab(0.055, 0.05, w - 0.02, h - 0.04, 0.01, 0.015, paint="cream", material="plain", gain=0.92)
    for i in range(3):
        s.tube([(w / 2 + 0.018 + 0.012 * i, 0.06), (w / 2 + 0.018 + 0.012 * i, h)], 0.003, "dark", "plain", gain=1.6)
    s.slab(0, 0, w, h, 0.02, 0.018)
    s.slab(-w * 0.43, 0, w * 0.14, h, 0.02, 0.045, gain=0.82)
    trim = "accent" if s.scene.accent else "light"
    s.slab(0.04, h * 0.56, w * 0.56, h * 0.22, 0.02, 0.02, paint=trim)
    s.slab(0.04, h * 0.575, w * 0.51, h * 0.19, 0.015, 0.02, gain=0.85)
    s.tube([(-0.08, h * 0.70), (0.16, h * 0.70)], 0.012, trim)
    s.tube([(-0.04, h * 0.64), (0.12, h * 0.64)], 0.009, trim)
    s.tube([(-0.10, h * 0.16), (0.18, h * 0.16)], 0.010, trim)
