"""The openai backend against a real HTTP server that plays the service: every fault, its end, and the requests sent."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image

from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    ModelSpec,
    TensorTask,
)
from atelier_server.errors import (
    AtelierError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ModerationBlocked,
    ResourceExhausted,
    Unavailable,
)
from atelier_server.executor.base import READY, UNAVAILABLE
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import (
    OpenAIServer,
    Received,
    Reply,
    encoded,
    file,
    long_reply,
    picture,
    picture_url,
    refusal,
    silence,
    stalled,
    streamed,
)

KEY = "sk-test-5e6f7a"
PATIENCE = 20.0
TASK = DiffusionTask("job", "a red bag", None, (7,), 1024, 768, 1, 0.0, quality="hd", style="luxury")


@pytest.fixture
async def service() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
async def executor(service: OpenAIServer) -> AsyncIterator[OpenAIExecutor]:
    async with aclosing(_started(service)) as started:
        async for one in started:
            yield one


async def _started(service: OpenAIServer, **parameters: object) -> AsyncIterator[OpenAIExecutor]:
    one = make(service, **parameters)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


def make(service: OpenAIServer, **parameters: object) -> OpenAIExecutor:
    quick = {"first_backoff_seconds": 0.001, "longest_backoff_seconds": 0.01, "stall_timeout_seconds": PATIENCE}
    given = {"role": "diffusion"} | quick | parameters
    spec = ModelSpec("openai_images", "1", Path("/nonexistent"), {name: str(value) for name, value in given.items()})
    return OpenAIExecutor(spec, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": service.base_url})


async def run(executor: OpenAIExecutor, task: DiffusionTask = TASK) -> list[JobEvent]:
    async with asyncio.timeout(PATIENCE), aclosing(executor.diffuse(task)) as events:
        return [event async for event in events]


async def failure(executor: OpenAIExecutor, task: DiffusionTask = TASK) -> AtelierError:
    with pytest.raises(AtelierError) as caught:
        await run(executor, task)
    return caught.value


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


async def test_two_rate_limits_are_waited_out(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    limited = refusal(429, "rate_limit_exceeded", {"Retry-After": "0.05"})
    service.script(limited, limited, picture())
    started = time.monotonic()
    done = (await run(executor))[-1]
    assert time.monotonic() - started >= 0.1, "Retry-After is a lower bound"
    assert len(service.requests) == 3
    assert isinstance(done, JobDone)
    assert done.usage is not None
    assert done.usage.upstream_calls == 3
    assert executor.status().counters["upstream_retries"] == 2


async def test_retry_after_ms_goes_before_retry_after(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(refusal(429, "rate_limit_exceeded", {"retry-after-ms": "1", "Retry-After": "50"}))
    await run(executor)
    assert len(service.requests) == 2


async def test_a_pause_that_is_too_long_is_told_and_not_waited_for(
    service: OpenAIServer, executor: OpenAIExecutor
) -> None:
    service.script(refusal(429, "rate_limit_exceeded", {"Retry-After": "600"}))
    error = await failure(executor)
    assert isinstance(error, ResourceExhausted)
    assert (error.reason, error.retry_after_seconds) == ("UPSTREAM_RATE_LIMITED", 600.0)
    assert len(service.requests) == 1


async def test_a_pause_beyond_the_deadline_is_not_waited_for(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(refusal(429, "rate_limit_exceeded", {"Retry-After": "30"}))
    error = await failure(executor, replace(TASK, timeout_seconds=15.0))
    assert error.reason == "UPSTREAM_RATE_LIMITED"
    assert len(service.requests) == 1


async def test_server_errors_end_with_the_budget(service: OpenAIServer) -> None:
    async for executor in _started(service, max_retries=3, breaker_failures=99):
        service.script(*[refusal(500, "server_error")] * 9)
        error = await failure(executor)
        assert isinstance(error, Unavailable)
        assert error.reason == "UPSTREAM_FAILED"
        assert len(service.requests) == 4
        assert executor.status().counters["upstream_cost_microdollars"] == 0


async def test_the_service_may_forbid_a_retry(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(refusal(503, None, {"x-should-retry": "false"}))
    assert (await failure(executor)).reason == "UPSTREAM_FAILED"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (stalled(), "UPSTREAM_TIMEOUT"),
        (silence(), "UPSTREAM_TIMEOUT"),
        (file(b'{"created": 1, "data": [{"b64', headers={"Content-Type": "application/json"}), "UPSTREAM_BROKEN"),
        (picture(data=[{"b64_json": encoded((64, 64), (1, 2, 3))[:-30]}]), "UPSTREAM_DAMAGED"),
        (picture(data=[{"b64_json": encoded((64, 64), (1, 2, 3))[:-32]}]), "UPSTREAM_DAMAGED"),
        (picture(data=[{"b64_json": "R0lGODlhAQABAAAAACw="}]), "UPSTREAM_DAMAGED"),
        (picture(data=[]), "UPSTREAM_DAMAGED"),
        (long_reply(60_000_000), "UPSTREAM_TOO_LONG"),
        (refusal(302, None, {"Location": "http://127.0.0.1:1/"}), "UPSTREAM_REFUSED"),
    ],
    ids=["stalled", "silent", "cut JSON", "cut base64", "cut PNG", "GIF", "nothing", "60 MB", "redirect"],
)  # fmt: skip
async def test_a_request_that_may_be_billed_is_not_sent_again(service: OpenAIServer, reply: Reply, reason: str) -> None:
    patience = 0.3 if reason == "UPSTREAM_TIMEOUT" else PATIENCE
    async for executor in _started(service, stall_timeout_seconds=patience):
        service.script(reply)
        error = await failure(executor)
        assert error.reason == reason
        assert len(service.requests) == 1


async def test_the_callers_deadline_ends_a_stalled_reply(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(stalled())
    assert isinstance(await failure(executor, replace(TASK, timeout_seconds=0.3)), DeadlineExceeded)
    assert len(service.requests) == 1


async def test_a_request_has_a_time_of_its_own(service: OpenAIServer) -> None:
    async for executor in _started(service, request_timeout_seconds=0.3):
        service.script(silence())
        assert (await failure(executor)).reason == "UPSTREAM_TIMEOUT"


@pytest.mark.parametrize("code", ["moderation_blocked", "content_policy_violation"])
async def test_moderation_is_told_as_the_prompts_fault(
    service: OpenAIServer, executor: OpenAIExecutor, code: str
) -> None:
    service.script(refusal(400, code))
    error = await failure(executor)
    assert isinstance(error, ModerationBlocked)
    assert (error.field, error.reason) == ("prompt", "MODERATION_BLOCKED")
    assert len(service.requests) == 1


async def test_moderation_may_come_inside_a_stream(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(streamed(1, error={"code": "moderation_blocked", "message": "no"}))
    assert isinstance(await failure(executor, replace(TASK, preview_every=1)), ModerationBlocked)
    assert len(service.requests) == 1


async def test_spent_quota_is_not_retried(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(refusal(429, "insufficient_quota"))
    error = await failure(executor)
    assert isinstance(error, ResourceExhausted)
    assert error.reason == "UPSTREAM_QUOTA_SPENT"
    assert len(service.requests) == 1


async def test_a_refused_key_takes_the_model_out(
    service: OpenAIServer, executor: OpenAIExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    service.script(refusal(401, "invalid_api_key", message=f"Incorrect API key provided: {KEY}"))
    error = await failure(executor)
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "UPSTREAM_KEY_REFUSED"
    assert executor.status().state == UNAVAILABLE
    assert isinstance(await failure(executor), FailedPrecondition)
    assert len(service.requests) == 1
    assert KEY not in caplog.text + error.message + executor.status().reason


async def test_the_key_is_never_logged(
    service: OpenAIServer, executor: OpenAIExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await run(executor)
    assert caplog.records
    assert KEY not in caplog.text


async def test_without_a_key_it_says_what_to_set(service: OpenAIServer) -> None:
    for key in ("", "your-api-key", "<key>", "sk-your-key-here", "xxxx"):
        one = OpenAIExecutor(make(service).spec, {"OPENAI_API_KEY": key})
        with pytest.raises(FailedPrecondition, match="OPENAI_API_KEY"):
            await one.start()
        assert one.status().state == UNAVAILABLE
        assert "OPENAI_API_KEY" in one.status().reason
        assert isinstance(await failure(one), FailedPrecondition)


async def test_a_key_may_lie_in_a_file(service: OpenAIServer, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    spec = make(service).spec
    named = {"OPENAI_API_KEY_FILE": str(tmp_path / "key"), "OPENAI_BASE_URL": service.base_url}
    one = OpenAIExecutor(spec, named)
    await one.start()
    await run(one)
    await one.stop()
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"
    missing = OpenAIExecutor(spec, named | {"OPENAI_API_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        await missing.start()


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


async def test_a_stream_that_ends_early_is_not_repeated(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(streamed(2, end=False))
    assert (await failure(executor, replace(TASK, preview_every=1))).reason == "UPSTREAM_DAMAGED"
    assert len(service.requests) == 1


async def test_a_service_that_is_not_there_is_asked_again(service: OpenAIServer) -> None:
    async for executor in _started(service, max_retries=2):
        await service.__aexit__()
        assert (await failure(executor)).reason == "UPSTREAM_UNREACHABLE"
        assert executor.status().counters["upstream_requests"] == 3


async def test_pictures_are_asked_for_side_by_side_within_the_limit(service: OpenAIServer) -> None:
    together = asyncio.Barrier(2)

    async def paired(received: Received, writer: asyncio.StreamWriter) -> None:
        await together.wait()
        await picture()(received, writer)

    async for executor in _started(service, max_concurrency=2):
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


async def test_who_leaves_takes_the_requests_along(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(silence(), silence())
    stream = executor.diffuse(replace(TASK, seeds=(1, 2)))
    async with asyncio.timeout(PATIENCE):
        while len(service.requests) < 2:
            reading = asyncio.ensure_future(anext(stream))
            await asyncio.wait([reading], timeout=0.01)
            if not reading.done():
                while len(service.requests) < 2:  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await stream.aclose()
        while service.aborted < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    status = executor.status()
    assert (status.waiting, status.running) == (0, 0)
    assert status.counters["upstream_cost_microdollars"] > 0, "the service bills what it was asked for"


async def test_the_waiting_line_has_an_end(service: OpenAIServer) -> None:
    async for executor in _started(service, max_concurrency=1, max_waiting=1):
        service.script(silence())
        first = asyncio.create_task(run(executor))
        async with asyncio.timeout(PATIENCE):
            while not service.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            second = asyncio.create_task(run(executor))
            while not executor.status().waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        error = await failure(executor)
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "QUEUE_FULL"
        first.cancel()
        await second


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (refusal(403, "unsupported_country"), "UPSTREAM_KEY_REFUSED"),
        (refusal(404, "model_not_found"), "UPSTREAM_MODEL_UNKNOWN"),
        (refusal(400, "invalid_value", param="prompt"), "INVALID_ARGUMENT"),
        (refusal(400, "invalid_value", param="size"), "UPSTREAM_REFUSED"),
        (refusal(400, "x", {"x-should-retry": "true"}), ""),
        (file(b"<html>", 400), "UPSTREAM_REFUSED"),
        (refusal(409), ""),
        (refusal(408), ""),
    ],
)
async def test_other_refusals(service: OpenAIServer, executor: OpenAIExecutor, reply: Reply, reason: str) -> None:
    service.script(reply)
    if reason:
        assert (await failure(executor)).reason == reason
        assert len(service.requests) == 1
    else:
        await run(executor)
        assert len(service.requests) == 2


async def test_a_damaged_preview_does_not_cost_the_picture(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(streamed(1, partial_picture="R0lGODlhAQABAAAAACw="))
    events = await run(executor, replace(TASK, preview_every=1))
    previews = [event.preview for event in events if isinstance(event, JobStep)]
    assert previews == [None, None]
    assert any(isinstance(event, JobImage) for event in events)


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


async def test_there_are_no_tensors(executor: OpenAIExecutor) -> None:
    with pytest.raises(InvalidArgument):
        await executor.infer(TensorTask("job", {}))
    assert (await executor.refresh()).state == READY


async def test_an_open_circuit_breaker_sends_nothing(service: OpenAIServer) -> None:
    async for executor in _started(service, max_retries=0, breaker_failures=2, breaker_seconds=600):
        service.script(refusal(500), refusal(500))
        for _ in range(2):
            assert (await failure(executor)).reason == "UPSTREAM_FAILED"
        assert executor.status().state == UNAVAILABLE
        error = await failure(executor)
        assert error.reason == "UPSTREAM_DOWN"
        assert error.retry_after_seconds == pytest.approx(600, abs=PATIENCE)
        assert len(service.requests) == 2


async def test_the_circuit_breaker_closes_when_the_service_is_back(service: OpenAIServer) -> None:
    async for executor in _started(service, max_retries=0, breaker_failures=1, breaker_seconds=0.05):
        service.script(refusal(500))
        assert (await failure(executor)).reason == "UPSTREAM_FAILED"
        async with asyncio.timeout(PATIENCE):
            while executor.status().state != READY:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await run(executor)
        assert len(service.requests) == 2


async def test_limits_of_money_hold(service: OpenAIServer) -> None:
    async for executor in _started(service, max_cost_per_call_usd=0.05, max_cost_per_day_usd=0.08):
        error = await failure(executor, replace(TASK, seeds=(1, 2, 3, 4)))
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.field) == ("COST_LIMIT", "num_images")
        assert not service.requests
        await run(executor)
        await run(executor)
        assert executor.status().facts["budget_left_usd"] == pytest.approx(0.08 - 2 * 0.0301)
        assert (await failure(executor)).reason == "SPEND_LIMIT"
        assert len(service.requests) == 2


async def test_dall_e_3_gets_its_own_words(service: OpenAIServer) -> None:
    async for executor in _started(service, upstream_model="dall-e-3"):
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


async def test_an_address_of_the_services_own_host_is_fetched_without_the_key(
    service: OpenAIServer, executor: OpenAIExecutor
) -> None:
    service.script(picture_url("{base}/files/1.png"), file(base64.b64decode(encoded((32, 16), (9, 9, 9)))))
    image = (await run(executor))[3]
    assert isinstance(image, JobImage)
    assert image.pixels.shape == (16, 32, 3)
    fetched = service.requests[1]
    assert (fetched.method, fetched.path) == ("GET", "/files/1.png")
    assert "authorization" not in fetched.headers


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/1.png",
        "http://127.0.0.1:1/1.png",
        "https://127.0.0.1/1.png",
        "https://10.0.0.1/1.png",
        "https://[::1]/1.png",
        "https://nothing.invalid/1.png",
        "file:///etc/passwd",
    ],
)
async def test_other_addresses_are_not_fetched(service: OpenAIServer, executor: OpenAIExecutor, url: str) -> None:
    service.script(picture_url(url))
    assert (await failure(executor)).reason == "UPSTREAM_URL"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "reply", [file(b"", 302, {"Location": "http://127.0.0.1:1/"}), file(b"no picture", 404), file(b"x" * 2_000_000)]
)
async def test_a_fetch_follows_no_redirect_and_has_the_same_limits(service: OpenAIServer, reply: Reply) -> None:
    async for executor in _started(service, max_reply_bytes=1_000_000):
        service.script(picture_url("{base}/1.png"), reply)
        assert (await failure(executor)).reason in ("UPSTREAM_URL", "UPSTREAM_TOO_LONG")
        assert len(service.requests) == 2


async def test_the_server_double_speaks_to_the_official_client(service: OpenAIServer) -> None:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=service.base_url, max_retries=0) as client:
        reply = await client.images.generate(model="gpt-image-2.6-flare", prompt="a bag", size="1024x1024")
        assert reply.data is not None
        assert reply.data[0].b64_json == encoded((1024, 1024), (200, 30, 40))
        assert reply.usage is not None
        assert reply.usage.total_tokens == 1020
        stream = await client.images.generate(
            model="gpt-image-2.6-flare", prompt="a bag", size="1024x1024", stream=True, partial_images=2
        )
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        service.script(
            refusal(429, "rate_limit_exceeded"), refusal(401, "invalid_api_key"), refusal(400, "x", param="size")
        )
        for kind in (openai.RateLimitError, openai.AuthenticationError, openai.BadRequestError):
            with pytest.raises(kind):
                await client.images.generate(model="gpt-image-2.6-flare", prompt="a bag")
