"""What may be billed is not asked for twice, and limits of time, places and money hold."""

import asyncio
from dataclasses import replace

import pytest

from atelier_server.errors import AtelierError, DeadlineExceeded, ResourceExhausted
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import (
    OpenAIServer,
    Received,
    Reply,
    encoded,
    file,
    long_reply,
    picture,
    refusal,
    silence,
    stalled,
    streamed,
)
from tests.integration.openai_kit import PATIENCE, TASK, failure, run, started


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
    async for executor in started(service, stall_timeout_seconds=patience):
        service.script(reply)
        error = await failure(executor)
        assert error.reason == reason
        assert len(service.requests) == 1


async def test_a_stream_that_ends_early_is_not_repeated(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(streamed(2, end=False))
    assert (await failure(executor, replace(TASK, preview_every=1))).reason == "UPSTREAM_DAMAGED"
    assert len(service.requests) == 1


async def test_the_callers_deadline_ends_a_stalled_reply(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    service.script(stalled())
    assert isinstance(await failure(executor, replace(TASK, timeout_seconds=0.3)), DeadlineExceeded)
    assert len(service.requests) == 1


async def test_a_request_has_a_time_of_its_own(service: OpenAIServer) -> None:
    async for executor in started(service, request_timeout_seconds=0.3):
        service.script(silence())
        assert (await failure(executor)).reason == "UPSTREAM_TIMEOUT"


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
    async for executor in started(service, max_concurrency=1, max_waiting=1):
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


async def test_limits_of_money_hold(service: OpenAIServer) -> None:
    async for executor in started(service, max_cost_per_call_usd=0.05, max_cost_per_day_usd=0.08):
        error = await failure(executor, replace(TASK, seeds=(1, 2, 3, 4)))
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.field) == ("COST_LIMIT", "num_images")
        assert not service.requests
        await run(executor)
        await run(executor)
        assert executor.status().facts["budget_left_usd"] == pytest.approx(0.08 - 2 * 0.0301)
        assert (await failure(executor)).reason == "SPEND_LIMIT"
        assert len(service.requests) == 2


async def test_calls_side_by_side_keep_the_day_s_limit_together(service: OpenAIServer) -> None:
    async for executor in started(service, max_cost_per_day_usd=0.08):
        ends = await asyncio.gather(*(run(executor) for _ in range(10)), return_exceptions=True)
        assert len(service.requests) == 2
        refused = [end.reason for end in ends if isinstance(end, AtelierError)]
        assert refused == ["SPEND_LIMIT"] * 8
        assert executor.status().facts["budget_left_usd"] == pytest.approx(0.08 - 2 * 0.0301)


async def test_what_a_call_did_not_cost_comes_back_to_the_day(service: OpenAIServer) -> None:
    async for executor in started(service, max_cost_per_day_usd=0.08, max_concurrency=1):
        service.script(refusal(400, "invalid_value", param="size"))
        assert (await failure(executor, replace(TASK, seeds=(1, 2)))).reason == "UPSTREAM_REFUSED"
        assert executor.status().counters["upstream_requests"] == 1, "nothing is asked for beside a failure"
        left = executor.diffuse(TASK)
        await anext(left)
        assert executor.status().facts["budget_left_usd"] < 0.08
        await left.aclose()
        assert executor.status().facts["budget_left_usd"] == pytest.approx(0.08)


async def test_the_counter_of_costs_never_falls(service: OpenAIServer, executor: OpenAIExecutor) -> None:
    answered = asyncio.Event()

    async def refused_later(received: Received, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await refusal(400, "invalid_value", param="size")(received, writer)

    service.script(refused_later)
    failing = asyncio.create_task(failure(executor))
    async with asyncio.timeout(PATIENCE):
        while not service.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    during = executor.status().counters["upstream_cost_microdollars"]
    answered.set()
    await failing
    assert executor.status().counters["upstream_cost_microdollars"] >= during


async def test_nobody_may_wait_where_max_waiting_is_0(service: OpenAIServer) -> None:
    async for executor in started(service, max_concurrency=1, max_waiting=0):
        await run(executor)
        service.script(silence())
        first = asyncio.create_task(run(executor))
        async with asyncio.timeout(PATIENCE):
            while len(service.requests) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await failure(executor)).reason == "QUEUE_FULL"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
