"""Which size a picture gets, and at which size the model composes it.

The delivered size follows quality × aspect ratio, or the caller's width and height. A model composes it directly when
it can; otherwise at its native area in the same shape, and the picture is refined or resampled to the asked size.
"""

import math
from dataclasses import dataclass

from atelier_server.types import AspectRatio, Dimensions, GenerateRequest, Quality

BASES = {Quality.STANDARD: 512, Quality.HD: 1024, Quality.ULTRA_HD: 2048}
"""Side of the square of equal area, in pixels."""

RATIOS = {
    AspectRatio.SQUARE: (1, 1),
    AspectRatio.LANDSCAPE: (16, 9),
    AspectRatio.PORTRAIT: (4, 5),
    AspectRatio.ULTRA_WIDE: (21, 9),
    AspectRatio.INSTAGRAM: (4, 5),
    AspectRatio.TWITTER: (16, 9),
}


AREA_SLACK = 1.15
"""A model composes up to this many times its native area at once."""


@dataclass(frozen=True, slots=True)
class NativeSize:
    """What a model says of its sizes, in pixels: the size it was trained at, its longest side, the sides' divisor."""

    width: int
    height: int
    max_side: int
    multiple: int


def delivered_size(request: GenerateRequest) -> Dimensions:
    """The size of the pictures that leave."""
    if request.width is not None and request.height is not None:
        return Dimensions(request.width, request.height)
    across, down = RATIOS[request.aspect_ratio]
    return nearest_size(across / down, BASES[request.quality] ** 2, 32)


def composed_size(delivered: Dimensions, native: NativeSize) -> Dimensions:
    """The size at which the model composes a picture of the delivered shape."""
    if _composes(delivered, native):
        return delivered
    area = min(native.width * native.height, delivered.width * delivered.height)
    size = nearest_size(delivered.width / delivered.height, area, native.multiple)
    longest = native.max_side // native.multiple * native.multiple  # a very long shape is cropped from a shorter one
    return Dimensions(min(size.width, longest), min(size.height, longest))


def nearest_size(ratio: float, area: int, multiple: int) -> Dimensions:
    """The sides, multiples of `multiple`, that are nearest to the ratio and the area (sum of relative errors)."""
    ideal = math.sqrt(area * ratio) / multiple
    best: tuple[float, Dimensions] | None = None
    for across in range(max(1, math.floor(ideal) - 2), math.ceil(ideal) + 3):
        for down in {max(1, math.floor(across / ratio)), max(1, math.ceil(across / ratio))}:
            error = abs(math.log(across / down / ratio)) + abs(math.log(across * down * multiple**2 / area))
            size = Dimensions(across * multiple, down * multiple)
            if best is None or error < best[0]:
                best = (error, size)
    assert best is not None
    return best[1]


def _composes(size: Dimensions, native: NativeSize) -> bool:
    """Whether the model can compose this size itself: what is much larger than its pictures in training falls apart."""
    fits = size.width % native.multiple == 0 and size.height % native.multiple == 0
    small = size.width * size.height <= AREA_SLACK * native.width * native.height
    return fits and small and max(size.width, size.height) <= native.max_side
