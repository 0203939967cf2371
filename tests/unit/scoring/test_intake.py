"""Pictures from strangers: every kind comes out as upright 8-bit RGB, and what is no picture is refused by name."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier_server.errors import InvalidArgument
from atelier_server.scoring.intake import MAX_BYTES, check_file, decode


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corner(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(int(value) for value in np.asarray(image)[0, 0])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats(kind: str) -> None:
    image = decode(encoded(Image.new("RGB", (20, 10), (200, 100, 50)), kind), "image")
    assert image.size == (20, 10)
    assert np.allclose(corner(image), (200, 100, 50), atol=3)


def test_exif_turns_the_picture_upright() -> None:
    picture = Image.new("RGB", (30, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    assert decode(encoded(picture, "JPEG", exif=exif), "image").size == (10, 30)


def test_transparent_pixels_are_on_white() -> None:
    for picture in (
        Image.new("RGBA", (4, 4), (200, 0, 0, 0)),
        Image.new("LA", (4, 4), (0, 0)),
        Image.new("RGBA", (4, 4), (200, 0, 0, 0)).quantize(),
    ):
        assert corner(decode(encoded(picture), "image")) == (255, 255, 255)
    half = corner(decode(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))), "image"))
    assert np.allclose(half, 127, atol=1)
    keyed = encoded(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9))
    assert corner(decode(keyed, "image")) == (255, 255, 255)


def test_cmyk_is_converted() -> None:
    image = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "image")
    red, green, blue = corner(image)
    assert red > 200
    assert max(green, blue) < 60


def test_16_bits_keep_their_brightness() -> None:
    for value, expected in ((0, 0), (32768, 128), (65535, 255)):
        samples = np.full((4, 4), value, np.uint16)
        assert corner(decode(encoded(Image.fromarray(samples)), "image")) == (expected,) * 3


def test_16_bits_in_three_channels() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 65535, 32768, 0) * 2 for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.allclose(corner(decode(data, "image")), (255, 128, 0), atol=1)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_grey_and_palette_pictures() -> None:
    for mode in ("1", "L", "P"):
        assert decode(encoded(Image.new("RGB", (4, 4), "white").convert(mode)), "image").mode == "RGB"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """The header claims 30,000 by 30,000; there are no pixels behind it."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InvalidArgument) as caught:
        decode(bomb, "images[3]")
    assert (caught.value.field, caught.value.reason) == ("images[3]", "TOO_MANY_PIXELS")


def test_the_limit_of_pixels_is_kept_to_the_pixel() -> None:
    for width, fits in ((5000, True), (5001, False)):
        data = encoded(Image.new("1", (width, 8000)))
        if fits:
            assert decode(data, "image").size == (5000, 8000)
            continue
        with pytest.raises(InvalidArgument) as caught:
            decode(data, "image")
        assert caught.value.reason == "TOO_MANY_PIXELS"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "INVALID_ARGUMENT"),
        (b"GIF89a", "PICTURE_FORMAT"),
        (b"RIFF\0\0\0\0WAVE", "PICTURE_FORMAT"),
        (b"<svg/>", "PICTURE_FORMAT"),
        (b"\xff\xd8\xff", "PICTURE_DAMAGED"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "PICTURE_DAMAGED"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * MAX_BYTES, "PICTURE_TOO_LARGE"),
    ],
)
def test_what_is_no_picture(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(data, "images[2]")
    assert (caught.value.field, caught.value.reason) == ("images[2]", reason)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_cut_of_a_file_is_refused_or_whole(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    for end in range(12, len(whole) // 2, 7):
        with pytest.raises(InvalidArgument):
            decode(whole[:end], "image")


def test_a_file_of_the_largest_size_is_taken() -> None:
    assert check_file(b"\x89PNG\r\n\x1a\n".ljust(MAX_BYTES, b"\0"), "image") == "PNG"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    with pytest.raises(InvalidArgument) as caught:
        decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "image")
    assert caught.value.reason == "PICTURE_ANIMATED"
