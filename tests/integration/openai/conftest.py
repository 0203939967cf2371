"""The service's double, and an executor that asks it."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.testing.openai_server import OpenAIServer
from tests.integration.openai_kit import started


@pytest.fixture
async def service() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
async def executor(service: OpenAIServer) -> AsyncIterator[OpenAIExecutor]:
    async with aclosing(started(service)) as running:
        async for one in running:
            yield one
