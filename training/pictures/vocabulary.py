"""The closed vocabulary of the pictures: products, colours, materials, settings and styles, and which go together."""

from __future__ import annotations

PRODUCTS: tuple[str, ...] = (
    "handbag", "watch", "ring", "shoe", "bottle", "vase", "chair", "lamp", "mug",
    "teapot", "candle", "hat", "sunglasses", "headphones", "backpack", "suitcase", "sofa", "book",
)  # fmt: skip

# Linear-ish display RGB in 0..1. Chosen far apart so that light and grading never turn one name into another.
COLOUR_RGB: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.07, 0.09),
    "orange": (0.97, 0.39, 0.03),
    "green": (0.10, 0.52, 0.16),
    "blue": (0.09, 0.25, 0.82),
    "purple": (0.43, 0.13, 0.66),
    "pink": (0.96, 0.50, 0.67),
    "teal": (0.03, 0.56, 0.57),
    "gold": (0.86, 0.63, 0.20),
    "brown": (0.40, 0.22, 0.12),
    "silver": (0.54, 0.56, 0.60),
    "black": (0.085, 0.085, 0.095),
    "white": (0.94, 0.93, 0.91),
}
COLOURS: tuple[str, ...] = tuple(COLOUR_RGB)
ACCENT_RGB: dict[str, tuple[float, float, float]] = {"gold": (0.88, 0.66, 0.22), "silver": (0.74, 0.76, 0.79)}
ACCENTS: tuple[str, ...] = tuple(ACCENT_RGB)
MATERIALS: tuple[str, ...] = ("leather", "metal", "glass", "wood", "fabric")
SETTINGS: tuple[str, ...] = ("marble", "wood", "beach", "studio", "velvet", "night", "garden", "snow")
STYLES: tuple[str, ...] = (
    "luxury", "casual", "minimalist", "bold", "elegant", "modern", "vintage", "professional",
)  # fmt: skip

# What a product is usually made of, commonest first; any other material is drawn now and then.
USUAL_MATERIALS: dict[str, tuple[str, ...]] = {
    "handbag": ("leather", "leather", "fabric"),
    "watch": ("metal", "leather"),
    "ring": ("metal", "metal", "wood", "glass"),
    "shoe": ("leather", "fabric"),
    "bottle": ("glass", "glass", "metal"),
    "vase": ("glass", "metal", "wood"),
    "chair": ("wood", "metal", "leather", "fabric"),
    "lamp": ("metal", "fabric", "glass", "wood"),
    "mug": ("metal", "glass", "wood"),
    "teapot": ("metal", "glass"),
    "candle": ("glass", "metal"),
    "hat": ("fabric", "leather"),
    "sunglasses": ("metal", "wood", "glass"),
    "headphones": ("metal", "leather", "wood"),
    "backpack": ("fabric", "leather"),
    "suitcase": ("metal", "leather", "fabric"),
    "sofa": ("leather", "fabric"),
    "book": ("leather", "fabric"),
}

# Products with metal parts (clasps, caps, rims, bezels) that can be gold or silver.
HARDWARE: frozenset[str] = frozenset(
    {"handbag", "watch", "ring", "bottle", "lamp", "chair", "sunglasses", "headphones", "backpack", "suitcase",
     "book", "vase", "candle", "teapot", "shoe", "sofa", "hat", "mug"}
)  # fmt: skip

# Wide or small products are drawn smaller or larger than their frame so that all fill the picture alike.
FIT: dict[str, float] = {
    "shoe": 0.84,
    "sofa": 0.84,
    "hat": 0.82,
    "sunglasses": 0.82,
    "teapot": 0.94,
    "mug": 1.08,
    "candle": 1.04,
}
