"""The order of events, failures, deadlines, cancellation, heartbeats and the gate."""

import asyncio
import contextlib
import hashlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier_server.errors import (
    Cancelled,
    DeadlineExceeded,
    GateRefused,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.generation import Generation
from atelier_server.pipeline.orchestrator import Pipeline
from atelier_server.types import (
    Completed,
    Event,
    Gate,
    GenerateRequest,
    GuidanceInterval,
    ImageChunk,
    ImageCompleted,
    ModelChoice,
    PreviewOptions,
    Progress,
    Quality,
    Queued,
    Reproducibility,
    Started,
    Style,
)

RED_BAG = GenerateRequest("a red bag", seed=100, width=128, height=64, style=Style.NONE)


async def events_of(generation: Generation) -> list[Event]:
    return [entry.event async for entry in generation.read()]


async def test_a_call_tells_its_story_in_order(pipeline: Pipeline, instance: Any) -> None:
    request = GenerateRequest(
        "a red bag", seed=7, num_images=2, width=128, height=64, style=Style.NONE, metadata={"a": "b"}
    )
    events = await events_of(await pipeline.start(request, Caller()))
    assert isinstance(events[0], Queued)
    assert events[0].position == 2
    assert isinstance(events[1], Queued)
    assert events[1].position == 1
    started = events[2]
    assert isinstance(started, Started)
    assert (started.prompt_used, started.negative_prompt_used, started.seeds) == ("a red bag", None, (7, 8))
    assert str(started.dimensions) == "128x64"
    assert str(started.native_dimensions) == "96x48"
    assert sum(isinstance(event, Progress) for event in events) == 6
    done = [event for event in events if isinstance(event, ImageCompleted)]
    assert sorted((event.image_index, event.seed) for event in done) == [(0, 7), (1, 8)]
    for event in done:
        chunks = [c for c in events if isinstance(c, ImageChunk) and c.image_index == event.image_index]
        data = b"".join(chunk.data for chunk in chunks)
        assert hashlib.sha256(data).hexdigest() == event.sha256
        assert chunks[-1].last
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (128, 64)
            assert np.all(np.asarray(image) == event.seed)
    end = events[-1]
    assert isinstance(end, Completed)
    assert end.metadata == {"a": "b"}
    assert end.timings_ms["denoise"] == 5.0
    assert end.reproducibility is Reproducibility.BATCHED
    assert end.generation_time_ms > 0


async def test_a_large_picture_leaves_in_pieces_of_one_mebibyte(pipeline: Pipeline, instance: Any) -> None:
    request = GenerateRequest("noise", seed=1, quality=Quality.ULTRA_HD, style=Style.NONE)
    rng = np.random.default_rng(0)
    instance.facts = instance.facts | {"max_side": 2048.0, "native_width": 2048.0, "native_height": 2048.0}
    instance.paint = lambda shape, seed: rng.integers(0, 256, shape, dtype=np.uint8)
    events = await events_of(await pipeline.start(request, Caller()))
    chunks = [event for event in events if isinstance(event, ImageChunk)]
    assert len(chunks) > 10
    assert max(len(chunk.data) for chunk in chunks) == 1024 * 1024
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_previews_come_when_asked(pipeline: Pipeline) -> None:
    request = GenerateRequest("x", preview=PreviewOptions(1, 32), seed=1, style=Style.NONE)
    events = await events_of(await pipeline.start(request, Caller()))
    previews = [event.preview for event in events if isinstance(event, Progress)]
    assert all(preview is not None and max(preview.dimensions.width, 1) == 32 for preview in previews)


async def test_unset_seeds_are_drawn_anew(pipeline: Pipeline, instance: Any) -> None:
    for _ in range(2):
        await events_of(await pipeline.start(GenerateRequest("x"), Caller()))
    first, second = (task.seeds for task in instance.tasks)
    assert first != second


async def test_a_failing_job_fails_the_call(pipeline: Pipeline, instance: Any) -> None:
    instance.error = Unavailable("the runner was lost")
    with pytest.raises(Unavailable, match="lost"):
        await events_of(generation := await pipeline.start(RED_BAG, Caller()))
    await generation.wait()
    await asyncio.sleep(0)
    assert pipeline.running == 0


async def test_a_bug_is_internal_and_tells_nothing(pipeline: Pipeline, instance: Any) -> None:
    instance.error = ZeroDivisionError("secret path")
    with pytest.raises(Internal) as caught:
        await events_of(await pipeline.start(RED_BAG, Caller()))
    assert "secret" not in str(caught.value)


async def test_the_deadline_ends_a_call(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await events_of(await pipeline.start(RED_BAG, Caller(deadline_seconds=0.05)))
    assert instance.closed == 1
    assert instance.tasks[0].timeout_seconds <= 0.05


async def test_cancelling_closes_the_job(pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    generation = await pipeline.start(RED_BAG, Caller())
    reader = generation.read()
    while not isinstance((await anext(reader)).event, Started):
        pass
    generation.cancel()
    with pytest.raises(Cancelled):
        await events_of(generation)
    await generation.wait()
    assert instance.closed == 1
    assert pipeline.running == 0


async def test_cancelling_before_the_task_runs_ends_the_log(pipeline: Pipeline) -> None:
    generation = await pipeline.start(RED_BAG, Caller())
    generation.cancel()
    with pytest.raises(Cancelled):
        await events_of(generation)
    await generation.wait()
    await asyncio.sleep(0)
    assert pipeline.running == 0


async def test_silence_is_broken_by_heartbeats(beating_pipeline: Pipeline, instance: Any) -> None:
    instance.hold = asyncio.Event()
    generation = await beating_pipeline.start(RED_BAG, Caller())
    signs = 0
    async for entry in generation.read():
        signs += isinstance(entry.event, Queued | Progress)
        if signs == 5:
            instance.hold.set()
    assert signs >= 5


async def test_heartbeats_of_work_that_has_begun_do_not_say_that_it_waits(
    beating_pipeline: Pipeline, instance: Any
) -> None:
    instance.hold = asyncio.Event()
    generation = await beating_pipeline.start(RED_BAG, Caller())
    begun = False
    beats: list[Event] = []
    async for entry in generation.read():
        if begun and len(beats) < 2:
            beats.append(entry.event)
        begun = begun or isinstance(entry.event, Started)
        if len(beats) == 2:
            instance.hold.set()
    assert beats == [Progress(0, 0, 3)] * 2


async def test_work_that_is_cut_off_ends_with_an_error(pipeline: Pipeline, instance: Any) -> None:
    instance.error = asyncio.CancelledError()  # as from a thread pool that is shut down
    with pytest.raises(Cancelled):
        await events_of(await pipeline.start(RED_BAG, Caller()))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"prompt": ""}, InvalidArgument),
        ({"model_name": "nothing"}, NotFound),
        ({"model": ModelChoice.STABLE_DIFFUSION_XL}, NotFound),
        ({"model": ModelChoice.DALL_E_3}, NotFound),
    ],
)
async def test_a_bad_call_fails_before_anything_runs(
    pipeline: Pipeline, change: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await pipeline.start(GenerateRequest(**({"prompt": "x"} | change)), Caller())  # type: ignore[arg-type]
    assert pipeline.running == 0


async def test_retry_stops_at_the_first_pass_with_new_seeds(pipeline: Pipeline, instance: Any, scorer: Any) -> None:
    scorer.by_value = lambda value: 9.0 if value in (100, 103) else 1.0
    request = GenerateRequest("x", seed=100, num_images=2, gate=Gate.RETRY, max_attempts=5, style=Style.NONE)
    events = await events_of(await pipeline.start(request, Caller()))
    assert [task.seeds for task in instance.tasks] == [(100, 101), (103,)]
    done = {event.image_index: event.seed for event in events if isinstance(event, ImageCompleted)}
    assert done == {0: 100, 1: 103}
    assert isinstance(events[-1], Completed)
    assert events[-1].attempts == 2
    first_chunk = next(i for i, event in enumerate(events) if isinstance(event, ImageChunk))
    assert not any(isinstance(event, Progress) for event in events[first_chunk:])
    assert {event.attempt for event in events if isinstance(event, Progress)} == {1, 2}


async def test_retry_returns_the_best_when_none_passes(pipeline: Pipeline, scorer: Any) -> None:
    scorer.by_value = lambda value: {100: 1.0, 101: 3.0, 102: 2.0}[value]
    request = GenerateRequest("x", seed=100, gate=Gate.RETRY, max_attempts=3, style=Style.NONE)
    events = await events_of(await pipeline.start(request, Caller()))
    assert [event.seed for event in events if isinstance(event, ImageCompleted)] == [101]
    assert not next(event for event in events if isinstance(event, ImageCompleted)).scores.passed


async def test_enforce_refuses_with_the_scores_and_sends_nothing(pipeline: Pipeline, scorer: Any) -> None:
    scorer.by_value = lambda value: 3.25
    generation = await pipeline.start(GenerateRequest("x", seed=1, gate=Gate.ENFORCE, max_attempts=2), Caller())
    sent: list[Event] = []

    async def listen() -> None:
        async for entry in generation.read():
            sent.append(entry.event)

    with pytest.raises(GateRefused) as caught:
        await listen()
    assert caught.value.metadata["aesthetic_score"] == "3.250"
    assert not any(isinstance(event, ImageChunk) for event in sent)


async def test_enforce_without_a_scorer_is_unavailable_at_once(pipeline: Pipeline, scorer: Any) -> None:
    scorer.reason = "no CLIP is ready"
    with pytest.raises(Unavailable, match="no CLIP is ready"):
        await pipeline.start(GenerateRequest("x", gate=Gate.ENFORCE), Caller())


async def test_a_missing_scorer_never_loses_a_picture(pipeline: Pipeline, scorer: Any) -> None:
    scorer.reason = "no CLIP is ready"
    events = await events_of(await pipeline.start(RED_BAG, Caller()))
    done = next(event for event in events if isinstance(event, ImageCompleted))
    assert done.scores.aesthetic_score is None
    assert done.scores.missing_reasons


async def test_another_attempt_is_not_begun_when_it_would_miss_the_deadline(
    pipeline: Pipeline, instance: Any, scorer: Any
) -> None:
    scorer.by_value = lambda value: 1.0
    request = GenerateRequest("x", seed=1, gate=Gate.RETRY, max_attempts=10, style=Style.NONE)
    instance.hold = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, instance.hold.set)
    generation = await pipeline.start(request, Caller(deadline_seconds=0.5))
    with contextlib.suppress(DeadlineExceeded):  # a machine so slow that even the first attempt is late
        assert isinstance((await events_of(generation))[-1], Completed)
    assert len(instance.tasks) == 1


async def test_accelerations_that_a_model_does_not_use_are_told_as_ignored(pipeline: Pipeline, instance: Any) -> None:
    request = replace(RED_BAG, guidance_interval=GuidanceInterval(0.1, 0.8), step_caching=3)
    completed = (await events_of(await pipeline.start(request, Caller())))[-1]
    assert isinstance(completed, Completed)
    assert (completed.accelerations, completed.ignored_fields) == ((), ("guidance_interval", "step_caching"))
    (task,) = instance.tasks
    assert (task.guidance_start, task.guidance_end, task.step_caching) == (0.1, 0.8, 3)
