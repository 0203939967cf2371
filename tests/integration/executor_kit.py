"""What the executor tests share: tasks, specs and patience."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil

from atelier_server.backends.base import DiffusionTask, JobEvent, ModelSpec
from atelier_server.executor.base import Executor
from atelier_server.executor.limits import Limits

PATIENCE = 20.0
QUICK = Limits(
    load_seconds=PATIENCE,
    heartbeat_seconds=0.05,
    silence_seconds=PATIENCE,
    stall_seconds=PATIENCE,
    first_backoff_seconds=0.05,
    longest_backoff_seconds=0.1,
    stop_seconds=PATIENCE,
)
"""Limits that notice faults quickly."""

_ids = itertools.count(1)


def echo_spec(**parameters: object) -> ModelSpec:
    """An echo model named `echo` with these parameters."""
    return ModelSpec("echo", "1", Path("/nonexistent"), {name: str(value) for name, value in parameters.items()})


def diffusion_task(steps: int = 4, prompt: str = "a cup", side: int = 64, **changes: object) -> DiffusionTask:
    """A task with an id of its own."""
    fields = {"seeds": (1,), "guidance_scale": 7.5, "negative_prompt": None} | changes
    return DiffusionTask(
        job_id=f"job-{next(_ids)}", prompt=prompt, width=side, height=side, num_inference_steps=steps, **fields
    )


async def run(executor: Executor, task: DiffusionTask) -> list[JobEvent]:
    """All events of a job."""
    async with aclosing(executor.diffuse(task)) as events:
        return [event async for event in events]


async def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, and fails when it does not come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - conditions of other processes have no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(executor: Executor) -> AsyncIterator[Executor]:
    """The executor, started, and stopped at the end."""
    await executor.start()
    try:
        yield executor
    finally:
        await executor.stop()


def orphan_to_be(folder: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process that supervises a runner, and the runner."""
    script = """
import asyncio
from atelier_server.executor.subprocess import SubprocessExecutor
from tests.integration.executor_kit import echo_spec
async def main():
    executor = SubprocessExecutor(echo_spec(), "echo")
    await executor.start()
    print(executor.status().pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    with server.stdout:
        return server, psutil.Process(int(server.stdout.readline()))
