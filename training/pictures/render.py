"""From a scene to a picture: set, shadow, object, grading; and many pictures on several cores."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pictures.curves import Field
from pictures.materials import Light, shade
from pictures.products import DRAW
from pictures.scene import Scene
from pictures.settings import GROUND, backdrop
from pictures.shapes import Stage
from pictures.styles import Grade, apply_grade, look, stage_light
from pictures.view import horizon_of

SHADOW_SIZE = 64  # shadows are soft: a small mask does


def render(scene: Scene, size: int = 128) -> NDArray[np.uint8]:
    """The picture of a scene, uint8 [size, size, 3]; the same scene at another size is the same picture."""
    grade = scene.grade or look(scene.style).grade
    stage = Stage(scene, size)
    DRAW[scene.product](stage)
    picture = stage_light(backdrop(scene, size), grade, 0.5 + scene.x, scene.ground, horizon_of(scene), scene.light_x)
    mask = _silhouette(stage)
    _cast_shadow(picture, mask, scene)
    light = _light(scene, grade)
    _paint(picture, stage, light)
    polish = GROUND[scene.setting][1]
    if polish and abs(scene.roll_degrees) < 2.1:
        _mirror(picture, mask, scene, polish)
    picture = apply_grade(picture, grade) * np.float32(scene.exposure)
    finished: NDArray[np.uint8] = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    return finished


def render_batch(scenes: Sequence[Scene], size: int = 128, workers: int | None = None) -> NDArray[np.uint8]:
    """Pictures of all scenes, uint8 [n, size, size, 3], on `workers` processes (None: one a core; 0 or 1: this one)."""
    out = np.empty((len(scenes), size, size, 3), np.uint8)
    for index, picture in enumerate(render_stream(scenes, size, workers)):
        out[index] = picture
    return out


def render_stream(scenes: Sequence[Scene], size: int = 128, workers: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """The pictures one by one in the order of the scenes, so that a caller can show progress."""
    count = (multiprocessing.cpu_count() if workers is None else workers) if len(scenes) > 64 else 1
    if count <= 1:
        yield from (render(scene, size) for scene in scenes)
        return
    # spawn: torch's threads in the parent do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield from pool.imap(partial(render, size=size), scenes, chunksize=32)


def _light(scene: Scene, grade: Grade) -> Light:
    direction = np.array([scene.light_x, 0.25 + 0.75 * scene.light_height, 0.75])
    direction /= np.linalg.norm(direction)
    warm = np.array([1 + 0.18 * scene.warmth, 0.985, 0.96 - 0.25 * scene.warmth], np.float32)
    ground = np.array(GROUND[scene.setting][0], np.float32) * np.float32(grade.backdrop_gain)
    key = warm * np.float32(0.60 + 0.30 * scene.hardness)
    sky = np.float32(0.54 - 0.20 * scene.hardness) * np.ones(3, np.float32)
    rim = np.array(grade.rim_rgb, np.float32) * np.float32(grade.rim)
    x, y, z = (float(v) for v in direction)
    return Light(x, y, z, key, sky, np.float32(0.12) + np.float32(0.20) * ground, scene.hardness, rim)


def _paint(picture: Field, stage: Stage, light: Light) -> None:
    """Paints the object's parts over the picture in place, far ones first."""
    for part in stage.parts:
        behind = picture[part.window]
        colour, opacity = shade(part, stage.scene, light, behind)
        behind += (colour - behind) * opacity[..., None]


def _silhouette(stage: Stage) -> Field:
    mask = np.zeros((stage.size, stage.size), np.float32)
    for part in stage.parts:
        if part.grounded:
            np.maximum(mask[part.window], part.cover, out=mask[part.window])
    return mask


def _cast_shadow(picture: Field, mask: Field, scene: Scene) -> None:
    """Darkens the ground: a tight contact shadow and the object's silhouette thrown away from the light."""
    size, small = mask.shape[0], SHADOW_SIZE
    image = Image.fromarray((mask * 255).astype(np.uint8)).resize((small, small), Image.Resampling.BOX)
    shear = -scene.light_x * (0.55 + 0.5 * (1 - scene.light_height))
    cast = _throw(image, scene, 0.0, 0.10 + 0.5 * scene.pitch, shear * 1.2)
    cast = cast.filter(ImageFilter.GaussianBlur(0.5 + 3.5 * (1 - scene.hardness)))
    contact = _throw(image, scene, 0.012, 0.10 + 0.12 * scene.pitch, shear * 0.15).filter(ImageFilter.GaussianBlur(1.3))
    dark = 1 - (1 - np.asarray(cast, np.float32) / 255 * (0.24 + 0.36 * scene.hardness)) * (
        1 - np.asarray(contact, np.float32) / 255 * 0.72
    )
    full = np.asarray(Image.fromarray(dark).resize((size, size), Image.Resampling.BICUBIC))
    # Shade is bluish under an open sky; a black one looks pasted on.
    picture *= 1 - np.clip(full, 0, 1)[..., None] * np.array([0.96, 0.93, 0.88], np.float32)


def _throw(image: Image.Image, scene: Scene, drop: float, squash: float, shear: float) -> Image.Image:
    """The silhouette laid on the ground: heights above the foot times `squash`, shifted sideways by `shear` a height.

    `drop` lowers the result, in shares of the side. The camera's roll is undone before and redone after.
    """
    side = image.width
    angle = math.radians(scene.roll_degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # from the picture to the upright frame
    lay = np.array([[1, shear / squash], [0, 1 / squash]])
    matrix = turn.T @ lay @ turn
    foot = np.array([0.5 + scene.x, scene.ground]) * side
    start = foot - matrix @ (foot + turn.T @ np.array([0, drop * side]))
    coefficients = (matrix[0, 0], matrix[0, 1], start[0], matrix[1, 0], matrix[1, 1], start[1])
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _mirror(picture: Field, mask: Field, scene: Scene, polish: float) -> None:
    """Adds the object's reflection in a polished ground, fading with depth; only where the object itself is not."""
    size = mask.shape[0]
    foot = min(size - 1, round((scene.ground + 0.006) * size))
    fade = np.linspace(polish, 0, max(2, round(0.22 * size)), dtype=np.float32)[: min(size - foot, foot)]
    rows = len(fade)
    image, shape = picture[foot - rows : foot][::-1], mask[foot - rows : foot][::-1]
    below = picture[foot : foot + rows]
    below += (image - below) * (shape * (1 - mask[foot : foot + rows]) * fade[:, None])[..., None]
