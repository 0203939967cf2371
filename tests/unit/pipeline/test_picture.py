"""Resampling covers and crops; equal pixels are equal files."""

import io

import numpy as np
import pytest
from PIL import Image

from atelier_server.pipeline.picture import encode, encode_preview, resample
from atelier_server.types import Dimensions, ImageFormat, PreviewOptions


def disc(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    inside = (x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2 < (min(width, height) / 3) ** 2
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("size", [Dimensions(256, 256), Dimensions(256, 128), Dimensions(96, 224), Dimensions(64, 64)])
def test_a_circle_stays_a_circle(size: Dimensions) -> None:
    image = np.asarray(resample(disc(128, 128), size))[..., 0] > 127
    assert image.shape == (size.height, size.width)
    widths = image.any(axis=0).sum() if size.width <= size.height else image.any(axis=1).sum()
    scale = max(size.width, size.height) / 128
    expected = min(2 * 128 / 3 * scale, min(size.width, size.height))
    assert abs(widths - expected) <= 3


def test_the_native_size_passes_untouched() -> None:
    pixels = disc(96, 64)
    assert np.array_equal(np.asarray(resample(pixels, Dimensions(96, 64))), pixels)


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_equal_pixels_are_equal_files(image_format: ImageFormat) -> None:
    image = Image.fromarray(disc(96, 64))
    first, second = encode(image, image_format, 92), encode(image.copy(), image_format, 92)
    assert first == second
    assert len(first.sha256) == 64
    with Image.open(io.BytesIO(first.data)) as decoded:
        assert (decoded.format or "").lower() == image_format.value
        assert decoded.size == (96, 64)


def test_png_is_lossless_and_quality_counts_elsewhere() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    with Image.open(io.BytesIO(encode(image, ImageFormat.PNG, 1).data)) as decoded:
        assert np.array_equal(np.asarray(decoded), noise)
    for image_format in (ImageFormat.JPEG, ImageFormat.WEBP):
        assert len(encode(image, image_format, 30).data) < len(encode(image, image_format, 95).data)


def test_a_preview_is_no_larger_than_the_picture() -> None:
    pixels = disc(32, 16)
    large = encode_preview(pixels, PreviewOptions(1, 1024), Dimensions(256, 128))
    small = encode_preview(pixels, PreviewOptions(1, 64, ImageFormat.PNG), Dimensions(256, 128))
    assert (large.dimensions, large.media_type) == (Dimensions(256, 128), "image/jpeg")
    assert (small.dimensions, small.media_type) == (Dimensions(64, 32), "image/png")
