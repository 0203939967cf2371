"""The whole way through a server, a runner process and the client gives diffusers' picture too."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atelier_client import Atelier, GuidanceInterval
from atelier_server.backends.base import ModelSpec
from atelier_server.executor.base import Executor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.testing import echo_server_in_thread

MODELS = Path(__file__).resolve().parents[2] / "models"
STEPS = 5


def spawned(spec: ModelSpec) -> Executor:
    return SubprocessExecutor(spec, str(spec.config["backend"]))


@pytest.fixture(scope="module")
def atelier(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Atelier]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(checkpoint, folder / "models" / "starter" / "1")
    shutil.copy(MODELS / "starter" / "config.pbtxt", folder / "models" / "starter")
    with (
        echo_server_in_thread(folder, executor_factory=spawned, dtype="float32") as address,
        Atelier(address) as client,
    ):
        yield client


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("seed", "schedule", "negative"), [(7, "euler", None), (8, "ddim", "blurry, dark"), (9, "dpmpp_2m", None)]
)
def test_an_exact_call_equals_the_pipeline(
    atelier: Atelier, pipeline: Any, seed: int, schedule: str, negative: str | None
) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    fields: dict[str, Any] = {} if negative is None else {"negative_prompt": negative}
    result = atelier.generate(
        "a red handbag",
        style="none",
        width=128,
        height=128,
        seed=seed,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        noise_schedule=schedule,
        reproducibility="exact",
        **fields,
    )
    classes = {"euler": EulerDiscreteScheduler, "ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    before = pipeline.scheduler
    try:
        pipeline.scheduler = classes[schedule].from_config(before.config)
        expected = pipeline(
            result.prompt_used,
            negative_prompt=negative,
            width=128,
            height=128,
            num_inference_steps=STEPS,
            guidance_scale=7.5,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
        ).images[0]
    finally:
        pipeline.scheduler = before
    got = np.asarray(result.images[0].to_pil(), np.int16)
    assert np.abs(got - np.rint(expected * 255).astype(np.int16)).max() <= 1
    assert result.reproducibility == "exact"


def test_accelerations_name_themselves_and_are_no_plain_picture_in_the_cache(atelier: Atelier) -> None:
    asked: dict[str, Any] = {"style": "none", "width": 64, "height": 64, "seed": 3, "num_inference_steps": STEPS}
    lossy: dict[str, Any] = {"guidance_interval": GuidanceInterval(end=0.3), "step_caching": 2, **asked}
    plain, fast, again = (atelier.generate("a bag", **fields) for fields in (asked, lossy, lossy))
    assert (plain.accelerations, plain.ignored_fields) == ((), ())
    assert fast.accelerations == again.accelerations == ("guidance_interval",)
    assert fast.ignored_fields == ("step_caching",), "two guided steps, two without, and the last: none to foretell"
    assert (fast.cached, again.cached) == (False, True)
    assert fast.images[0].sha256 == again.images[0].sha256 != plain.images[0].sha256
