"""From what a service sent to pixels. Nothing of it is trusted: neither its base64, nor its format, nor its size."""

import base64
import binascii
import io

import numpy as np
from PIL import Image

from atelier_server.backends.base import Pixels
from atelier_server.errors import Unavailable

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 4096 * 4096
PREVIEW_SIDE = 1024
"""Previews are never asked for larger."""


def from_base64(text: str) -> bytes:
    """The file in a b64_json field.

    Raises:
        Unavailable: It is cut or damaged.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise damaged() from None


def decoded(data: bytes) -> Pixels:
    """Decodes a picture's file: uint8 [height, width, 3], transparency on white.

    Raises:
        Unavailable: It is no picture of a known format, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise damaged()
            file.load()
            image: Image.Image = file
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise damaged() from None


def preview_pixels(text: str, width: int, height: int) -> Pixels:
    """A small unfinished picture in the shape of width × height: the middle of what the service sent in base64.

    Raises:
        Unavailable: As for `from_base64` and `decoded`.
    """
    image = Image.fromarray(decoded(from_base64(text)))
    scale = max(width / image.width, height / image.height)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    shrink = min(1.0, PREVIEW_SIDE / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    box = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))


def damaged() -> Unavailable:
    """What callers hear of a picture that cannot be used."""
    return Unavailable(
        "the image service sent a picture that cannot be read; it is not asked again, since it bills every picture",
        reason="UPSTREAM_DAMAGED",
    )
