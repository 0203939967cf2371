"""Lossy accelerations: what they compute, EXACT alone and under load, their rows, and what they say of themselves."""

from typing import Any

import numpy as np
import pytest
import torch

from atelier_server.backends.base import DiffusionTask, JobQueued, JobStarted, JobStep, Pixels
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.backends.sdxl.foretell import Foretelling
from tests.parity.sdxl_kit import Crowd, pictures, psnr, run, task

SMALL: dict[str, Any] = {"width": 64, "height": 64, "num_inference_steps": 10}
BOTH: dict[str, Any] = {"guidance_end": 0.6, "step_caching": 2, **SMALL}
PLAN = (2, 2, 0, 2, 0, 2, 1, 1, 0, 1)


def by_hand(backend: SdxlBackend, one: DiffusionTask, plan: tuple[int, ...]) -> Pixels:
    """The picture of a plan by the model's parts, one step after another."""
    model = backend._model
    with torch.inference_mode():
        conditioning, _ = model.encode(one)
        picture = model.start(one, 0, model.schedules.name(one.noise_schedule), conditioning)
        latents, foretelling = picture.latents, Foretelling()
        for step, rows in enumerate(plan):
            if rows:
                sample = picture.denoiser.scaled(latents).repeat(rows, 1, 1, 1)
                asked = conditioning if rows == 2 else conditioning.of_rows(1)
                predicted = model.runner.predict(sample, [picture.denoiser.timestep] * rows, [asked], True).float()
                noise_pred = predicted[:1]
                if rows == 2:
                    noise_pred = noise_pred + one.guidance_scale * (predicted[1:] - noise_pred)
                foretelling.learn(step, noise_pred)
            else:
                noise_pred = foretelling.at(step)
            latents, _ = picture.denoiser.advance(noise_pred, latents)
        return model.codec.decode(latents)


@pytest.mark.parametrize("schedule", ["euler_ancestral", "dpmpp_2m"])
def test_a_picture_is_what_its_plan_says(backend: SdxlBackend, schedule: str) -> None:
    one = task(exact=True, noise_schedule=schedule, **BOTH)
    before = dict(backend.status().counters)
    [made] = run(backend, one)
    after = backend.status().counters
    assert (after["steps"] - before["steps"], after["rows"] - before["rows"]) == (7, sum(PLAN))
    np.testing.assert_array_equal(made, by_hand(backend, task(exact=True, noise_schedule=schedule, **BOTH), PLAN))
    [plain] = run(backend, task(exact=True, noise_schedule=schedule, **SMALL))
    assert 10 < psnr(made, plain) < 60, "lossy, and the same picture still"


def test_an_interval_without_a_step_is_a_picture_without_guidance(backend: SdxlBackend) -> None:
    [outside] = run(backend, task(exact=True, guidance_start=0.01, guidance_end=0.02, **SMALL))
    [unguided] = run(backend, task(exact=True, guidance_scale=1.0, **SMALL))
    np.testing.assert_array_equal(outside, unguided)


def test_exact_bytes_alone_and_in_a_crowd(backend: SdxlBackend) -> None:
    exact: dict[str, Any] = {"seeds": (11, 12), "exact": True, "noise_schedule": "euler_ancestral", **BOTH}
    alone = run(backend, task(**exact))
    crowd = Crowd(backend)
    events = crowd.submit(task(**exact))
    for seed in range(3):
        crowd.submit(task(seeds=(seed,), step_caching=2 * (seed % 2), **{**SMALL, "num_inference_steps": 3 + seed}))
    together: list[int] = []
    crowd.run(lambda step: together.append(backend.status().running))
    assert max(together) >= 3
    for one, other in zip(alone, pictures(events), strict=True):
        np.testing.assert_array_equal(one, other)


def test_computed_and_foretold_rows_share_a_batch(backend: SdxlBackend) -> None:
    """Pictures that differ in what they need of a step lie in one batch; each is as alone, but for its last bits."""
    mixed = [{"step_caching": 2}, {"guidance_end": 0.5}, {}, {"guidance_start": 0.5, "step_caching": 3}]
    alone = [run(backend, task(seeds=(seed,), **SMALL, **changes))[0] for seed, changes in enumerate(mixed)]
    before = dict(backend.status().counters)
    crowd = Crowd(backend)
    events = [crowd.submit(task(seeds=(seed,), **SMALL, **changes)) for seed, changes in enumerate(mixed)]
    crowd.run()
    widths = {name for name, count in backend.status().counters.items() if count > before.get(name, 0)}
    assert widths & {"steps_of_3_rows", "steps_of_5_rows", "steps_of_7_rows"}, "guided and unguided rows were mixed"
    for one, said in zip(alone, events, strict=True):
        assert psnr(one, pictures(said)[0]) >= 45


def test_every_step_is_told_of_and_what_took_effect(backend: SdxlBackend) -> None:
    crowd = Crowd(backend)
    events = crowd.submit(task(preview_every=1, **BOTH))
    crowd.run()
    assert isinstance(events[0], JobQueued)
    started = next(event for event in events if isinstance(event, JobStarted))
    assert started.accelerations == ("guidance_interval", "step_caching")
    steps = [event for event in events if isinstance(event, JobStep)]
    assert [step.step for step in steps] == list(range(1, 11))
    previews = [step.preview for step in steps]
    assert all(preview is not None for preview in previews)
    assert len({preview.tobytes() for preview in previews if preview is not None}) == 10, "each step has its own"
    plain = crowd.submit(task(num_inference_steps=2, guidance_scale=1.0, guidance_end=0.5, width=64, height=64))
    crowd.run()
    assert next(event for event in plain if isinstance(event, JobStarted)).accelerations == ()
