"""Every bad value is refused by name; every edge of a range passes."""

import math
from dataclasses import replace

import pytest

from atelier_server.errors import InvalidArgument
from atelier_server.pipeline.validate import clean_text, validated
from atelier_server.types import GenerateRequest, GuidanceInterval, NoiseSchedule, PreviewOptions

GOOD = GenerateRequest("a red handbag")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("prompt", {"prompt": ""}),
        ("prompt", {"prompt": " \t\n"}),
        ("prompt", {"prompt": "\x00\x01\u202e"}),
        ("prompt", {"prompt": "x" * 4001}),
        ("negative_prompt", {"negative_prompt": "x" * 4001}),
        ("num_images", {"num_images": 0}),
        ("num_images", {"num_images": 11}),
        ("num_inference_steps", {"num_inference_steps": 0}),
        ("num_inference_steps", {"num_inference_steps": 151}),
        ("num_inference_steps", {"num_inference_steps": 51, "noise_schedule": NoiseSchedule.LCM}),
        ("guidance_scale", {"guidance_scale": -1.0}),
        ("guidance_scale", {"guidance_scale": math.nan}),
        ("guidance_scale", {"guidance_scale": math.inf}),
        ("guidance_scale", {"guidance_scale": 30.5}),
        ("aesthetic_threshold", {"aesthetic_threshold": 10.5}),
        ("brand_threshold", {"brand_threshold": math.nan}),
        ("max_attempts", {"max_attempts": 11}),
        ("output_quality", {"output_quality": 0}),
        ("step_caching", {"step_caching": 0}),
        ("step_caching", {"step_caching": 1}),
        ("step_caching", {"step_caching": 11}),
        ("guidance_interval.start", {"guidance_interval": GuidanceInterval(-0.1, 0.5)}),
        ("guidance_interval.start", {"guidance_interval": GuidanceInterval(math.nan, 0.5)}),
        ("guidance_interval.end", {"guidance_interval": GuidanceInterval(0.1, 1.5)}),
        ("guidance_interval.end", {"guidance_interval": GuidanceInterval(0.5, 0.5)}),
        ("guidance_interval.end", {"guidance_interval": GuidanceInterval(0.8, 0.2)}),
        ("preview.max_side", {"preview": PreviewOptions(1, 8)}),
        ("preview.every_n_steps", {"preview": PreviewOptions(2**32)}),
        ("preview.every_n_steps", {"preview": PreviewOptions(-1)}),
        ("width", {"width": 1000, "height": 1000}),
        ("width", {"width": 8192, "height": 8192}),
        ("height", {"width": 512}),
        ("width", {"height": 512}),
        ("width", {"width": 4096, "height": 4096}),
        ("seed", {"seed": 2**64}),
        ("metadata", {"metadata": {"k": "v" * 100_000}}),
        ("request_id", {"request_id": "with space"}),
        ("request_id", {"request_id": "x" * 129}),
    ],
)
def test_a_bad_value_is_refused_by_its_field(field: str, change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validated(replace(GOOD, **change))  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "x" * 4000},
        {"num_images": 10},
        {"num_inference_steps": 150},
        {"num_inference_steps": 50, "noise_schedule": NoiseSchedule.LCM},
        {"guidance_scale": 0.0},
        {"guidance_scale": 30.0},
        {"guidance_interval": GuidanceInterval(0.0, 1.0), "step_caching": 2},
        {"guidance_interval": GuidanceInterval(0.0, 0.1), "step_caching": 10},
        {"width": 64, "height": 4096},
        {"width": 2048, "height": 2048},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"metadata": {"k" * 384: "v" * 16_000}},
    ],
)
def test_the_edge_of_a_range_passes(change: dict[str, object]) -> None:
    request = replace(GOOD, **change)  # type: ignore[arg-type]
    assert validated(request) == request


def test_texts_are_cleaned() -> None:
    assert clean_text("a\x00red\n\tbag \ud800\u202ex") == "a red bag x"
    request = validated(replace(GOOD, prompt="  red\x07bag ", negative_prompt="\x07"))
    assert (request.prompt, request.negative_prompt) == ("red bag", "")
