"""What the service refuses: what is asked again, what is told, and when it is left alone."""

import asyncio
import time
from dataclasses import replace

import grpc
import pytest

from atelier_server.backends.base import JobDone
from atelier_server.errors import ModerationBlocked, ResourceExhausted, Unavailable
from atelier_server.executor.base import READY, UNAVAILABLE
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.frontend.error_table import rpc_status
from atelier_server.testing.openai_server import OpenAIServer, Reply, file, picture, refusal, streamed
from tests.integration.openai_kit import PATIENCE, TASK, failure, run, started


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


@pytest.mark.parametrize("wish", ["inf", "999999999999999", "Fri, 31 Dec 99999 23:59:59 GMT"])
async def test_no_pause_that_a_service_may_wish_breaks_the_answer(
    service: OpenAIServer, executor: OpenAIExecutor, wish: str
) -> None:
    service.script(*[refusal(429, "rate_limit_exceeded", {"Retry-After": wish})] * 5)
    error = await failure(executor)
    assert error.reason == "UPSTREAM_RATE_LIMITED"
    assert rpc_status(error, "id").code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


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
    async for executor in started(service, max_retries=3, breaker_failures=99):
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


async def test_a_service_that_is_not_there_is_asked_again(service: OpenAIServer) -> None:
    async for executor in started(service, max_retries=2):
        await service.__aexit__()
        assert (await failure(executor)).reason == "UPSTREAM_UNREACHABLE"
        assert executor.status().counters["upstream_requests"] == 3


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


async def test_an_open_circuit_breaker_sends_nothing(service: OpenAIServer) -> None:
    async for executor in started(service, max_retries=0, breaker_failures=2, breaker_seconds=600):
        service.script(refusal(500), refusal(500))
        for _ in range(2):
            assert (await failure(executor)).reason == "UPSTREAM_FAILED"
        assert executor.status().state == UNAVAILABLE
        error = await failure(executor)
        assert error.reason == "UPSTREAM_DOWN"
        assert error.retry_after_seconds == pytest.approx(600, abs=PATIENCE)
        assert len(service.requests) == 2


async def test_the_circuit_breaker_closes_when_the_service_is_back(service: OpenAIServer) -> None:
    async for executor in started(service, max_retries=0, breaker_failures=1, breaker_seconds=0.05):
        service.script(refusal(500))
        assert (await failure(executor)).reason == "UPSTREAM_FAILED"
        async with asyncio.timeout(PATIENCE):
            while executor.status().state != READY:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await run(executor)
        assert len(service.requests) == 2
