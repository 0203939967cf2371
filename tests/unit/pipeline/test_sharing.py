"""Calls that share work: identical ones in flight, repeated ones, and resumed ones."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from atelier_server.errors import AlreadyExists, Cancelled, NotFound, Unavailable
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.generation import Generation
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.types import (
    CachePolicy,
    Completed,
    Event,
    GenerateRequest,
    GuidanceInterval,
    ImageChunk,
    ImageCompleted,
    OnDisconnect,
    Priority,
    Progress,
    Queued,
    Started,
    Style,
)

SEEDED = GenerateRequest("a red bag", seed=7, style=Style.NONE)
UNSEEDED = replace(SEEDED, seed=None)


async def events_of(generation: Generation, after: int = 0) -> list[Event]:
    return [entry.event async for entry in generation.read(after)]


async def finished(pipeline: Pipeline, request: GenerateRequest, caller: Caller | None = None) -> list[Event]:
    generation = await pipeline.start(request, caller or Caller())
    events = await events_of(generation)
    generation.cancel()
    await generation.wait()
    await asyncio.sleep(0)
    return events


def picture(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ImageChunk))


def end(events: list[Event]) -> Completed:
    assert isinstance(events[-1], Completed)
    return events[-1]


async def test_a_repeated_call_with_a_seed_comes_from_the_cache(pipeline: Pipeline, instance: Any) -> None:
    first = await finished(pipeline, SEEDED)
    again = await finished(pipeline, replace(SEEDED, metadata={"mine": "1"}, request_id="other"))
    assert len(instance.tasks) == 1
    assert picture(again) == picture(first)
    assert (end(first).cached, end(again).cached) == (False, True)
    assert end(again).metadata == {"mine": "1"}
    assert end(again).generation_time_ms < end(first).generation_time_ms + 1000
    assert not any(isinstance(event, Progress) for event in again)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue bag"},
        {"seed": 8},
        {"num_inference_steps": 4},
        {"guidance_scale": 3.0},
        {"guidance_interval": GuidanceInterval(0.1, 0.8)},
        {"step_caching": 2},
        {"style": Style.BOLD},
        {"output_quality": 50},
        {"aesthetic_threshold": 1.0},
        {"cache": CachePolicy.BYPASS},
        {"seed": None},
    ],
)
async def test_any_other_call_is_computed(pipeline: Pipeline, instance: Any, change: dict[str, Any]) -> None:
    await finished(pipeline, SEEDED)
    events = await finished(pipeline, replace(SEEDED, **change))
    assert len(instance.tasks) == 2
    assert not end(events).cached


async def test_a_new_model_version_is_a_miss(pipeline: Pipeline, instance: Any) -> None:
    await finished(pipeline, SEEDED)
    instance.spec = replace(instance.spec, version="2")
    await finished(pipeline, SEEDED)
    assert len(instance.tasks) == 2


async def test_bypass_writes_nothing(pipeline: Pipeline, instance: Any) -> None:
    await finished(pipeline, replace(SEEDED, cache=CachePolicy.BYPASS))
    await finished(pipeline, SEEDED)
    assert len(instance.tasks) == 2


async def test_reuse_answers_a_call_without_a_seed(pipeline: Pipeline, instance: Any) -> None:
    first = await finished(pipeline, UNSEEDED)
    again = await finished(pipeline, replace(UNSEEDED, cache=CachePolicy.REUSE))
    assert len(instance.tasks) == 1
    assert picture(again) == picture(first)
    assert next(e for e in again if isinstance(e, ImageCompleted)).seed == instance.tasks[0].seeds[0]


async def test_twenty_identical_calls_cost_one_generation(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    generations = [await pipeline.start(SEEDED, Caller()) for _ in range(20)]
    assert pipeline.running == 1
    instance.hold.set()
    results = await asyncio.gather(*(events_of(generation) for generation in generations))
    assert len(instance.tasks) == 1
    assert len({picture(events) for events in results}) == 1
    assert [end(events).cached for events in results] == [False] + [True] * 19
    assert all(isinstance(events[0], Queued) for events in results)


async def test_one_of_them_may_leave_even_the_first(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    first, second = [await pipeline.start(SEEDED, Caller()) for _ in range(2)]
    first.cancel()
    first.cancel()
    instance.hold.set()
    assert picture(await events_of(second))
    assert len(instance.tasks) == 1


async def test_the_last_to_leave_ends_the_work(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    generations = [await pipeline.start(SEEDED, Caller()) for _ in range(2)]
    for generation in generations:
        generation.cancel()
    with pytest.raises(Cancelled):
        await events_of(generations[0])
    await generations[0].wait()
    await asyncio.sleep(0)
    assert pipeline.running == 0


async def test_a_call_does_not_join_work_that_ends_before_its_own_deadline(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    hurried = await pipeline.start(SEEDED, Caller(deadline_seconds=600.0))
    patient, more_hurried = (
        await pipeline.start(SEEDED, Caller()),
        await pipeline.start(SEEDED, Caller(deadline_seconds=60.0)),
    )
    assert pipeline.running == 2
    for generation in (hurried, patient, more_hurried):
        generation.cancel()


async def test_a_caller_who_leaves_at_the_end_does_not_lose_the_kept_result(
    pipeline: Pipeline, instance: Any, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, going, keeping = cache.put, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        keeping.set()
        await going.wait()
        await original(*arguments)

    monkeypatch.setattr(cache, "put", slow)
    generation = await pipeline.start(SEEDED, Caller())
    await events_of(generation)
    await keeping.wait()
    generation.cancel()
    going.set()
    await generation.wait()
    assert end(await finished(pipeline, SEEDED)).cached
    assert len(instance.tasks) == 1


async def test_calls_with_the_same_timeout_meet_although_the_later_has_more_time(
    pipeline: Pipeline, instance: Any
) -> None:
    instance.hold = asyncio.Event()
    generations = [await pipeline.start(SEEDED, Caller(deadline_seconds=seconds)) for seconds in (600.0, 600.5, 610.0)]
    assert pipeline.running == 1
    generations.append(await pipeline.start(SEEDED, Caller(deadline_seconds=700.0)))
    assert pipeline.running == 2
    for generation in generations:
        generation.cancel()


async def test_a_lost_stream_finds_its_work_again(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    request = replace(UNSEEDED, request_id="r1", on_disconnect=OnDisconnect.CONTINUE)
    lost = await pipeline.start(request, Caller())
    reader = lost.read()
    heard = (await anext(reader)).sequence
    await reader.aclose()
    lost.cancel()
    instance.hold.set()
    found = await pipeline.start(replace(request, resume_after_sequence=heard), Caller())
    sequences = [entry.sequence async for entry in found.read(heard)]
    assert sequences[0] == heard + 1
    await found.wait()
    late = await events_of(await pipeline.start(request, Caller()))
    assert picture(late)
    assert end(late).cached, "what is told again was not computed for this call"
    assert len(instance.tasks) == 1


async def test_what_is_kept_no_longer_cannot_be_resumed(pipeline: Pipeline, instance: Any) -> None:
    with pytest.raises(NotFound) as caught:
        await pipeline.start(replace(SEEDED, request_id="r1", resume_after_sequence=6), Caller())
    assert caught.value.field == "resume_after_sequence"
    assert not instance.tasks


async def test_a_call_does_not_wait_behind_its_like_of_lower_priority(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    low, high = replace(SEEDED, priority=Priority.LOW), replace(SEEDED, priority=Priority.HIGH)
    generations = [await pipeline.start(request, Caller()) for request in (low, low, high, SEEDED)]
    assert pipeline.running == 2
    reader = generations[0].read()
    while not isinstance((await anext(reader)).event, Started):
        pass
    await reader.aclose()
    instance.hold.set()
    results = await asyncio.gather(*(events_of(generation) for generation in generations))
    assert [end(events).cached for events in results] == [False, True, False, True]
    assert [task.priority for task in instance.tasks] == [-1, 1]


async def test_whoever_comes_joins_what_has_begun(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    first = await pipeline.start(replace(SEEDED, priority=Priority.LOW), Caller())
    reader = first.read()
    while not isinstance((await anext(reader)).event, Started):
        pass
    second = await pipeline.start(replace(SEEDED, priority=Priority.HIGH), Caller())
    instance.hold.set()
    assert end(await events_of(second)).cached
    assert len(instance.tasks) == 1
    await reader.aclose()


async def test_an_id_belongs_to_one_content_and_one_client(pipeline: Pipeline, instance: Any) -> None:
    request = replace(UNSEEDED, request_id="r1")
    await finished(pipeline, request, Caller(client="a"))
    with pytest.raises(AlreadyExists):
        await pipeline.start(replace(request, prompt="a blue bag"), Caller(client="a"))
    await finished(pipeline, replace(request, prompt="a blue bag"), Caller(client="b"))
    assert len(instance.tasks) == 2


async def test_the_id_of_failed_work_is_free_again(pipeline: Pipeline, instance: Any) -> None:
    request = replace(UNSEEDED, request_id="r1")
    instance.error = Unavailable("lost")
    generation = await pipeline.start(request, Caller())
    with pytest.raises(Unavailable):
        await events_of(generation)
    await generation.wait()
    await asyncio.sleep(0)
    instance.error = None
    assert picture(await finished(pipeline, request))


@pytest.mark.parametrize("request_id", ["", "r1"])
async def test_a_call_does_not_join_work_that_is_being_cancelled(
    pipeline: Pipeline, instance: Any, request_id: str
) -> None:
    instance.hold = asyncio.Event()
    request = replace(SEEDED, request_id=request_id)
    lost = await pipeline.start(request, Caller())
    lost.cancel()
    again = await pipeline.start(request, Caller())
    instance.hold.set()
    assert picture(await events_of(again))
    await again.wait()


async def test_another_parameter_of_the_model_misses(pipeline: Pipeline, instance: Any) -> None:
    """Such as the model that is asked for upstream."""
    await events_of(await pipeline.start(SEEDED, Caller()))
    instance.spec = replace(instance.spec, parameters={**instance.spec.parameters, "upstream_model": "other"})
    await events_of(await pipeline.start(SEEDED, Caller()))
    assert len(instance.tasks) == 2
