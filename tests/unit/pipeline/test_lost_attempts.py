"""Attempts of a gate that cannot be computed: what leaves then, and that nobody else is asked for what is paid for."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from atelier_server.backends.base import DiffusionTask, JobEvent
from atelier_server.errors import Unavailable
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.types import Completed, Event, Gate, GenerateRequest, ImageCompleted, Started, Style
from tests.unit.pipeline.conftest import ScriptedExecutor, ScriptedModels, ScriptedScorer

SIGN = GenerateRequest("a neon sign that says open late", gate=Gate.RETRY, max_attempts=3, style=Style.NONE)


class FailingLater(ScriptedExecutor):
    """A paid service whose first job succeeds; every later one fails without having made a picture."""

    def __init__(self) -> None:
        super().__init__("openai_images")
        self.spec = replace(self.spec, config={"backend": "openai"})

    async def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        if self.tasks:
            self.error = Unavailable("the image service failed", reason="UPSTREAM_FAILED")
        async for event in super().diffuse(task):
            yield event


@pytest.fixture
def instance() -> ScriptedExecutor:
    return FailingLater()


@pytest.fixture
def local() -> ScriptedExecutor:
    return ScriptedExecutor("scripted")


@pytest.fixture
def models(instance: ScriptedExecutor, local: ScriptedExecutor) -> ScriptedModels:
    return ScriptedModels(instance, local)


@pytest.fixture
def scorer() -> ScriptedScorer:
    scorer = ScriptedScorer()
    scorer.by_value = lambda value: 1.0
    return scorer


async def heard(pipeline: Pipeline, request: GenerateRequest) -> list[Event]:
    generation = await pipeline.start(request, Caller())
    return [entry.event async for entry in generation.read()]


async def test_retry_sends_the_best_that_was_made_before_the_model_was_lost(
    pipeline: Pipeline, instance: ScriptedExecutor, local: ScriptedExecutor
) -> None:
    events = await heard(pipeline, SIGN)
    [sent] = [event for event in events if isinstance(event, ImageCompleted)]
    assert sent.seed == instance.tasks[0].seeds[0]
    assert isinstance(events[-1], Completed)
    assert events[-1].attempts == 1
    assert len(instance.tasks) == 2
    assert not local.tasks


async def test_enforce_tells_that_the_model_was_lost_and_asks_no_other(
    pipeline: Pipeline, instance: ScriptedExecutor, local: ScriptedExecutor
) -> None:
    with pytest.raises(Unavailable, match="the image service failed"):
        await heard(pipeline, replace(SIGN, gate=Gate.ENFORCE))
    assert len(instance.tasks) == 2
    assert not local.tasks


async def test_another_is_asked_as_long_as_nothing_was_made(
    pipeline: Pipeline, instance: ScriptedExecutor, local: ScriptedExecutor
) -> None:
    instance.tasks.append(DiffusionTask("earlier", "", None, (), 64, 64, 1, 0.0))
    events = await heard(pipeline, replace(SIGN, max_attempts=1))
    assert [event.model for event in events if isinstance(event, Started)] == ["openai_images", "scripted"]
    assert len(local.tasks) == 1
