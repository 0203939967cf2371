"""A scene: everything that decides a picture, how scenes are drawn at random, and which are kept from training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pictures.styles import Grade, Range, Style, look
from pictures.vocabulary import ACCENTS, COLOURS, FIT, HARDWARE, MATERIALS, PRODUCTS, SETTINGS, STYLES, USUAL_MATERIALS

Split = Literal["train", "heldout", "any"]
HELD_OUT_PERCENT = 8


@dataclass(frozen=True)
class Scene:
    """One picture's description. Lengths are shares of the picture's side, so a scene looks alike at every size."""

    product: str
    colour: str
    material: str
    setting: str
    style: str | None = None
    accent: str | None = None  # gold or silver hardware; None: hardware in the object's own dark tone
    scale: float = 0.58  # height of the object's frame
    x: float = 0.0  # offset of the object's middle from the picture's middle
    ground: float = 0.79  # where the object stands, from the top
    roll_degrees: float = 0.0
    pitch: float = 0.22  # camera height: sine of the angle looking down
    mirrored: bool = False
    shape: tuple[float, float, float] = (0.5, 0.5, 0.5)  # proportions of the object, each 0..1
    light_x: float = -0.5  # -1 from the left .. 1 from the right
    light_height: float = 0.65  # 0 at the horizon .. 1 overhead
    hardness: float = 0.5  # 0 overcast .. 1 bare sun
    warmth: float = 0.0  # of the light, -1..1
    exposure: float = 1.0
    hue: tuple[float, float, float] = (0.0, 0.0, 0.0)  # small shift of the object's RGB
    grade: Grade | None = None  # overrides the style's grading (brand worlds)
    seed: int = 0  # of texture and surroundings


def is_held_out(product: str, colour: str, setting: str) -> bool:
    """Whether this combination is kept from training: a fixed 8%, never the README's gold or brown bag on marble."""
    if product == "handbag" and setting == "marble" and colour in ("gold", "brown"):
        return False
    return zlib.crc32(f"{product}|{colour}|{setting}".encode()) % 100 < HELD_OUT_PERCENT


def sample_scene(rng: np.random.Generator, split: Split = "train") -> Scene:
    """Draws a scene whose product, colour and setting belong to the split ("any": all combinations)."""
    while True:
        product, colour, setting = _pick(rng, PRODUCTS), _pick(rng, COLOURS), _pick(rng, SETTINGS)
        if split == "any" or is_held_out(product, colour, setting) == (split == "heldout"):
            break
    style = None if rng.random() < 0.15 else _pick(rng, STYLES)
    return make_scene(rng, product, colour, setting, style)


def make_scene(
    rng: np.random.Generator,
    product: str,
    colour: str,
    setting: str,
    style: str | None = None,
    material: str | None = None,
    accent: str | None = None,
) -> Scene:
    """Draws what the arguments leave open (material, hardware, camera, light, proportions) to suit the style."""
    if material is None:
        material = _pick(rng, USUAL_MATERIALS[product] if rng.random() < 0.9 else MATERIALS)
    if accent is None and product in HARDWARE and rng.random() < 0.5:
        accent = ACCENTS[0] if rng.random() < (0.9 if style == "luxury" else 0.5) else ACCENTS[1]
    return compose(rng, look(style), product, colour, material, setting, style, accent)


def compose(
    rng: np.random.Generator,
    how: Style,
    product: str,
    colour: str,
    material: str,
    setting: str,
    style: str | None,
    accent: str | None,
    grade: Grade | None = None,
) -> Scene:
    """Draws camera, light and proportions from the ranges of `how`."""
    roll = _between(rng, how.roll_degrees) * (1 if rng.random() < 0.5 else -1)
    side = 1.0 if rng.random() < 0.5 else -1.0
    scale = _between(rng, how.scale)
    room = max(0.0, 0.47 - 0.6 * scale)  # how far sideways a wide object may move without leaving the picture
    return Scene(
        product=product,
        colour=colour,
        material=material,
        setting=setting,
        style=style,
        accent=accent,
        scale=scale * FIT.get(product, 1.0),
        x=float(np.clip(_between(rng, how.x), -room, room)),
        ground=max(_between(rng, how.ground), 1.04 * scale + 0.04),  # its top stays in the picture
        roll_degrees=roll,
        pitch=_between(rng, how.pitch),
        mirrored=bool(rng.random() < 0.5),
        shape=(float(rng.random()), float(rng.random()), float(rng.random())),
        light_x=side * _between(rng, (0.25, 0.85)),
        light_height=_between(rng, how.light_height),
        hardness=_between(rng, how.hardness),
        warmth=_between(rng, (-0.12, 0.12)),
        exposure=_between(rng, (0.95, 1.05)),
        hue=(_between(rng, (-0.03, 0.03)), _between(rng, (-0.03, 0.03)), _between(rng, (-0.03, 0.03))),
        grade=grade,
        seed=int(rng.integers(2**31)),
    )


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _between(rng: np.random.Generator, span: Range) -> float:
    return float(rng.uniform(span[0], span[1]))
