"""Where each pixel of a set looks: wall, horizon and a ground in perspective; and what sets are painted with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pictures.curves import Field
from pictures.scene import Scene
from pictures.styles import RGB, plane


@dataclass(frozen=True)
class View:
    """Where each pixel looks: picture coordinates x, y in 0..1 and, on the ground, plan coordinates u, v."""

    scene: Scene
    size: int
    x: Field
    y: Field
    horizon: float
    ground: Field  # 0 on the wall, 1 on the ground
    u: Field
    v: Field
    seed: int
    shift: np.float32

    def blend(self, top: RGB, bottom: RGB, far: RGB, near: RGB) -> Field:
        """A wall and a ground, each shaded from one colour to another: [size, size, 3]."""
        line = np.linspace(-0.5, 1.5, 512, dtype=np.float32)[:, None]
        wall = np.clip(line / np.float32(self.horizon), 0, 1)
        floor = np.clip((line - self.horizon) / np.float32(1 - self.horizon), 0, 1)
        above = rgb(top) + (rgb(bottom) - rgb(top)) * wall
        below = rgb(far) + (rgb(near) - rgb(far)) * floor
        ramp = np.where(line < self.horizon, above, below).astype(np.float32)
        # An upright camera sees rows of one colour: one column of them is enough to compute.
        width = self.size if self.scene.roll_degrees else 1
        y, ground = self.y[:, :width], self.ground[:, :width]
        picture = ramp[((y + np.float32(0.5)) * np.float32(255.5)).astype(np.int32)]
        # The ramp's step at the horizon is softened to one pixel or so, as a lens would.
        edge = (np.abs(y - np.float32(self.horizon)) < 0.012)[..., None]
        mixed = rgb(bottom) + (rgb(far) - rgb(bottom)) * ground[..., None]
        return np.repeat(np.where(edge, mixed, picture), self.size // width, axis=1)


def horizon_of(scene: Scene) -> float:
    """Where the ground ends, from the top: the lower the camera, the closer to the object's foot."""
    return scene.ground - 0.07 - 0.6 * scene.pitch


def turned_plane(scene: Scene, size: int) -> tuple[Field, Field]:
    """The pixel centres in a frame that rolls with the camera around the object's foot: x and y, each [size, size]."""
    x, y = plane(size)
    if not scene.roll_degrees:
        return x, y
    angle = math.radians(scene.roll_degrees)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    middle, foot = np.float32(0.5 + scene.x), np.float32(scene.ground)
    dx, dy = x - middle, y - foot
    return middle + cos * dx + sin * dy, foot - sin * dx + cos * dy


def view_of(scene: Scene, size: int) -> View:
    """The view of a scene's set at a size in pixels."""
    x, y = turned_plane(scene, size)
    horizon = horizon_of(scene)
    # The vanishing line lies above the ground's far edge; 0.30 sets how strongly the plan opens towards the viewer.
    depth = np.float32(0.30) / np.maximum(y - np.float32(horizon - 0.12), 0.12)
    ground = np.clip((y - np.float32(horizon)) / np.float32(0.012) + 0.5, 0, 1)
    shift = np.float32(scene.seed % 997 / 997)
    u = (x - 0.5) * depth + shift
    v = depth + shift
    return View(scene, size, x, y, horizon, ground, u, v, scene.seed, shift)


def rgb(colour: RGB) -> NDArray[np.float32]:
    return np.array(colour, np.float32)


def disc(picture: Field, view: View, place: tuple[float, float], radius: float, colour: NDArray[np.float32]) -> None:
    """Adds a soft-edged disc of light to the picture in place; `place` is upright, so the camera's roll moves it."""
    size, reach, scene = view.size, radius * 1.2, view.scene
    angle = math.radians(scene.roll_degrees)
    dx, dy = place[0] - 0.5 - scene.x, place[1] - scene.ground
    cx = 0.5 + scene.x + math.cos(angle) * dx - math.sin(angle) * dy
    cy = scene.ground + math.sin(angle) * dx + math.cos(angle) * dy
    left, right = max(0, math.floor((cx - reach) * size)), min(size, math.ceil((cx + reach) * size))
    top, bottom = max(0, math.floor((cy - reach) * size)), min(size, math.ceil((cy + reach) * size))
    if left >= right or top >= bottom:
        return
    x, y = plane(size)
    px, py = x[top:bottom, left:right] - np.float32(cx), y[top:bottom, left:right] - np.float32(cy)
    soft = np.clip((np.float32(radius) - np.sqrt(px * px + py * py)) / np.float32(0.35 * radius) + 0.5, 0, 1)
    picture[top:bottom, left:right] += soft[..., None] * colour
