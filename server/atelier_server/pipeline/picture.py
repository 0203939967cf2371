"""Work on finished pixels, done in threads (Pillow frees the GIL): resampling to the asked size, encoding to a file."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier_server.backends.base import Pixels
from atelier_server.pipeline.png import encode_png
from atelier_server.types import Dimensions, ImageFormat, Preview, PreviewOptions


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture's file; its bytes depend only on the pixels, the format and the quality."""

    data: bytes
    sha256: str


def resample(pixels: Pixels, size: Dimensions) -> Image.Image:
    """Covers `size` and crops the middle; never stretches. `pixels` is uint8 [height, width, 3]."""
    image = Image.fromarray(pixels)
    if image.size == (size.width, size.height):
        return image
    scale = max(size.width / image.width, size.height / image.height)
    across, down = size.width / scale, size.height / scale
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box)


def encode(image: Image.Image, image_format: ImageFormat, quality: int) -> EncodedPicture:
    """Encodes a picture; `quality` 1 to 100 is ignored by PNG."""
    data = _encoded(image, image_format, quality)
    return EncodedPicture(data, hashlib.sha256(data).hexdigest())


def encode_preview(pixels: Pixels, options: PreviewOptions, shape: Dimensions) -> Preview:
    """Enlarges latent-sized pixels to `max_side`, or the picture's own size if that is smaller, and encodes them."""
    scale = min(1.0, options.max_side / max(shape.width, shape.height))
    size = Dimensions(max(1, round(shape.width * scale)), max(1, round(shape.height * scale)))
    image = Image.fromarray(pixels).resize((size.width, size.height), Image.Resampling.BICUBIC)
    return Preview(_encoded(image, options.format, quality=80), options.format.media_type, size)


def _encoded(image: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    if image_format is ImageFormat.PNG:
        return encode_png(np.asarray(image.convert("RGB")))
    buffer = io.BytesIO()
    if image_format is ImageFormat.JPEG:
        image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    else:
        image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
