"""Sizes, qualities, styles and prices by family of models."""

import pytest

from atelier_server.backends.base import DiffusionTask
from atelier_server.backends.openai.dialect import MAX_AREA, MAX_SIDE, MIN_AREA, dialect_of
from atelier_server.backends.openai.parameters import Parameters
from atelier_server.pipeline.sizes import delivered_size
from atelier_server.types import AspectRatio, GenerateRequest, Quality

FREE = dialect_of("gpt-image-2.6-flare")
EVERY_SIZE = [delivered_size(GenerateRequest("x", aspect_ratio=a, quality=q)) for a in AspectRatio for q in Quality]


@pytest.mark.parametrize("wanted", EVERY_SIZE, ids=str)
def test_every_size_of_ours_becomes_one_that_is_accepted(wanted: object) -> None:
    width, height = FREE.size(wanted.width, wanted.height)  # type: ignore[attr-defined]
    assert width % 16 == 0
    assert height % 16 == 0
    assert max(width, height) <= MAX_SIDE
    assert max(width, height) <= 3 * min(width, height)
    assert MIN_AREA <= width * height <= MAX_AREA
    assert width / height == pytest.approx(wanted.width / wanted.height, rel=0.03)  # type: ignore[attr-defined]


def test_an_accepted_size_stays() -> None:
    assert FREE.size(1536, 864) == (1536, 864)
    assert FREE.size(3840, 2160) == (3840, 2160)


@pytest.mark.parametrize("extreme", [(4096, 64), (64, 4096), (64, 64), (4096, 1120)])
def test_extreme_shapes_come_as_near_as_they_may(extreme: tuple[int, int]) -> None:
    width, height = FREE.size(*extreme)
    assert max(width, height) <= 3 * min(width, height)
    assert MIN_AREA <= width * height <= MAX_AREA


@pytest.mark.parametrize(
    ("model", "asked", "size"),
    [
        ("dall-e-3", (1024, 1024), (1024, 1024)),
        ("dall-e-3", (1376, 768), (1792, 1024)),
        ("dall-e-3", (1536, 640), (1792, 1024)),
        ("dall-e-3", (928, 1152), (1024, 1024)),
        ("dall-e-3", (512, 1024), (1024, 1792)),
        ("gpt-image-1-mini", (1376, 768), (1536, 1024)),
        ("gpt-image-1.5", (640, 1024), (1024, 1536)),
    ],
)
def test_families_with_fixed_sizes_get_the_nearest_shape(
    model: str, asked: tuple[int, int], size: tuple[int, int]
) -> None:
    assert dialect_of(model).size(*asked) == size


def arguments(model: str, partial_images: int = 0, **changes: object) -> dict[str, object]:
    task = DiffusionTask("job", "p" * 5000, None, (1,), 1024, 1024, 1, 0.0, **changes)  # type: ignore[arg-type]
    return dialect_of(model).arguments(task, Parameters(upstream_model=model), partial_images)


def test_qualities_are_translated() -> None:
    words = {quality: arguments("gpt-image-2", quality=quality.value)["quality"] for quality in Quality}
    assert words == {Quality.STANDARD: "low", Quality.HD: "medium", Quality.ULTRA_HD: "high"}
    words = {quality: arguments("dall-e-3", quality=quality.value)["quality"] for quality in Quality}
    assert words == {Quality.STANDARD: "standard", Quality.HD: "hd", Quality.ULTRA_HD: "hd"}
    assert arguments("gpt-image-2")["quality"] == "medium"


def test_each_family_gets_only_what_it_knows() -> None:
    new, old = arguments("gpt-image-2", 2, style="bold"), arguments("dall-e-3", 0, style="bold")
    assert (new["stream"], new["partial_images"]) == (True, 2)
    assert not {"style", "response_format"} & new.keys()
    assert old["style"] == "vivid"
    assert not {"stream", "partial_images", "output_format", "moderation", "background"} & old.keys()
    assert len(str(old["prompt"])) == 4000
    assert len(str(new["prompt"])) == 5000
    assert "stream" not in arguments("gpt-image-2")


def test_prices_follow_the_published_calculator() -> None:
    """7,024 tokens for 1024x1024 at high quality, and 5,488 for 1536x1024: OpenAI's figures for gpt-image-2."""
    prices = Parameters(input_price_usd=0.0, output_price_usd=1e6)
    assert FREE.cost(1024, 1024, "ultra_hd", 0, prices) == 7024
    assert FREE.cost(1536, 1024, "ultra_hd", 0, prices) == 5488
    assert FREE.cost(1024, 1024, "hd", 40, Parameters()) == pytest.approx((10 * 5 + 1756 * 30) / 1e6)
    assert FREE.cost(1024, 1024, "hd", 40, Parameters(price_per_image_usd=0.02)) == 0.02
    dall_e = dialect_of("dall-e-3")
    assert [dall_e.cost(*size, "standard", 0, Parameters()) for size in ((1024, 1024), (1792, 1024))] == [0.04, 0.08]
    assert [dall_e.cost(*size, "hd", 0, Parameters()) for size in ((1024, 1024), (1792, 1024))] == [0.08, 0.12]
