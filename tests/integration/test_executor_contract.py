"""What every executor promises, whatever carries it."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from contextlib import aclosing

import numpy as np
import pytest

from atelier_server.backends.base import (
    Job,
    JobDone,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    JobTensors,
    ModelSpec,
    TensorTask,
)
from atelier_server.backends.echo import EchoBackend
from atelier_server.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from atelier_server.executor.base import LOADING, READY, UNAVAILABLE, UNLOADING, InstanceStatus
from atelier_server.executor.connected import ConnectedExecutor
from atelier_server.executor.inprocess import InProcessExecutor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.runner.lane import MAX_FRAME_BYTES
from tests.integration.executor_kit import QUICK, diffusion_task, echo_spec, run, started, wait_until

Make = Callable[[ModelSpec], ConnectedExecutor]


@pytest.fixture(params=[SubprocessExecutor, InProcessExecutor])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes an executor of each kind."""
    return lambda spec: request.param(spec, "echo", limits=QUICK)


async def test_a_job_tells_everything_in_order(make: Make) -> None:
    async with started(make(echo_spec())) as executor:
        events = await run(executor, diffusion_task(3, seeds=(5, 6), noise_schedule="ddim", preview_every=2))
    kinds = [type(event) for event in events]
    assert kinds == [JobQueued, JobStarted] + [JobStep] * 6 + [JobImage] * 2 + [JobDone]
    assert events[1] == JobStarted("ddim")
    steps = [event for event in events if isinstance(event, JobStep)]
    assert [(step.image_index, step.step, step.total_steps) for step in steps] == [
        (index, step, 3) for step in (1, 2, 3) for index in (0, 1)
    ]
    assert [step.preview is not None for step in steps] == [False, False, True, True, False, False]
    assert set(events[-1].timings_ms) == {"queue", "encode_text", "denoise", "decode"}


async def test_equal_tasks_give_equal_pictures_and_seeds_matter(make: Make) -> None:
    async with started(make(echo_spec())) as executor:
        first = await run(executor, diffusion_task(1, seeds=(5, 6)))
        second = await run(executor, diffusion_task(1, seeds=(6,)))
    pictures = [event.pixels for event in first + second if isinstance(event, JobImage)]
    np.testing.assert_array_equal(pictures[1], pictures[2])
    assert (pictures[0] != pictures[1]).any()


async def test_jobs_run_side_by_side(make: Make) -> None:
    async with started(make(echo_spec(max_rows=2))) as executor:
        results = await asyncio.gather(*(run(executor, diffusion_task(3, prompt=str(n))) for n in range(8)))
    for events in results:
        assert isinstance(events[-1], JobDone)


async def test_a_dropped_job_frees_its_rows_at_the_next_step(make: Make) -> None:
    async with started(make(echo_spec(step_seconds=0.02, max_rows=1))) as executor:
        async with aclosing(executor.diffuse(diffusion_task(100_000))) as events:
            async for event in events:
                if isinstance(event, JobStep) and event.step >= 3:
                    break
        after = await run(executor, diffusion_task(2))  # there is one row: this waits for the other to leave
        status = await executor.refresh()
    assert isinstance(after[-1], JobDone)
    assert status.counters["aborts_total"] == 1
    assert status.counters["steps_after_abort_total"] <= 1
    assert (status.waiting, status.running) == (0, 0)


async def test_a_cancelled_task_drops_its_job_too(make: Make) -> None:
    async with started(make(echo_spec(step_seconds=0.02))) as executor:
        running = asyncio.create_task(run(executor, diffusion_task(100_000)))
        await wait_until(lambda: executor.status().running == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await wait_until(lambda: executor.status().running == 0)


async def test_the_deadline_ends_a_job(make: Make) -> None:
    async with started(make(echo_spec(step_seconds=0.02))) as executor:
        with pytest.raises(DeadlineExceeded, match=r"needs about 2000\.0 s"):
            await run(executor, diffusion_task(100_000, timeout_seconds=30.0))
        with pytest.raises(DeadlineExceeded):  # about a third too long, which noise might explain
            await run(executor, diffusion_task(65, timeout_seconds=1.0))
        await wait_until(lambda: executor.status().running == 0)


async def test_the_backends_errors_arrive_as_they_were_raised(make: Make) -> None:
    async with started(make(echo_spec(max_side=512, max_waiting=0))) as executor:
        with pytest.raises(ResourceExhausted) as full:
            await run(executor, diffusion_task())
        with pytest.raises(InvalidArgument) as unknown:
            await executor.infer(TensorTask("x", {"a": np.zeros(1)}, ("b",)))
        with pytest.raises(InvalidArgument, match="numbers"):
            await executor.infer(TensorTask("x", {"a": np.array(["text"])}))
    assert (full.value.reason, full.value.retry_after_seconds) == ("QUEUE_FULL", 1.0)
    assert unknown.value.field == "outputs"


async def test_a_size_that_the_model_cannot_do_is_refused_with_its_field(make: Make) -> None:
    async with started(make(echo_spec(max_side=512))) as executor:
        with pytest.raises(InvalidArgument) as caught:
            await run(executor, diffusion_task(side=520))
    assert caught.value.field == "width"


async def test_two_live_jobs_cannot_have_one_id(make: Make) -> None:
    async with started(make(echo_spec(step_seconds=0.02))) as executor:
        task = diffusion_task(100_000)
        async with aclosing(executor.diffuse(task)) as events:
            await anext(events)
            with pytest.raises(AlreadyExists):
                await run(executor, task)
            assert [await anext(events) for _ in range(2)]  # the first goes on


async def test_a_failed_step_is_internal_and_the_next_job_works(make: Make) -> None:
    async with started(make(echo_spec(fail_at_step=2, on_prompt="broken"))) as executor:
        with pytest.raises(Internal) as caught:
            await run(executor, diffusion_task(4, prompt="a broken cup"))
        assert "told to fail" not in caught.value.message
        assert isinstance((await run(executor, diffusion_task(4)))[-1], JobDone)


async def test_tensors_go_through(make: Make) -> None:
    inputs = {"pixels": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "ids": np.array([[1, 2]], np.int64)}
    async with started(make(echo_spec())) as executor:
        everything = await executor.infer(TensorTask("x", inputs))
        chosen = await executor.infer(TensorTask("x", inputs, ("ids",)))
        many = await asyncio.gather(*(executor.infer(TensorTask("x", {"n": np.array([n])})) for n in range(50)))
    assert set(everything) == {"pixels", "ids"}
    np.testing.assert_array_equal(everything["pixels"], inputs["pixels"])
    assert list(chosen) == ["ids"]
    assert [int(outputs["n"][0]) for outputs in many] == list(range(50))


async def test_the_largest_picture_crosses(make: Make) -> None:
    async with started(make(echo_spec(max_side=4096))) as executor:
        events = await run(executor, diffusion_task(1, side=4096))
    (image,) = (event for event in events if isinstance(event, JobImage))
    assert image.pixels.nbytes == 48 * 2**20
    assert image.pixels.shape == (4096, 4096, 3)


async def test_the_status_tells_the_models_facts(make: Make) -> None:
    executor = make(echo_spec(native_width=96, native_height=64, default_steps=7))
    assert executor.status().state == UNAVAILABLE
    async with started(executor):
        status = executor.status()
        assert (status.state, status.device, status.dtype, status.restarts) == (READY, "cpu", "uint8", 0)
        assert (status.facts["native_width"], status.facts["native_height"]) == (96, 64)
        assert status.facts["default_steps"] == 7
        assert status.memory_bytes > 2**20
    assert executor.status().state == UNAVAILABLE
    assert executor.status().reason == "stopped"


async def test_changes_of_state_are_told_and_a_faulty_listener_harms_nobody(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def listen(status: InstanceStatus) -> None:
        told.append(status.state)
        raise ZeroDivisionError

    executor = make(echo_spec())
    executor._on_change = listen
    with caplog.at_level(logging.CRITICAL):
        async with started(executor):
            pass
    assert told == [LOADING, READY, UNLOADING, UNAVAILABLE]


async def test_a_model_that_cannot_be_loaded_is_unavailable_with_its_reason(make: Make) -> None:
    executor = make(echo_spec(fail_load="unet/model.safetensors is truncated; fetch it again"))
    with pytest.raises(Unavailable, match="safetensors is truncated") as caught:
        await executor.start()
    assert caught.value.reason == "LOAD_FAILED"
    assert executor.status().state == UNAVAILABLE
    assert "fetch it again" in executor.status().reason
    with pytest.raises(Unavailable, match="not available"):
        await run(executor, diffusion_task())
    assert executor.status().restarts == 0
    with pytest.raises(Unavailable):  # asking again is allowed
        await executor.start()
    await executor.stop()


async def test_a_socket_that_cannot_be_made_is_a_failed_start(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    executor = make(echo_spec())
    with pytest.raises(Unavailable, match="No such file") as caught:
        await executor.start()
    assert caught.value.reason == "LOAD_FAILED"
    assert executor.status().state == UNAVAILABLE
    monkeypatch.undo()
    async with started(executor):
        assert executor.status().state == READY


async def test_calls_while_it_loads_are_told_to_wait(make: Make) -> None:
    executor = make(echo_spec(load_seconds=0.2))
    starting = asyncio.create_task(executor.start())
    await wait_until(lambda: executor.status().state == LOADING)
    with pytest.raises(Unavailable) as caught:
        await run(executor, diffusion_task())
    assert caught.value.reason == "MODEL_LOADING"
    assert caught.value.retry_after_seconds
    await starting
    with pytest.raises(RuntimeError, match="already"):
        await executor.start()
    await executor.stop()


async def test_a_start_that_is_broken_off_leaves_nothing(make: Make) -> None:
    executor = make(echo_spec(load_seconds=0.3))
    starting = asyncio.create_task(executor.start())
    await wait_until(lambda: executor.status().state == LOADING)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (executor.status().state, executor.status().reason) == (UNAVAILABLE, "stopped")


async def test_stopping_loses_the_running_jobs(make: Make) -> None:
    executor = make(echo_spec(step_seconds=0.02))
    await executor.start()
    jobs = [asyncio.create_task(run(executor, diffusion_task(100_000))) for _ in range(2)]
    await wait_until(lambda: executor.status().running == 2)
    await executor.stop()
    for job in jobs:
        with pytest.raises(Unavailable) as caught:
            await job
        assert caught.value.reason == "RUNNER_LOST"
    await executor.stop()  # once more does no harm


async def test_an_engine_that_gives_up_makes_an_in_process_model_unavailable() -> None:
    async with started(InProcessExecutor(echo_spec(fail_at_step=1), "echo", limits=QUICK)) as executor:
        for _ in range(3):
            with pytest.raises(Internal):
                await run(executor, diffusion_task())
        await wait_until(lambda: executor.status().state == UNAVAILABLE)
        assert "3 steps in a row" in executor.status().reason


async def test_an_in_process_model_that_loads_for_too_long_is_given_up() -> None:
    limits = dataclasses.replace(QUICK, load_seconds=0.05)
    executor = InProcessExecutor(echo_spec(load_seconds=0.5), "echo", limits=limits)
    with pytest.raises(Unavailable, match="did not load within"):
        await executor.start()


async def test_tensors_that_are_too_large_together_are_refused_and_nobody_else_is_lost(make: Make) -> None:
    third = np.zeros(MAX_FRAME_BYTES // 3 + 1, np.uint8)
    async with started(make(echo_spec(step_seconds=0.02))) as executor:
        other = asyncio.create_task(run(executor, diffusion_task(20)))
        with pytest.raises(InvalidArgument, match="together") as caught:
            await executor.infer(TensorTask("x", {"a": third, "b": third, "c": third}))
        assert caught.value.field == "inputs"
        assert isinstance((await other)[-1], JobDone)
        assert executor.status().restarts == 0


async def test_a_model_that_answers_too_much_is_refused_and_nobody_else_is_lost() -> None:
    class Blows(EchoBackend):
        def submit(self, job: Job) -> None:
            grown = {name: np.zeros(int(one[0]), np.uint8) for name, one in job.task.inputs.items()}
            job.publish(JobTensors(grown))

    spec = echo_spec()
    async with started(InProcessExecutor(spec, lambda: Blows(spec), limits=QUICK)) as executor:
        with pytest.raises(InvalidArgument, match="together") as caught:
            await executor.infer(TensorTask("x", {"a": np.array([MAX_FRAME_BYTES + 1])}))
        assert caught.value.field == "outputs"
        client = executor._client
        assert (await executor.infer(TensorTask("y", {"a": np.array([3])})))["a"].shape == (3,)
        assert client is executor._client
