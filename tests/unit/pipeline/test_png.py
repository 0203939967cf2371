"""PNG files hold exactly the pixels, whatever the filter, and are about as small as Pillow's."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atelier_server.pipeline.png import encode_png


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == "RGB"
        return np.asarray(image)


def slope(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    grain = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    smooth = np.stack([x / 4 + 20 * np.sin(y / 50), y / 4, (x + y) / 8], axis=-1)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


@given(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), spread=st.integers(1, 256))
def test_any_pixels_come_back(width: int, height: int, seed: int, spread: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, spread, (height, width, 3), np.uint8)
    assert np.array_equal(decoded(encode_png(pixels)), pixels)


@pytest.mark.parametrize(
    ("pixels", "filter_number"),
    [
        (np.repeat(np.random.default_rng(1).integers(0, 256, (1, 90, 3), np.uint8), 80, axis=0), 2),
        (np.repeat(np.random.default_rng(1).integers(0, 256, (80, 1, 3), np.uint8), 90, axis=1), 1),
        (slope(256, 256), 3),
    ],
    ids=["columns", "lines", "slope"],
)
def test_the_filter_suits_the_picture(pixels: np.ndarray, filter_number: int) -> None:
    data = encode_png(pixels)
    assert np.array_equal(decoded(data), pixels)
    (length,) = struct.unpack(">I", data[33:37])
    assert zlib.decompress(data[41 : 41 + length])[0] == filter_number


def test_a_view_of_a_larger_picture_is_encoded_as_it_looks() -> None:
    pixels = slope(64, 64)[::2, 10:40, ::-1]
    assert np.array_equal(decoded(encode_png(pixels)), pixels)


def test_files_are_about_as_small_as_pillows() -> None:
    pixels = slope(512, 512)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert len(encode_png(pixels)) <= 1.2 * len(buffer.getvalue())
