"""What a job of the openai backend gives: events, previews, several pictures, what is done to what came."""

import asyncio
import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atelier_server.backends.base import JobDone, JobImage, JobQueued, JobStarted, JobStep, TensorTask
from atelier_server.errors import InvalidArgument
from atelier_server.executor.base import READY
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import OpenAIServer, Received, picture, streamed
from tests.integration.openai_kit import KEY, TASK, failure, run, started


async def test_a_picture_comes_with_the_events_of_local_generation(
    service: OpenAIServer, executor: OpenAIExecutor
) -> None:
    events = await run(executor)
    assert [type(event) for event in events] == [JobQueued, JobStarted, JobStep, JobImage, JobDone]
    started, image, done = events[1], events[3], events[4]
    assert isinstance(started, JobStarted)
    assert (started.width, started.height) == (1024, 768)
    assert isinstance(image, JobImage)
    assert image.pixels.shape == (768, 1024, 3)
    assert np.all(image.pixels == (200, 30, 40))
    assert isinstance(done, JobDone)
    assert done.model_used == "gpt-image-2.6-flare"
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.upstream_calls) == (20, 1000, 1)
    assert done.usage.estimated_cost_usd == pytest.approx((20 * 5 + 1000 * 30) / 1e6)
    [request] = service.requests
    assert request.path == "/v1/images/generations"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    expected = {"model": "gpt-image-2.6-flare", "prompt": "a red bag", "size": "1024x768", "quality": "medium", "n": 1}
    assert request.body == expected | {"output_format": "png", "moderation": "auto"}


async def test_partial_pictures_become_previews(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    events = await run(executor, replace(TASK, width=1600, height=1200, preview_every=1))
    steps = [event for event in events if isinstance(event, JobStep)]
    assert [(step.step, step.total_steps) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for index, step in enumerate(steps[:3]):
        assert step.preview is not None
        assert step.preview.shape == (768, 1024, 3)
        assert np.all(step.preview == (60 * index, 0, 0))
    [request] = service.requests
    assert (request.body["stream"], request.body["partial_images"]) == (True, 3)
    await run(executor, replace(TASK, preview_every=3))
    assert service.requests[1].body["partial_images"] == 1


@pytest.mark.parametrize("damaged", ["R0lGODlhAQABAAAAACw=", "no base64"])
async def test_a_damaged_preview_does_not_cost_the_picture(
    service: OpenAIServer, executor: OpenAIExecutor, damaged: str
) -> None:
    service.script(streamed(1, partial_picture=damaged))
    events = await run(executor, replace(TASK, preview_every=1))
    previews = [event.preview for event in events if isinstance(event, JobStep)]
    assert previews == [None, None]
    assert any(isinstance(event, JobImage) for event in events)


async def test_pictures_are_asked_for_side_by_side_within_the_limit(service: OpenAIServer) -> None:
    together = asyncio.Barrier(2)

    async def paired(received: Received, writer: asyncio.StreamWriter) -> None:
        await together.wait()
        await picture()(received, writer)

    async for executor in started(service, max_concurrency=2):
        service.script(*[paired] * 4)
        task = replace(TASK, seeds=(1, 2, 3, 4, 5))
        events = await run(executor, task)
        assert sorted(event.image_index for event in events if isinstance(event, JobImage)) == [0, 1, 2, 3, 4]
        assert len(service.requests) == 5
        assert service.most_at_once == 2
        done = events[-1]
        assert isinstance(done, JobDone)
        assert done.usage is not None
        assert (done.usage.upstream_calls, done.usage.total_tokens) == (5, 5100)


async def test_transparency_lies_on_white(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(buffer, "PNG")
    service.script(picture(data=[{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]))
    image = (await run(executor))[3]
    assert isinstance(image, JobImage)
    assert np.all(image.pixels == 255)


async def test_a_picture_that_unfolds_without_end_is_refused(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    buffer = io.BytesIO()
    Image.new("1", (8192, 8192)).save(buffer, "PNG")
    service.script(picture(data=[{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]))
    assert (await failure(executor)).reason == "UPSTREAM_DAMAGED"


async def test_dall_e_3_gets_its_own_words(service: OpenAIServer) -> None:
    async for executor in started(service, upstream_model="dall-e-3"):
        service.script(picture(usage=None))
        task = replace(TASK, width=1344, height=768, quality="standard", style="casual", preview_every=1)
        done = (await run(executor, task))[-1]
        body = service.requests[0].body
        assert body == {
            "model": "dall-e-3",
            "prompt": "a red bag",
            "n": 1,
            "size": "1792x1024",
            "quality": "standard",
            "style": "natural",
            "response_format": "b64_json",
        }
        assert isinstance(done, JobDone)
        assert done.usage is not None
        assert done.usage.estimated_cost_usd == pytest.approx(0.08)


async def test_there_are_no_tensors(executor: OpenAIExecutor) -> None:
    with pytest.raises(InvalidArgument):
        await executor.infer(TensorTask("job", {}))
    assert (await executor.refresh()).state == READY
