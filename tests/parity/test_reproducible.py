"""EXACT pictures do not depend on what else is running; BATCHED ones hardly."""

import random

import numpy as np
import pytest

from atelier_server.backends.base import Backend, DiffusionTask
from tests.parity.sdxl_kit import Crowd, pictures, psnr, run, task


def neighbours(count: int = 6) -> list[DiffusionTask]:
    """Calls of mixed steps, guidance, sizes, schedules and kinds."""
    dice = random.Random(7)
    return [
        task(
            prompt=f"picture {number} of a green lamp",
            seeds=tuple(range(number, number + dice.choice((1, 2)))),
            num_inference_steps=dice.choice((3, 5, 9)),
            guidance_scale=dice.choice((1.0, 4.0, 7.5)),
            width=dice.choice((128, 128, 64)),
            noise_schedule=dice.choice(("euler", "euler_ancestral", "ddim", "unipc")),
            exact=number == 3,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("schedule", ["euler", "euler_ancestral"])
def test_exact_bytes_alone_and_in_a_crowd(backend: Backend, schedule: str) -> None:
    alone = run(backend, task(seeds=(11, 12), exact=True, noise_schedule=schedule, num_inference_steps=6))
    crowd, waiting = Crowd(backend), neighbours()
    events = crowd.submit(task(seeds=(11, 12), exact=True, noise_schedule=schedule, num_inference_steps=6))
    together: list[int] = []

    def before_step(step: int) -> None:
        if step % 4 == 1 and waiting:
            crowd.submit(waiting.pop())
        together.append(backend.status().running)

    crowd.run(before_step)
    assert max(together) >= 3
    assert not waiting
    for one, other in zip(alone, pictures(events), strict=True):
        np.testing.assert_array_equal(one, other)


def test_exact_bytes_do_not_depend_on_the_number_of_images(backend: Backend) -> None:
    [alone] = run(backend, task(seeds=(22,), exact=True))
    several = run(backend, task(seeds=(21, 22, 23), exact=True))
    np.testing.assert_array_equal(alone, several[1])


def test_batched_pictures_stay_close_to_exact_ones(backend: Backend) -> None:
    exact = run(backend, task(seeds=(31,), exact=True))
    crowd = Crowd(backend)
    events = crowd.submit(task(seeds=(31,)))
    for one in neighbours():
        crowd.submit(one)
    counts = backend.status().counters
    crowd.run()
    wide = {name for name, count in backend.status().counters.items() if count > counts.get(name, 0)}
    assert any(name.startswith("steps_of_") and int(name.split("_")[2]) > 2 for name in wide), "nothing was batched"
    assert psnr(exact[0], pictures(events)[0]) >= 45


def test_exact_at_bfloat16_is_reproducible_and_near_float32(backend: Backend, backend_bf16: Backend) -> None:
    [first] = run(backend_bf16, task(seeds=(3,), exact=True))
    crowd = Crowd(backend_bf16)
    events = crowd.submit(task(seeds=(3,), exact=True))
    crowd.submit(task(seeds=(4, 5)))
    crowd.run()
    np.testing.assert_array_equal(first, pictures(events)[0])
    [precise] = run(backend, task(seeds=(3,), exact=True))
    assert psnr(first, precise) >= 25
