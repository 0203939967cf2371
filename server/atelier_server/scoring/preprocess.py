"""Pictures to the pixel values of a CLIP or a brand embedder.

The short side is resized to the model's size (bicubic) and squares are cut out: one from the middle of a nearly square
picture, else one from each end as well, or a scorer would never see the sides.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CROPS_VERSION = "1"
"""Belongs to the digest of stored embeddings: change it whenever what this module computes changes."""

SQUARE_ENOUGH = 1.15
"""Up to this ratio of the sides the middle square shows enough."""


class PixelFormat(Protocol):
    """What a model wants pictures to be: squares of `image_size` pixels a side, channels by `mean` and `std`."""

    @property
    def image_size(self) -> int: ...

    @property
    def mean(self) -> tuple[float, float, float]: ...

    @property
    def std(self) -> tuple[float, float, float]: ...


def pixel_values(image: Image.Image, wanted: PixelFormat) -> NDArray[np.float32]:
    """Returns float32 [crops, 3, image_size, image_size], normalised by the format's mean and std."""
    side = wanted.image_size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    coloured = image if image.mode == "RGB" else image.convert("RGB")
    resized = coloured.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized, np.float32) / 255.0
    mean, std = np.array(wanted.mean, np.float32), np.array(wanted.std, np.float32)
    normalised = (pixels - mean) / std
    crops = [normalised[top : top + side, left : left + side] for left, top in _corners(width, height, side)]
    return np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2), np.float32)


def _corners(width: int, height: int, side: int) -> list[tuple[int, int]]:
    middle = ((width - side) // 2, (height - side) // 2)
    if max(width, height) <= SQUARE_ENOUGH * side:
        return [middle]
    return [(0, 0), middle, (width - side, height - side)]
