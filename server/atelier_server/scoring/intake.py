"""Pictures from strangers: what they are is checked before anything is decoded, and they come out as plain RGB."""

import io
import logging
import warnings

import numpy as np
from PIL import Image, ImageOps

from atelier_server.errors import AtelierError, InvalidArgument

MAX_BYTES = 25_000_000
MAX_PIXELS = 40_000_000

_KINDS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
_SAMPLES_16_BIT = ("I;16", "I;16B", "I;16L", "I")

# Pillow's guard against small files of huge pictures only warns between its limit and twice that; here it refuses.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)

logger = logging.getLogger(__name__)


def check_file(data: bytes, field: str) -> str:
    """Looks at a file's size and first bytes.

    Args:
        data: The file.
        field: The request's field that holds it, for errors.

    Returns:
        PNG, JPEG or WEBP.

    Raises:
        InvalidArgument: It is empty, too large or something else.
    """
    if not data:
        raise InvalidArgument(f"{field} is empty; send the bytes of a PNG, JPEG or WebP file", field=field)
    if len(data) > MAX_BYTES:
        raise InvalidArgument(
            f"{field} has {len(data) / 1e6:.1f} MB; at most {MAX_BYTES // 1_000_000} MB are taken",
            field=field,
            reason="PICTURE_TOO_LARGE",
        )
    for kind, magic in _KINDS.items():
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise InvalidArgument(f"{field} is no PNG, JPEG or WebP file", field=field, reason="PICTURE_FORMAT")


def decode(data: bytes, field: str) -> Image.Image:
    """Decodes a picture to RGB: upright by its EXIF orientation, on white where it is transparent, 8 bits a sample.

    Raises:
        InvalidArgument: It is no picture that is taken; the message says why.
    """
    kind = check_file(data, field)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as opened:
            _check_header(opened, kind, field)
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            return _plain(opened)
    except AtelierError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(field) from None
    except Exception as error:  # decoders raise many classes for files that are damaged, or made to do damage
        logger.info("%s cannot be decoded: %s: %s", field, type(error).__name__, error)
        raise InvalidArgument(
            f"{field} begins like a {kind} file but is damaged or cut short", field=field, reason="PICTURE_DAMAGED"
        ) from error


def _check_header(image: Image.Image, kind: str, field: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(field)
    # Cameras add a second JPEG, such as a depth map, to the first; that is no animation.
    if kind != "JPEG" and getattr(image, "is_animated", False):
        raise InvalidArgument(
            f"{field} is animated; send one frame as a picture", field=field, reason="PICTURE_ANIMATED"
        )


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image  # convert would copy it
    if image.mode in _SAMPLES_16_BIT:
        samples = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(samples / 257.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        white = Image.new("RGBA", upper.size, "white")
        return Image.alpha_composite(white, upper).convert("RGB")
    return image.convert("RGB")


def _too_many_pixels(field: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field} has more than {MAX_PIXELS // 1_000_000} megapixels", field=field, reason="TOO_MANY_PIXELS"
    )
