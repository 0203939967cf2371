"""What may not be asked for is refused with a status, before anything is computed; a refused picture never leaves."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from atelier_server.cache.cache import ResultCache
from atelier_server.errors import InvalidArgument, ModerationBlocked
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.generation import Generation
from atelier_server.pipeline.orchestrator import Pipeline, PipelineLimits
from atelier_server.pipeline.prompt import load_templates
from atelier_server.pipeline.safety import WordGate, load_gate
from atelier_server.types import Event, GenerateRequest, ImageChunk, ImageCompleted

GATE = WordGate(["forbidden fruit", "mañana"])


class PictureGate:
    """Refuses every picture but those of seed 9."""

    def check_prompt(self, request: GenerateRequest) -> None: ...

    def check_picture(self, image: Image.Image, request: GenerateRequest) -> None:
        if image.getpixel((0, 0)) != (9, 9, 9):
            raise ModerationBlocked("the picture is refused", field="prompt")


def no_gate() -> None:
    raise ValueError("not today")


@pytest.fixture
def guarded(models: Any, scorer: Any, cache: ResultCache) -> Iterator[Pipeline]:
    with ThreadPoolExecutor(2) as pool:
        limits = PipelineLimits(heartbeat_seconds=600.0)
        yield Pipeline(models, scorer, load_templates(), pool, cache, limits, PictureGate())


DRESSES = [
    "a forbidden fruit",
    "A FORBIDDEN  Fruit!",
    "a forbidden-fruit",
    "forbidden\u200bfruit",
    "ｆｏｒｂｉｄｄｅｎ fruit",
    "fórbidden fruit",
    "manana",
]


@pytest.mark.parametrize("prompt", DRESSES)
def test_a_listed_phrase_is_found_in_any_dress(prompt: str) -> None:
    with pytest.raises(ModerationBlocked) as caught:
        GATE.check_prompt(GenerateRequest(prompt))
    assert (caught.value.field, caught.value.reason) == ("prompt", "MODERATION_BLOCKED")


@pytest.mark.parametrize("prompt", ["a fruit", "unforbidden fruitcake", "the forbidden city and a fruit"])
def test_other_words_pass(prompt: str) -> None:
    GATE.check_prompt(GenerateRequest(prompt))


def test_the_negative_prompt_may_name_it() -> None:
    GATE.check_prompt(GenerateRequest("a bowl", negative_prompt="forbidden fruit"))


def test_an_empty_list_refuses_nothing() -> None:
    WordGate([]).check_prompt(GenerateRequest("anything"))


async def test_the_pipeline_asks_before_it_computes(pipeline: Pipeline, instance: Any) -> None:
    with pytest.raises(ModerationBlocked):
        await pipeline.start(GenerateRequest(load_templates().blocked[0]), Caller())
    assert not instance.tasks
    assert pipeline.running == 0


async def test_a_refused_picture_ends_the_call_and_never_leaves(guarded: Pipeline) -> None:
    generation = await guarded.start(GenerateRequest("a bag", seed=8, width=64, height=64), Caller())
    events: list[Event] = []
    with pytest.raises(ModerationBlocked):
        await _hear(generation, events)
    assert not [event for event in events if isinstance(event, ImageChunk | ImageCompleted)]
    allowed = await guarded.start(GenerateRequest("a bag", seed=9, width=64, height=64), Caller())
    await _hear(allowed, events)
    assert [event.seed for event in events if isinstance(event, ImageCompleted)] == [9]


async def _hear(generation: Generation, events: list[Event]) -> None:
    async for entry in generation.read():
        events.append(entry.event)


def test_a_gate_is_named_in_the_configuration() -> None:
    assert isinstance(load_gate(f"{__name__}:PictureGate"), PictureGate)
    for name in ("nothing", "no.such.module:gate", f"{__name__}:missing", f"{__name__}:no_gate"):
        with pytest.raises(InvalidArgument) as caught:
            load_gate(name)
        assert caught.value.field == "safety_gate"
