"""How many threads take part in a step, learnt from how long steps take."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from atelier_server.backends.sdxl.batch import Conditioning, UNetRunner
from atelier_server.backends.sdxl.threads import QUICK_STEP_SECONDS, StepThreads

WORK = 2 * 12 * 16 * 16


def run(threads: StepThreads, seconds: Callable[[int], float], steps: int = 200) -> list[int]:
    """Does steps that take `seconds(threads)`, and tells how many threads each had."""
    chosen = []
    for _ in range(steps):
        chosen.append(threads.choose(WORK))
        threads.took(WORK, chosen[-1], seconds(chosen[-1]))
    return chosen


def test_one_thread_where_waking_the_other_costs_more() -> None:
    chosen = run(StepThreads(2), {1: 0.024, 2: 0.055}.__getitem__)
    assert chosen[:2] == [2, 2]
    assert chosen.count(1) > 190
    assert 2 in chosen[10:], "the other number must be looked at again"


def test_all_threads_where_they_are_quicker() -> None:
    chosen = run(StepThreads(4), {1: 0.024, 4: 0.010}.__getitem__)
    assert 1 <= chosen.count(1) < 10


def test_the_choice_follows_what_changes() -> None:
    threads = StepThreads(2)
    assert run(threads, {1: 0.024, 2: 0.055}.__getitem__)[-1] == 1
    assert run(threads, {1: 0.024, 2: 0.014}.__getitem__, 2000)[-1] == 2


def test_long_steps_are_not_tried_with_one_thread() -> None:
    assert set(run(StepThreads(2), lambda count: 2 * QUICK_STEP_SECONDS)) == {2}


def test_what_is_hopeless_is_tried_once() -> None:
    assert run(StepThreads(16), {1: 1.0, 16: 0.1}.__getitem__, 1000).count(1) == 1


def test_sizes_are_learnt_apart() -> None:
    threads = StepThreads(2)
    run(threads, {1: 0.024, 2: 0.055}.__getitem__)
    assert threads.usual(WORK) == 1
    assert threads.usual(16 * WORK) == 2


def test_a_single_core_has_no_choice() -> None:
    assert set(run(StepThreads(1), lambda count: 0.01)) == {1}


class Watched(torch.nn.Module):
    """A UNet that only tells how many threads it was computed by."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def forward(self, sample: torch.Tensor, *rest: Any, **more: Any) -> tuple[torch.Tensor]:
        self.threads.append(torch.get_num_threads())
        return (sample,)


@pytest.fixture
def _two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_exact_pictures_always_have_all_threads() -> None:
    unet, threads, sample = Watched(), StepThreads(2), torch.zeros(2, 12, 16, 16)
    run(threads, {1: 0.024, 2: 0.055}.__getitem__, 10)
    runner = UNetRunner(unet, threads)
    conditioning = Conditioning(torch.zeros(2, 77, 8), torch.zeros(2, 8), torch.zeros(2, 6), 7.5)
    for exact in (False, True, False):
        runner.predict(sample, [500.0, 500.0], [conditioning], exact)
        assert torch.get_num_threads() == 2, "text and pictures have all of them again"
    assert unet.threads == [1, 2, 1]
