"""A whole server over real runner processes that are killed, stopped and broken while calls run."""

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2 as probe_pb2
from grpc_health.v1 import health_pb2_grpc as probe_pb2_grpc

from atelier.v1 import common_pb2, health_pb2
from atelier_server.backends.base import ModelSpec
from atelier_server.executor.base import READY, Executor
from atelier_server.executor.limits import Limits
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.repository.catalog import WATCH_SECONDS
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.executor_kit import PATIENCE, QUICK, orphan_to_be, wait_until
from tests.integration.grpc_kit import Events, detail, failing, images, request

EXACT = common_pb2.REPRODUCIBILITY_EXACT
STEPS = 25


@asynccontextmanager
async def served(folder: Path, limits: Limits = QUICK, **config: Any) -> AsyncIterator[RunningServer]:
    """A server whose echo model has processes of its own."""

    def factory(spec: ModelSpec) -> Executor:
        return SubprocessExecutor(spec, "echo", limits=limits)

    async with echo_server(folder, executor_factory=factory, **config) as server:
        yield server


async def heard_from_step(
    server: RunningServer, step: int, then: Callable[[], Awaitable[None] | None], **fields: Any
) -> Events:
    """All events of an EXACT call at whose step something is done."""
    asked = request(num_inference_steps=STEPS, reproducibility=EXACT, cache=common_pb2.CACHE_POLICY_BYPASS, **fields)
    events: Events = []
    async for event in images(server).Generate(asked):
        events.append(event)
        if event.HasField("progress") and event.progress.step == step:
            done = then()
            if done is not None:
                await done
            step = -1
    return events


def picture(events: Events) -> bytes:
    return b"".join(event.image_chunk.data for event in events)


def pid_of(server: RunningServer) -> int:
    (instance,) = server.app.registry.state("echo").instances
    return instance.status().pid


async def health(server: RunningServer) -> health_pb2.HealthResponse:
    return await images(server).Health(health_pb2.HealthRequest())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP], ids=lambda number: number.name)
async def test_a_runner_lost_at_step_10_of_25_still_yields_the_exact_bytes(tmp_path: Path, number: int) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    # Down for longer than the registry needs to see it, or there would be no change to watch.
    pause = 4 * WATCH_SECONDS
    limits = dataclasses.replace(QUICK, silence_seconds=2.0, first_backoff_seconds=pause, longest_backoff_seconds=pause)
    async with served(tmp_path, limits) as server:
        undisturbed = await heard_from_step(server, -1, lambda: None)
        probe = probe_pb2_grpc.HealthStub(server.channel).Watch(probe_pb2.HealthCheckRequest(service="model/echo"))
        told = aiter(probe)
        assert (await anext(told)).status == probe_pb2.HealthCheckResponse.SERVING
        events = await heard_from_step(server, 10, lambda: os.kill(pid_of(server), number))
        assert picture(events) == picture(undisturbed)
        assert events[-1].completed.restarts == 1
        assert sum(event.HasField("started") for event in events) == 1
        steps = [event.progress.step for event in events if event.HasField("progress")]
        assert steps.count(1) == 2, "progress starts over"
        states = [(await anext(told)).status, (await anext(told)).status]
        assert states == [probe_pb2.HealthCheckResponse.NOT_SERVING, probe_pb2.HealthCheckResponse.SERVING]
        probe.cancel()
        assert (await health(server)).status == "healthy"


async def test_a_broken_device_ends_its_runner_and_other_calls_are_done_again(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02, lose_device_at_step=3, on_prompt="fatal")
    async with served(tmp_path) as server:
        first = pid_of(server)

        async def fatal() -> None:
            call, began = images(server).Generate(request(prompt="a fatal bag")), False
            async for event in call:
                began = began or event.HasField("progress")
                if began and event.HasField("queued"):  # it was lost, and would be done again
                    call.cancel()
                    return

        others = [asyncio.create_task(heard_from_step(server, -1, lambda: None, seed=seed)) for seed in range(2)]
        await wait_until(lambda: server.app.pipeline.running == 2)
        await fatal()
        ends = [(await other)[-1].completed for other in others]
        assert [end.restarts for end in ends] == [1, 1]
        assert pid_of(server) not in (0, first)


async def test_one_of_two_instances_takes_over_at_once(tmp_path: Path) -> None:
    model = write_echo_model(tmp_path / "models", step_seconds=0.02)
    with (model / "config.pbtxt").open("a") as config:
        config.write("instance_group [ { count: 2 } ]\n")
    never = dataclasses.replace(QUICK, first_backoff_seconds=3600.0, longest_backoff_seconds=3600.0)
    async with served(tmp_path, never) as server:
        instances = server.app.registry.state("echo").instances

        async def kill_the_busy_one() -> None:
            (busy,) = [status for status in [await one.refresh() for one in instances] if status.running]
            os.kill(busy.pid, signal.SIGKILL)

        events = await heard_from_step(server, 3, kill_the_busy_one)
        assert events[-1].completed.restarts == 1
        report = await health(server)
        assert report.status == "degraded"
        assert any("1 of 2 instances are not ready" in reason and "SIGKILL" in reason for reason in report.reasons)


async def test_a_crash_loop_is_critical_and_says_so(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", crash_at_step=1)
    async with served(tmp_path, dataclasses.replace(QUICK, most_quick_crashes=2)) as server:
        error = await failing(images(server).Generate(request()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert detail(error, error_details_pb2.ErrorInfo).reason == "RUNNER_LOST"
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        (instance,) = server.app.registry.state("echo").instances
        await wait_until(lambda: "crash loop" in instance.status().reason)
        report = await health(server)
        assert report.status == "critical"
        assert any("crash loop" in reason for reason in report.reasons)
        assert [row.state for row in report.instances] == ["UNAVAILABLE"]


async def test_runners_that_work_between_crashes_are_in_no_crash_loop(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models")
    async with served(tmp_path, dataclasses.replace(QUICK, most_quick_crashes=2)) as server:
        (instance,) = server.app.registry.state("echo").instances
        for crash in range(1, 4):
            assert await heard_from_step(server, -1, lambda: None)
            os.kill(pid_of(server), signal.SIGKILL)
            await wait_until(
                lambda crash=crash: instance.status().restarts == crash and instance.status().state == READY
            )


async def test_refusals_do_not_wait_for_the_end_of_a_step(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=3600, max_rows=1, max_waiting=1)
    async with served(tmp_path, dataclasses.replace(QUICK, stop_seconds=0.1), slo_policy="shed") as server:
        late = await failing(images(server).Generate(request(), timeout=PATIENCE))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "computing" in str(late.details()), "the server said so, and before the time was over"
        shed = await failing(images(server).Generate(request()))
        assert shed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(shed, error_details_pb2.ErrorInfo).reason == "OBJECTIVE_MISSED"
        assert detail(shed, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0


async def test_a_full_queue_refuses_during_a_step(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=3600, max_rows=1, max_waiting=1)
    async with served(tmp_path, dataclasses.replace(QUICK, stop_seconds=0.1)) as server:
        calls = []
        for waiting in (0, 1):
            calls.append(images(server).Generate(request(seed=waiting)))
            async for event in calls[-1]:
                if event.HasField("started") or (waiting and event.queued.HasField("estimated_completion")):
                    break
        assert event.queued.position == 1, "the call that runs has less to do"
        full = await failing(images(server).Generate(request(seed=9)))
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(full, error_details_pb2.ErrorInfo).reason == "QUEUE_FULL"
        assert detail(full, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        for call in calls:
            call.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems wake nobody")
def test_a_stopped_runner_does_not_outlive_a_killed_server(tmp_path: Path) -> None:
    server, runner = orphan_to_be(tmp_path)
    assert int(Path(f"/proc/{runner.pid}/oom_score_adj").read_text()) > 0, "it goes before the server does"
    runner.suspend()
    server.kill()
    server.wait(PATIENCE)
    runner.wait(PATIENCE)
    assert not runner.is_running()
