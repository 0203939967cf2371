"""Brand worlds: the palette, light, grading, composition, materials and settings that a brand's pictures share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pictures.scene import Scene, compose
from pictures.styles import STYLES_LOOK, Grade, Range, Style
from pictures.vocabulary import ACCENTS, COLOURS, MATERIALS, PRODUCTS, SETTINGS

# settings.py picks the velvet's colour by seed modulo 4 and the boards' tones by seed modulo 7: a brand keeps both.
VARIANTS = 28


@dataclass(frozen=True)
class BrandWorld:
    """What all pictures of a brand have in common; what they show is free."""

    colours: tuple[str, ...]  # its palette, commonest first
    materials: tuple[str, ...]
    settings: tuple[str, ...]
    accent: str | None
    style: str | None  # the style it started from, if any
    look: Style  # narrow ranges: the brand's grading, camera and light
    light_x: float
    warmth: float
    hue: tuple[float, float, float]
    variant: int  # 0..27, which cloth or boards: scene.seed modulo 28 picks them


def sample_world(rng: np.random.Generator) -> BrandWorld:
    """Draws a brand world; half of them start from one of the eight styles."""
    style = None if rng.random() < 0.5 else list(STYLES_LOOK)[int(rng.integers(len(STYLES_LOOK)))]
    grade = _vary(STYLES_LOOK[style].grade, rng) if style else _free_grade(rng)
    base = STYLES_LOOK[style] if style else Style(grade)
    own = Style(
        grade=grade,
        scale=_narrow(rng, base.scale if style else (0.34, 0.82), 0.03),
        x=_narrow(rng, base.x if style else (-0.14, 0.14), 0.02),
        ground=_narrow(rng, base.ground, 0.01),
        roll_degrees=_narrow(rng, base.roll_degrees if style else (-8, 8), 0.8),
        pitch=_narrow(rng, base.pitch if style else (0.08, 0.4), 0.02),
        hardness=_narrow(rng, base.hardness if style else (0.0, 1.0), 0.05),
        light_height=_narrow(rng, base.light_height if style else (0.35, 0.9), 0.03),
    )
    return BrandWorld(
        colours=_some(rng, COLOURS, 2),
        materials=_some(rng, MATERIALS, int(rng.integers(1, 3))),
        settings=_some(rng, SETTINGS, 1),
        accent=(None, *ACCENTS)[int(rng.integers(3))],
        style=style,
        look=own,
        light_x=float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.85)),
        warmth=float(rng.uniform(-0.3, 0.3)),
        hue=(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.05, 0.05))),
        variant=int(rng.integers(VARIANTS)),
    )


def sample_scene_in_world(world: BrandWorld, rng: np.random.Generator, product: str | None = None) -> Scene:
    """Draws a picture of the brand, of any product unless one is named; render it like every other scene."""
    if product is None:
        product = PRODUCTS[int(rng.integers(len(PRODUCTS)))]
    colour = world.colours[0 if rng.random() < 0.7 else -1]
    material = world.materials[int(rng.integers(len(world.materials)))]
    setting = world.settings[int(rng.integers(len(world.settings)))]
    scene = compose(rng, world.look, product, colour, material, setting, world.style, world.accent, world.look.grade)
    # compose mirrors roll at random for variety; a brand keeps its camera.
    low, high = world.look.roll_degrees
    roll = float(rng.uniform(low, high))
    return replace(
        scene,
        light_x=world.light_x,
        warmth=world.warmth,
        hue=world.hue,
        roll_degrees=roll,
        seed=VARIANTS * int(rng.integers(2**26)) + world.variant,
    )


def _some(rng: np.random.Generator, items: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(items[i] for i in rng.choice(len(items), size=count, replace=False))


def _narrow(rng: np.random.Generator, span: Range, half: float) -> Range:
    middle = float(rng.uniform(span[0], span[1]))
    return (middle - half, middle + half)


def _vary(grade: Grade, rng: np.random.Generator) -> Grade:
    """A style's grading, moved a little so that two brands of one style differ."""
    backdrop = tuple(float(np.clip(v + rng.uniform(-0.15, 0.15), 0, 1)) for v in grade.backdrop)
    return replace(
        grade,
        exposure=grade.exposure * float(rng.uniform(0.9, 1.08)),
        contrast=grade.contrast * float(rng.uniform(0.9, 1.1)),
        saturation=grade.saturation * float(rng.uniform(0.8, 1.15)),
        warmth=grade.warmth + float(rng.uniform(-0.25, 0.25)),
        backdrop=(backdrop[0], backdrop[1], backdrop[2]),
        backdrop_mix=float(np.clip(grade.backdrop_mix + rng.uniform(-0.1, 0.25), 0, 0.7)),
    )


def _free_grade(rng: np.random.Generator) -> Grade:
    """A grading of its own, over a wider field than the styles cover."""
    tone = rng.uniform(0.05, 0.95, 3)
    return Grade(
        exposure=float(rng.uniform(0.85, 1.1)),
        contrast=float(rng.uniform(0.75, 1.25)),
        saturation=float(rng.uniform(0.6, 1.4)),
        warmth=float(rng.uniform(-0.7, 0.7)),
        fade=float(rng.choice([0, 0, 0.1, 0.2])),
        vignette=float(rng.choice([-0.2, 0, 0, 0.3, 0.6])),
        backdrop=(float(tone[0]), float(tone[1]), float(tone[2])),
        backdrop_mix=float(rng.uniform(0.15, 0.65)),
        backdrop_gain=float(rng.uniform(0.65, 1.1)),
        spot=float(rng.choice([0, 0, 0.5])),
        beams=float(rng.choice([0, 0, 0.7])),
    )
