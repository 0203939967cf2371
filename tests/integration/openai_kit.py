"""What the tests of the openai backend share: an executor that asks the service's double, and jobs for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from atelier_server.backends.base import DiffusionTask, JobEvent, ModelSpec
from atelier_server.errors import AtelierError
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import OpenAIServer

KEY = "sk-test-5e6f7a"
PATIENCE = 20.0
TASK = DiffusionTask("job", "a red bag", None, (7,), 1024, 768, 1, 0.0, quality="hd", style="luxury")


async def started(service: OpenAIServer, **parameters: object) -> AsyncIterator[OpenAIExecutor]:
    """One started executor, for the time of an `async for`; `parameters` are those of config.pbtxt."""
    one = make(service, **parameters)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


def make(service: OpenAIServer, **parameters: object) -> OpenAIExecutor:
    """An executor that is not started; it waits briefly between retries."""
    quick = {"first_backoff_seconds": 0.001, "longest_backoff_seconds": 0.01, "stall_timeout_seconds": PATIENCE}
    given = {"role": "diffusion"} | quick | parameters
    spec = ModelSpec("openai_images", "1", Path("/nonexistent"), {name: str(value) for name, value in given.items()})
    return OpenAIExecutor(spec, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": service.base_url})


async def run(executor: OpenAIExecutor, task: DiffusionTask = TASK) -> list[JobEvent]:
    """Every event of a job."""
    async with asyncio.timeout(PATIENCE), aclosing(executor.diffuse(task)) as events:
        return [event async for event in events]


async def failure(executor: OpenAIExecutor, task: DiffusionTask = TASK) -> AtelierError:
    """The error that a job must end with."""
    with pytest.raises(AtelierError) as caught:
        await run(executor, task)
    return caught.value
