"""An EXACT picture equals the one that diffusers' StableDiffusionXLPipeline makes from the same seed."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from atelier_server.backends.base import Backend, Pixels
from tests.parity.sdxl_kit import run, task

# diffusers 0.42 calls np.array(tensor), about which numpy 2 warns.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NEGATIVES = {"none": None, "empty": "", "words": "blurry, low quality"}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def reference(pipeline: Any, schedule: str, **options: Any) -> Pixels:
    """The pipeline's picture, uint8."""
    own = pipeline.scheduler
    kind, changes = CLASSES[schedule]
    pipeline.scheduler = getattr(diffusers, kind).from_config(own.config, **changes)
    try:
        generator = torch.Generator("cpu").manual_seed(options.pop("seed"))
        return np.asarray(pipeline(generator=generator, **options).images[0])
    finally:
        pipeline.scheduler = own


def largest_difference(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def check(backend: Backend, pipeline: Any, schedule: str, **options: Any) -> None:
    values: dict[str, Any] = {
        "prompt": "an elegant blue vase on a wooden table",
        "negative_prompt": None,
        "guidance_scale": 7.5,
        "num_inference_steps": 6,
        "width": 128,
        "height": 128,
        "seed": 1,
    }
    values.update(options)
    expected = reference(pipeline, schedule, **values)
    assert expected.std() > 5, "the reference is flat and would hide differences"
    seed = values.pop("seed")
    [made] = run(backend, task(seeds=(seed,), noise_schedule=schedule, exact=True, **values))
    assert largest_difference(made, expected) <= 1


@pytest.mark.parametrize("schedule", ["euler", "dpmpp_2m_karras", "euler_ancestral"])
@pytest.mark.parametrize("seed", [0, 1, 42, 1234567, 2**64 - 1])
def test_five_seeds_and_three_schedules(backend: Backend, pipeline: Any, schedule: str, seed: int) -> None:
    check(backend, pipeline, schedule, seed=seed)


@pytest.mark.parametrize("schedule", ["ddim", "dpmpp_2m", "unipc", "lcm"])
def test_the_other_schedules(backend: Backend, pipeline: Any, schedule: str) -> None:
    check(backend, pipeline, schedule, num_inference_steps=4, width=64, height=96)


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("negative", NEGATIVES)
def test_negative_prompts_and_guidance(backend: Backend, pipeline: Any, negative: str, guidance_scale: float) -> None:
    check(
        backend,
        pipeline,
        "euler",
        negative_prompt=NEGATIVES[negative],
        guidance_scale=guidance_scale,
        num_inference_steps=4,
    )


def test_no_negative_prompt_differs_from_an_empty_one(backend: Backend) -> None:
    [zeros] = run(backend, task(negative_prompt=None))
    [empty] = run(backend, task(negative_prompt=""))
    assert largest_difference(zeros, empty) > 1


def test_a_prompt_over_77_tokens(backend: Backend, pipeline: Any) -> None:
    check(backend, pipeline, "euler", prompt="a red bag and a blue vase " * 30, num_inference_steps=3)


def test_a_second_picture_has_the_next_seed(backend: Backend, pipeline: Any) -> None:
    both = run(backend, task(prompt="a hat", seeds=(5, 6), exact=True, num_inference_steps=4))
    for seed, made in zip((5, 6), both, strict=True):
        expected = reference(
            pipeline,
            "euler",
            prompt="a hat",
            seed=seed,
            num_inference_steps=4,
            guidance_scale=7.5,
            width=128,
            height=128,
        )
        assert largest_difference(made, expected) <= 1
