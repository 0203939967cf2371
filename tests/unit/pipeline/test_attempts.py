"""Attempts under RETRY and ENFORCE: how many side by side, when they stop, what leaves, and the deadline."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atelier_server.errors import DeadlineExceeded, GateRefused
from atelier_server.pipeline import make
from atelier_server.pipeline.attempts import affordable, attempt_costs, side_by_side
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.make import RESERVE_SECONDS
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.types import (
    CachePolicy,
    Completed,
    Event,
    Gate,
    GenerateRequest,
    ImageChunk,
    ImageCompleted,
    Progress,
    Reproducibility,
    Started,
    Style,
)

FLAT = {"max_rows": 64.0, "seconds_of_1_rows": 0.010, "seconds_of_2_rows": 0.011, "seconds_of_64_rows": 0.02}
STEEP = {"max_rows": 64.0, "seconds_of_2_rows": 0.01, "seconds_of_4_rows": 0.02, "seconds_of_64_rows": 0.32}
RETRY = GenerateRequest("x", seed=100, gate=Gate.RETRY, max_attempts=4, style=Style.NONE)


@pytest.fixture
def quick(instance: Any) -> Any:
    """An instance for which several attempts at once take hardly longer than one."""
    instance.facts = instance.facts | FLAT
    return instance


async def events_of(pipeline: Pipeline, request: GenerateRequest, caller: Caller | None = None) -> list[Event]:
    generation = await pipeline.start(request, caller or Caller())
    return [entry.event async for entry in generation.read()]


def completed(events: list[Event]) -> Completed:
    assert isinstance(events[-1], Completed)
    return events[-1]


def seeds(events: list[Event]) -> dict[int, int]:
    return {event.image_index: event.seed for event in events if isinstance(event, ImageCompleted)}


@pytest.mark.parametrize(
    ("costs", "failed", "count"),
    [
        ([1.0], 0, 1),
        ([1.0, 2.0, 3.0], 0, 1),  # nothing is gained: one after another, so that the first pass ends it
        ([1.0, 1.0, 1.0, 1.0], 0, 4),  # nothing is lost
        ([1.0, 1.1, 1.2, 1.3], 0, 4),
        ([1.0, 1.2, 4.0], 0, 2),  # two fit into the batch, three do not
        ([1.0, 1.85], 0, 1),
        ([1.0, 1.85], 6, 2),  # after many failures a pass at once is not to be expected
    ],
)
def test_as_many_side_by_side_as_are_worthwhile(costs: list[float], failed: int, count: int) -> None:
    assert side_by_side(costs, failed) == count


def test_only_what_fits_into_the_time_that_is_left() -> None:
    assert affordable([1.0, 2.0, 3.0], None) == [1.0, 2.0, 3.0]
    assert affordable([1.0, 2.0, 3.0], 2.5) == [1.0, 2.0]
    assert affordable([1.0, 2.0, 3.0], 1.1) == []


async def test_costs_follow_the_instances_curve(pipeline: Pipeline, quick: Any) -> None:
    plans: list[Any] = []
    original = pipeline._maker._diffuse

    async def note(computation: Any, plan: Any, *rest: Any) -> None:
        plans.append(plan)
        await original(computation, plan, *rest)

    pipeline._maker._diffuse = note  # type: ignore[method-assign]
    await events_of(pipeline, replace(RETRY, num_inference_steps=10, width=64, height=64))
    plan = plans[0]
    assert attempt_costs(plan, 2) == pytest.approx([0.11, 0.11 + 10 * 2 * 0.009 / 62])
    unguided = replace(plan, guidance_scale=1.0)
    assert attempt_costs(unguided, 2) == pytest.approx([0.10, 0.11])
    quick.facts = quick.facts | {"max_rows": 2.0}
    assert attempt_costs(plan, 3) == pytest.approx([0.11, 0.22, 0.33])
    quick.facts = quick.facts | STEEP
    assert attempt_costs(plan, 2) == pytest.approx([0.1, 0.2])
    exact = replace(plan, request=replace(plan.request, reproducibility=Reproducibility.EXACT))
    assert attempt_costs(exact, 3) == [1.0, 2.0, 3.0]


async def test_attempts_share_one_job_where_that_is_cheaper(pipeline: Pipeline, quick: Any, scorer: Any) -> None:
    scorer.by_value = lambda value: {100: 1.0, 101: 3.0, 102: 2.0, 103: 2.5}[value]
    events = await events_of(pipeline, RETRY)
    assert [task.seeds for task in quick.tasks] == [(100, 101, 102, 103)]
    assert seeds(events) == {0: 101}
    assert completed(events).attempts == 4
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.attempt for event in progress] == [attempt for attempt in (1, 2, 3, 4) for _ in range(3)]
    assert {event.image_index for event in progress} == {0}
    assert [event.seeds for event in events if isinstance(event, Started)] == [(100,)]


async def test_several_pictures_each_get_their_first_pass(pipeline: Pipeline, quick: Any, scorer: Any) -> None:
    scorer.by_value = lambda value: 9.0 if value in (100, 103, 105) else 1.0
    events = await events_of(pipeline, replace(RETRY, num_images=2))
    assert quick.tasks[0].seeds == (100, 101, 102, 103, 104, 105, 106, 107)
    assert seeds(events) == {0: 100, 1: 103}
    assert completed(events).attempts == 2


@pytest.mark.parametrize("facts", [{}, FLAT], ids=["one after another", "side by side"])
async def test_the_result_does_not_depend_on_the_way(
    pipeline: Pipeline, instance: Any, scorer: Any, facts: dict[str, float]
) -> None:
    instance.facts = instance.facts | facts
    scorer.by_value = lambda value: {102: 8.0, 103: 9.5}.get(value, 1.0)  # the first pass, not the best
    events = await events_of(pipeline, replace(RETRY, cache=CachePolicy.BYPASS))
    assert seeds(events) == {0: 102}
    assert completed(events).attempts == 3


async def test_the_others_are_stopped_when_one_passes(pipeline: Pipeline, quick: Any, scorer: Any) -> None:
    gate = asyncio.Event()
    painted: list[int] = []

    def paint(shape: tuple[int, ...], seed: int) -> Any:
        painted.append(seed)
        quick.hold = gate if seed == 101 else None  # the third picture never gets on, unless it is stopped
        return np.full(shape, seed % 256, np.uint8)

    quick.paint = paint
    scorer.by_value = lambda value: 9.0 if value == 101 else 1.0
    events = await asyncio.wait_for(events_of(pipeline, RETRY), 20)
    assert painted == [100, 101]
    assert quick.closed == 1
    assert seeds(events) == {0: 101}
    assert completed(events).timings_ms["denoise"] >= 0


async def test_an_earlier_attempt_that_is_still_judged_is_waited_for(
    pipeline: Pipeline, quick: Any, scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = scorer.score

    async def slow_first(image: Any, request: GenerateRequest) -> Any:
        if int(np.asarray(image)[0, 0, 0]) == 100:
            await asyncio.sleep(0.2)
        return await original(image, request)

    monkeypatch.setattr(scorer, "score", slow_first)
    scorer.by_value = lambda value: 9.0
    assert seeds(await events_of(pipeline, RETRY)) == {0: 100}


@pytest.mark.parametrize("gate", [Gate.RETRY, Gate.ENFORCE])
async def test_further_attempts_end_in_time_for_the_best_so_far(
    pipeline: Pipeline, instance: Any, scorer: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patience(Caller):
        def remaining_seconds(self) -> float | None:
            return 1000.0 if len(instance.tasks) < 2 else RESERVE_SECONDS + 0.05

    monkeypatch.setattr(make, "affordable", lambda costs, remaining: costs)
    held = asyncio.Event()
    calls = itertools.count()

    def paint(shape: tuple[int, ...], seed: int) -> Any:
        if next(calls) == 1:
            instance.hold = held  # from the third attempt on nothing moves any more
        return np.full(shape, seed % 256, np.uint8)

    instance.paint = paint
    scorer.by_value = lambda value: value / 100
    request = replace(RETRY, gate=gate, width=64, height=64)
    caller = Patience()
    if gate is Gate.RETRY:
        events = await events_of(pipeline, request, caller)
        assert seeds(events) == {0: 101}
        assert completed(events).attempts == 2
    else:
        with pytest.raises(GateRefused) as caught:
            await events_of(pipeline, request, caller)
        assert caught.value.metadata["aesthetic_score"] == "1.010"
        assert caught.value.metadata["attempts"] == "2"
    assert instance.closed == 3


async def test_a_runner_that_refuses_the_next_attempt_for_its_deadline_ends_them(
    pipeline: Pipeline, instance: Any, scorer: Any
) -> None:
    scorer.by_value = lambda value: 1.0

    def paint(shape: tuple[int, ...], seed: int) -> Any:
        instance.error = DeadlineExceeded("needs more time than is left")
        return np.full(shape, seed % 256, np.uint8)

    instance.paint = paint
    assert seeds(await events_of(pipeline, RETRY, Caller(deadline_seconds=60.0))) == {0: 100}


async def test_the_first_attempt_that_is_late_fails_the_call(pipeline: Pipeline, quick: Any) -> None:
    quick.hold = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await events_of(pipeline, RETRY, Caller(deadline_seconds=0.6))


async def test_nothing_leaves_before_the_verdict(pipeline: Pipeline, quick: Any, scorer: Any) -> None:
    scorer.by_value = lambda value: 1.0
    events = await events_of(pipeline, RETRY)
    first_chunk = next(place for place, event in enumerate(events) if isinstance(event, ImageChunk))
    assert not any(isinstance(event, Progress) for event in events[first_chunk:])
    assert len(seeds(events)) == 1
