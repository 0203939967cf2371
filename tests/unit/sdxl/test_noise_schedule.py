"""Noise schedules: diffusers' classes by our names, one object a picture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier_server.backends.sdxl.noise_schedule import Denoiser, NoiseSchedules
from atelier_server.errors import InvalidArgument, Unavailable
from atelier_server.types import NoiseSchedule


@pytest.fixture
def config(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / "scheduler/scheduler_config.json").read_text())
    return values


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(3)


def drive(denoiser: Denoiser) -> torch.Tensor:
    """Runs a schedule with a predictable model."""
    latents = denoiser.initial(torch.randn(1, 4, 8, 8, generator=generator()))
    while denoiser.steps_left:
        assert 0 <= denoiser.timestep < 1000
        latents, foreseen = denoiser.advance(denoiser.scaled(latents) * 0.1, latents)
        assert foreseen.shape == latents.shape
    return latents


@pytest.mark.parametrize("name", list(NoiseSchedule))
def test_two_pictures_of_one_schedule_do_not_disturb_each_other(config: dict[str, Any], name: str) -> None:
    schedules = NoiseSchedules(config)
    alone = drive(schedules.denoiser(name, 6, generator()))
    first, second = (schedules.denoiser(name, 6, generator()) for _ in range(2))
    latents = first.initial(torch.randn(1, 4, 8, 8, generator=generator()))
    other = second.initial(torch.randn(1, 4, 8, 8, generator=generator()))
    other, _ = second.advance(second.scaled(other) * 0.1, other)
    while first.steps_left:
        latents, _ = first.advance(first.scaled(latents) * 0.1, latents)
        if second.steps_left:
            other, _ = second.advance(second.scaled(other) * 0.1, other)
    assert torch.equal(latents, other)
    assert latents.shape == alone.shape
    assert latents.isfinite().all()


@pytest.mark.parametrize("steps", [1, 2, 61, 103, 150])
def test_every_count_of_steps_is_kept(config: dict[str, Any], steps: int) -> None:
    schedules = NoiseSchedules({**config, "timestep_spacing": "trailing"})
    for name in ("euler", "euler_ancestral", "ddim", "dpmpp_2m", "unipc"):
        denoiser = schedules.denoiser(name, steps, generator())
        assert denoiser.steps_left == steps
        drive(denoiser)


def test_strength_does_the_last_steps(config: dict[str, Any]) -> None:
    whole = NoiseSchedules(config).denoiser("euler", 10, generator())
    part = NoiseSchedules(config).denoiser("euler", 10, generator(), strength=0.3)
    assert part.steps_left == 3
    assert part.timesteps[-3:] == whole.timesteps[-3:]
    assert part.timestep == float(whole.timesteps[-3])
    noisy = part.renoise(torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8))
    assert 0 < noisy.mean() < whole.initial(torch.ones(1)).item()


def test_names(config: dict[str, Any]) -> None:
    assert NoiseSchedules(config).name("") == "euler"
    assert NoiseSchedules(config).name("ddim") == "ddim"
    assert NoiseSchedules(config, default="unipc").name("") == "unipc"
    karras = {**config, "_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}
    assert NoiseSchedules(karras).name("") == "dpmpp_2m_karras"
    own = NoiseSchedules({**config, "_class_name": "DDPMScheduler"})
    assert own.name("") == "DDPMScheduler"
    drive(own.denoiser("DDPMScheduler", 4, generator()))


def test_what_cannot_be_done_is_refused(config: dict[str, Any]) -> None:
    schedules = NoiseSchedules(config)
    with pytest.raises(InvalidArgument) as caught:
        schedules.check("lcm", 51)
    assert caught.value.field == "num_inference_steps"
    schedules.check("lcm", 50)
    with pytest.raises(InvalidArgument) as caught:
        schedules.check("karras", 10)
    assert caught.value.field == "noise_schedule"
    with pytest.raises(InvalidArgument, match="2 model calls"):
        NoiseSchedules({**config, "_class_name": "HeunDiscreteScheduler"}).check("HeunDiscreteScheduler", 5)
    with pytest.raises(Unavailable, match="NoSuchScheduler"):
        NoiseSchedules({**config, "_class_name": "NoSuchScheduler"})


def test_templates_are_bounded(config: dict[str, Any]) -> None:
    schedules = NoiseSchedules(config)
    for steps in range(1, 100):
        schedules.check("euler", steps)
    assert len(schedules._templates) <= 64
