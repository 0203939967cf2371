"""Work whose runner is lost is done once more, unless something of it was sent or it costs money."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atelier_server.backends.base import ModelSpec, Tensor, TensorTask
from atelier_server.errors import Unavailable
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.clip_scorer import infer
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.types import (
    Completed,
    Event,
    Gate,
    GenerateRequest,
    ImageChunk,
    Progress,
    Queued,
    Started,
    Style,
)
from tests.unit.pipeline.conftest import ScriptedExecutor, ScriptedModels

REQUEST = GenerateRequest("a red bag", seed=7, style=Style.NONE)
LOST = Unavailable("the runner was lost", reason="RUNNER_LOST", retry_after_seconds=2.0)
NOT_BEGUN = Unavailable("it is restarting", reason="MODEL_UNAVAILABLE", retry_after_seconds=2.0)


async def events_of(pipeline: Pipeline, request: GenerateRequest = REQUEST) -> list[Event]:
    generation = await pipeline.start(request, Caller())
    return [entry.event async for entry in generation.read()]


def picture(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ImageChunk))


async def test_a_lost_call_is_done_again_with_the_same_bytes(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    undisturbed = picture(await events_of(pipeline, replace(REQUEST, seed=7, request_id="first")))
    second = ScriptedExecutor()
    models.successors = [second]
    instance.error = LOST
    events = await events_of(pipeline, replace(REQUEST, metadata={"again": "1"}, output_quality=91))
    assert picture(events) == undisturbed
    end = events[-1]
    assert isinstance(end, Completed)
    assert end.restarts == 1
    assert second.tasks[0].seeds == (7,)
    assert sum(isinstance(event, Started) for event in events) == 1
    waiting = [index for index, event in enumerate(events) if isinstance(event, Queued)]
    assert isinstance(events[waiting[-1] + 1], Progress), "the steps begin anew behind the second wait"


async def test_a_second_loss_ends_the_call(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    instance.error = LOST
    models.successors = [instance, instance]
    with pytest.raises(Unavailable) as caught:
        await events_of(pipeline)
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("RUNNER_LOST", 2.0)
    assert len(instance.tasks) == 2


async def test_a_call_that_was_never_begun_has_not_been_restarted(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    instance.error = NOT_BEGUN
    models.successors = [instance, ScriptedExecutor()]
    end = (await events_of(pipeline))[-1]
    assert isinstance(end, Completed)
    assert end.restarts == 0


async def test_without_a_successor_the_loss_is_told(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    instance.error = LOST
    with pytest.raises(Unavailable) as caught:
        await events_of(pipeline)
    assert caught.value is LOST


async def test_a_call_that_sent_bytes_is_not_done_again(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    models.successors = [ScriptedExecutor()]
    paint = instance.paint

    def paint_and_stop(shape: tuple[int, ...], seed: int) -> np.ndarray:
        instance.hold = asyncio.Event()  # before the second picture
        return paint(shape, seed)

    instance.paint = paint_and_stop
    generation = await pipeline.start(replace(REQUEST, num_images=2), Caller())

    async def lose_at_the_first_bytes() -> None:
        async for entry in generation.read():
            if isinstance(entry.event, ImageChunk) and instance.hold is not None:
                instance.error = LOST
                instance.hold.set()

    with pytest.raises(Unavailable) as caught:
        await lose_at_the_first_bytes()
    assert caught.value is LOST
    assert models.successors, "nobody was asked to do it again"


async def test_under_a_gate_nothing_is_sent_so_everything_can_be_done_again(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    second = ScriptedExecutor()
    models.successors = [second]
    instance.error = LOST
    events = await events_of(pipeline, replace(REQUEST, gate=Gate.RETRY, max_attempts=2))
    assert isinstance(events[-1], Completed)
    assert second.tasks


async def test_what_was_sent_to_a_paid_service_is_never_repeated(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    instance.spec = ModelSpec("scripted", "1", instance.spec.folder, {"role": "diffusion"}, {"backend": "openai"})
    instance.facts = {**instance.facts, "default_steps": 1}
    instance.error = LOST
    models.successors = [ScriptedExecutor()]
    with pytest.raises(Unavailable):
        await events_of(pipeline)
    assert models.successors


async def test_other_errors_are_no_losses(
    pipeline: Pipeline, models: ScriptedModels, instance: ScriptedExecutor
) -> None:
    instance.error = Unavailable("busy", reason="SOMETHING_ELSE")
    models.successors = [ScriptedExecutor()]
    with pytest.raises(Unavailable, match="busy"):
        await events_of(pipeline)


class TensorExecutor(ScriptedExecutor):
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        if self.failures:
            self.failures -= 1
            raise LOST
        return {"y": task.inputs["x"]}


@pytest.mark.parametrize(("failures", "answered"), [(0, True), (1, True), (2, False)])
async def test_tensors_are_computed_once_more(failures: int, answered: bool) -> None:
    instance = TensorExecutor(failures)
    models: Any = ScriptedModels(instance)
    models.successors = [instance]
    work = infer(models, instance, "x", np.ones(2, np.float32), "y")
    if answered:
        assert (await work).tolist() == [1.0, 1.0]
    else:
        with pytest.raises(Unavailable):
            await work
