"""Recorded steps, with a recorder that works on a CPU: which shapes are recorded, what is copied, what is forgotten."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from atelier_server.backends.sdxl.compiled.graph import GraphFailed
from atelier_server.backends.sdxl.cross_attention import Remembered
from atelier_server.backends.sdxl.recorded import MOST_GRAPHS, SEEN_BEFORE, Compute, RecordedUNet


class SmallUNet(torch.nn.Module):
    """Its prediction depends on everything that it is given, the text by a layer that remembers it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.text = Remembered(torch.nn.Linear(4, 1))
        self.calls = 0

    def forward(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None,
        added_cond_kwargs: dict[str, torch.Tensor],
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        self.calls += 1
        text = self.text(encoder_hidden_states).mean(1)
        rows = text + added_cond_kwargs["text_embeds"] + added_cond_kwargs["time_ids"].mean(1, keepdim=True)
        rows = rows + timesteps[:, None] + (0 if timestep_cond is None else timestep_cond)
        return (sample + rows[:, :, None, None],)


class Recorder:
    """As CUDA's: what was recorded writes its result into one and the same tensor."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0
        self.error: Exception | None = None

    def __call__(self, compute: Compute) -> Compute:
        if self.error:
            raise self.error
        self.recordings += 1
        result = compute().clone()

        def replay() -> torch.Tensor:
            self.replays += 1
            return result.copy_(compute())

        return replay


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def unet() -> SmallUNet:
    return SmallUNet()


@pytest.fixture
def recorded(unet: SmallUNet, recorder: Recorder) -> RecordedUNet:
    return RecordedUNet(unet, recorder)


def inputs_of(rows: int, seed: int, guidance: bool = False) -> dict[str, Any]:
    dice = torch.Generator().manual_seed(seed)
    return {
        "encoder_hidden_states": torch.randn(rows, 7, 4, generator=dice),
        "timestep_cond": torch.randn(rows, 1, generator=dice) if guidance else None,
        "added_cond_kwargs": {
            "text_embeds": torch.randn(rows, 1, generator=dice),
            "time_ids": torch.randn(rows, 6, generator=dice),
        },
    }


def expected(unet: SmallUNet, sample: torch.Tensor, times: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    unet.text.forget()
    result = unet(sample, times, return_dict=False, **inputs)[0]
    unet.text.forget()
    return result


def step(recorded: RecordedUNet, rows: int = 2, side: int = 4, seed: int = 0) -> None:
    recorded.predict(torch.zeros(rows, 1, side, side), torch.zeros(rows), inputs_of(rows, seed), 1)


@pytest.mark.parametrize("guidance", [False, True])
def test_every_step_is_the_unets_own_whatever_changes(
    recorded: RecordedUNet, unet: SmallUNet, recorder: Recorder, guidance: bool
) -> None:
    inputs = inputs_of(2, 0, guidance)
    kept = []
    for number in range(SEEN_BEFORE + 6):
        if number % 3 == 0:  # the composition of the batch changes, also where it is recorded
            inputs = inputs_of(2, number, guidance)
        sample, times = torch.full((2, 1, 4, 4), float(number)), torch.full((2,), 100.0 + number)
        kept.append((recorded.predict(sample, times, inputs, 1), expected(unet, sample, times, inputs)))
    for made, wanted in kept:  # only now: a later step must not write into what an earlier one gave
        torch.testing.assert_close(made, wanted, rtol=0, atol=0)
    assert (recorder.recordings, recorder.replays) == (1, 6)


def test_a_shape_is_recorded_once_it_came_often(recorded: RecordedUNet, recorder: Recorder) -> None:
    for _ in range(SEEN_BEFORE):
        step(recorded)
        step(recorded, side=8)
    assert recorder.recordings == 0
    step(recorded)
    assert recorded.shapes == ((2, 1, 4, 4),)
    step(recorded, side=8)
    step(recorded, rows=4)
    assert recorder.recordings == 2


def test_the_graph_that_was_needed_longest_ago_goes(recorded: RecordedUNet, recorder: Recorder) -> None:
    for rows in range(1, MOST_GRAPHS + 1):
        for _ in range(SEEN_BEFORE + 1):
            step(recorded, rows)
    step(recorded, 1)
    for _ in range(SEEN_BEFORE + 1):
        step(recorded, MOST_GRAPHS + 1)
    kept = [shape[0] for shape in recorded.shapes]
    assert kept == [*range(3, MOST_GRAPHS + 1), 1, MOST_GRAPHS + 1]
    for _ in range(SEEN_BEFORE):
        step(recorded, 2)
    assert 2 not in [shape[0] for shape in recorded.shapes], "it has to come as often as any other again"


def test_a_step_that_cannot_be_recorded_drops_all_graphs_and_says_why(
    recorded: RecordedUNet, unet: SmallUNet, recorder: Recorder
) -> None:
    for _ in range(SEEN_BEFORE + 1):
        step(recorded)
    for _ in range(SEEN_BEFORE):
        step(recorded, rows=4)
    recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(GraphFailed, match="4 rows cannot be recorded: CUDA out of memory"):
        step(recorded, rows=4)
    assert recorded.shapes == ()
    assert unet.text._seen is None, "nothing holds the memory of a graph"
