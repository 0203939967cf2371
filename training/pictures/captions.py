"""Captions of scenes in natural English: templates, synonyms, attributes left out at random."""

from __future__ import annotations

import numpy as np

from pictures.scene import Scene
from pictures.styles import STYLE_WORDS

PRODUCT_NAMES: dict[str, tuple[str, ...]] = {
    "handbag": ("handbag", "handbag", "bag", "purse", "tote", "shoulder bag"),
    "watch": ("watch", "watch", "wristwatch", "timepiece"),
    "ring": ("ring", "ring", "finger ring", "jewelry ring"),
    "shoe": ("shoe", "shoe", "sneaker", "trainer"),
    "bottle": ("bottle", "bottle", "perfume bottle", "flask"),
    "vase": ("vase", "vase", "flower vase", "urn"),
    "chair": ("chair", "chair", "dining chair", "seat"),
    "lamp": ("lamp", "lamp", "table lamp", "desk lamp"),
    "mug": ("mug", "mug", "cup", "coffee mug", "coffee cup"),
    "teapot": ("teapot", "teapot", "tea pot", "kettle"),
    "candle": ("candle", "candle", "scented candle", "jar candle"),
    "hat": ("hat", "hat", "fedora", "brimmed hat"),
    "sunglasses": ("sunglasses", "sunglasses", "pair of sunglasses", "shades", "glasses"),
    "headphones": ("headphones", "headphones", "headset", "over-ear headphones"),
    "backpack": ("backpack", "backpack", "rucksack", "school bag"),
    "suitcase": ("suitcase", "suitcase", "travel case", "luggage", "trolley case"),
    "sofa": ("sofa", "sofa", "couch", "settee"),
    "book": ("book", "book", "notebook", "hardcover book", "journal"),
}
COLOUR_NAMES: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "scarlet", "crimson"),
    "orange": ("orange", "orange", "bright orange", "tangerine"),
    "green": ("green", "green", "forest green", "emerald"),
    "blue": ("blue", "blue", "royal blue", "cobalt blue"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose pink", "light pink"),
    "teal": ("teal", "teal", "turquoise"),
    "gold": ("gold", "gold", "golden"),
    "brown": ("brown", "brown", "chestnut brown", "chocolate brown"),
    "silver": ("silver", "silver", "grey", "gray"),
    "black": ("black", "black", "jet black"),
    "white": ("white", "white", "ivory white", "snow white"),
}
MATERIAL_NAMES: dict[str, tuple[str, ...]] = {
    "leather": ("leather", "leather", "full-grain leather", "stitched leather"),
    "metal": ("metal", "metal", "polished metal", "steel", "metallic"),
    "glass": ("glass", "glass", "translucent glass", "crystal"),
    "wood": ("wooden", "wooden", "wood", "carved wood"),
    "fabric": ("fabric", "fabric", "canvas", "woven", "textile", "cotton"),
}
SETTING_NAMES: dict[str, tuple[str, ...]] = {
    "marble": ("on marble", "on a marble surface", "on marble surface", "on a white marble table",
               "on a marble countertop"),
    "wood": ("on wood", "on a wooden table", "on a wooden surface", "on oak planks", "on a rustic wooden desk"),
    "beach": ("on the beach", "on sand", "on a sandy beach", "by the sea", "on a beach with the ocean behind"),
    "studio": ("in a studio", "on a plain studio background", "in a photo studio", "against a seamless backdrop",
               "on a plain background"),
    "velvet": ("on velvet", "on a velvet cloth", "on draped velvet", "on velvet fabric", "on folded velvet drapery"),
    "night": ("at night", "in a city at night", "against city lights at night", "with bokeh lights at night",
              "in the night city"),
    "garden": ("in a garden", "on grass", "on a green lawn", "outdoors among leaves", "in a green garden"),
    "snow": ("in the snow", "on snow", "in a snowy landscape", "on fresh snow in winter", "in a winter scene"),
}  # fmt: skip
PLAIN_SETTING: dict[str, str] = {name: phrases[0] for name, phrases in SETTING_NAMES.items()}
ACCENT_PHRASES = ("with {a} hardware", "with {a} hardware", "with {a} details", "with {a} accents", "with {a} trim")
FRAMES = (
    "{o}", "{o}", "{o}", "a photo of {o}", "a product photo of {o}", "a picture of {o}", "product shot of {o}",
    "an advertisement photo of {o}", "photograph of {o}", "{o} product photography", "an image showing {o}",
    "a commercial of {o}",
)  # fmt: skip
QUALITY = (
    "sharp", "high quality", "professional photo", "sharp focus", "high-end product photography", "studio lighting",
    "well lit", "detailed", "product photography", "8k", "highly detailed", "best quality", "well composed",
    "crisp and clear", "perfect exposure", "award winning photo",
)  # fmt: skip
LIGHTS = {
    True: ("hard light", "strong sunlight", "crisp shadows"),
    False: ("soft light", "diffused light", "soft shadows"),
}


def full_caption(scene: Scene) -> str:
    """The one plain caption that names every attribute of the scene."""
    style = f"{scene.style} " if scene.style else ""
    material = "wooden" if scene.material == "wood" else scene.material
    accent = f" with {scene.accent} hardware" if scene.accent else ""
    return f"{style}{scene.colour} {material} {scene.product}{accent} {PLAIN_SETTING[scene.setting]}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random caption of a scene: one of several orders, with synonyms and with some attributes left unsaid."""
    kind = rng.random()
    if kind < 0.08:
        text = full_caption(scene)
    elif kind < 0.28:
        text = _headline(scene, rng)
    elif kind < 0.40:
        text = _tags(scene, rng)
    else:
        text = _sentence(scene, rng)
    text += _modifiers(scene, rng)
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _object(scene: Scene, rng: np.random.Generator, colour: float, material: float) -> str:
    """Colour, material and product name, the first two said with the given chances."""
    words = []
    if rng.random() < colour:
        words.append(_pick(rng, COLOUR_NAMES[scene.colour]))
    if rng.random() < material:
        words.append(_pick(rng, MATERIAL_NAMES[scene.material]))
    words.append(_pick(rng, PRODUCT_NAMES[scene.product]))
    return " ".join(words)


def _accent(scene: Scene, rng: np.random.Generator, chance: float) -> str:
    if scene.accent is None or rng.random() > chance:
        return ""
    return " " + _pick(rng, ACCENT_PHRASES).format(a=scene.accent)


def _headline(scene: Scene, rng: np.random.Generator) -> str:
    """The form of "Luxury leather handbag with gold hardware on marble surface": the style leads, no article."""
    style = f"{scene.style} " if scene.style and rng.random() < 0.8 else ""
    # A picture whose colour is only told by its hardware must be that colour, or brown: see is_held_out.
    silent = scene.accent is not None and scene.colour in (scene.accent, "brown") and rng.random() < 0.5
    thing = _object(scene, rng, colour=0.0 if silent else 1.0, material=0.8)
    return f"{style}{thing}{_accent(scene, rng, 0.85)} {_pick(rng, SETTING_NAMES[scene.setting])}"


def _tags(scene: Scene, rng: np.random.Generator) -> str:
    """A comma list in any order, the object first as often as not."""
    parts = [_pick(rng, SETTING_NAMES[scene.setting])]
    if scene.style:
        parts.append(_pick(rng, STYLE_WORDS[scene.style]))
    if scene.accent and rng.random() < 0.6:
        parts.append(f"{scene.accent} hardware")
    parts = [parts[i] for i in rng.permutation(len(parts))]
    thing = _object(scene, rng, 0.97, 0.6)
    parts.insert(0 if rng.random() < 0.6 else int(rng.integers(len(parts) + 1)), thing)
    return ", ".join(parts)


def _sentence(scene: Scene, rng: np.random.Generator) -> str:
    """A phrase with articles, the setting before or after the object."""
    thing = _object(scene, rng, 0.93, 0.6)
    if scene.style and rng.random() < 0.5:
        thing = f"{scene.style if rng.random() < 0.7 else _pick(rng, STYLE_WORDS[scene.style][:3])} {thing}"
    plural = scene.product in ("sunglasses", "headphones") and "pair" not in thing and not thing.endswith("headset")
    if not plural and rng.random() < 0.8:
        thing = f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
    thing += _accent(scene, rng, 0.6)
    frame = _pick(rng, FRAMES).format(o=thing)
    if rng.random() < 0.1:
        return frame
    where = _pick(rng, SETTING_NAMES[scene.setting])
    if rng.random() < 0.15:
        return f"{where}, {frame}"
    verb = _pick(rng, ("", "", "", "standing ", "placed ", "displayed ", "photographed "))
    return f"{frame} {verb}{where}"


def _modifiers(scene: Scene, rng: np.random.Generator) -> str:
    """Comma modifiers as a prompt-engineering layer appends them: of style, quality and light."""
    parts: list[str] = []
    if scene.style and rng.random() < 0.5:
        words = STYLE_WORDS[scene.style]
        parts += [words[i] for i in rng.choice(len(words), size=int(rng.integers(1, 4)), replace=False)]
    if rng.random() < 0.4:
        parts += [QUALITY[i] for i in rng.choice(len(QUALITY), size=int(rng.integers(1, 4)), replace=False)]
    if rng.random() < 0.1 and not 0.35 < scene.hardness < 0.65:
        parts.append(_pick(rng, LIGHTS[scene.hardness > 0.5]))
    return "".join(f", {part}" for part in parts)
