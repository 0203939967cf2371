"""The table of quality × aspect, and the size at which a model composes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier_server.pipeline.sizes import BASES, RATIOS, NativeSize, composed_size, delivered_size
from atelier_server.types import AspectRatio, Dimensions, GenerateRequest, Quality

SMALL = NativeSize(128, 128, 192, 16)
FULL = NativeSize(1024, 1024, 1536, 32)


@pytest.mark.parametrize(("quality", "aspect"), list(itertools.product(Quality, AspectRatio)))
def test_the_eighteen_pairs_are_near_their_ratio_and_area(quality: Quality, aspect: AspectRatio) -> None:
    size = delivered_size(GenerateRequest("x", quality=quality, aspect_ratio=aspect))
    across, down = RATIOS[aspect]
    assert size.width % 32 == 0
    assert size.height % 32 == 0
    assert abs(size.width / size.height / (across / down) - 1) <= 0.03
    assert abs(size.width * size.height / BASES[quality] ** 2 - 1) <= 0.08


def test_the_callers_size_wins() -> None:
    request = GenerateRequest("x", quality=Quality.ULTRA_HD, width=96, height=64)
    assert delivered_size(request) == Dimensions(96, 64)


def test_a_model_composes_directly_what_it_can() -> None:
    assert composed_size(Dimensions(1376, 768), FULL) == Dimensions(1376, 768)
    assert composed_size(Dimensions(96, 64), SMALL) == Dimensions(96, 64)


def test_a_larger_picture_is_composed_at_the_native_area() -> None:
    assert composed_size(Dimensions(2048, 2048), FULL) == Dimensions(1024, 1024)
    assert composed_size(Dimensions(1024, 1024), SMALL) == Dimensions(128, 128)
    assert composed_size(Dimensions(192, 192), SMALL) == Dimensions(128, 128)
    assert composed_size(Dimensions(1536, 1536), FULL) == Dimensions(1024, 1024)
    assert composed_size(Dimensions(1568, 672), SMALL) == Dimensions(192, 80)


@given(st.integers(2, 128), st.integers(2, 128))
def test_any_shape_composes_within_the_models_means(across: int, down: int) -> None:
    size = composed_size(Dimensions(across * 32, down * 32), SMALL)
    assert size.width % 16 == 0
    assert size.height % 16 == 0
    assert max(size.width, size.height) <= SMALL.max_side
    assert size.width * size.height <= max(1.6 * 128 * 128, 192 * 192)
