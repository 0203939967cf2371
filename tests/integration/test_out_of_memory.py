"""A shortage of memory as callers of a real server see it: the picture, EXACT, Health, the next call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.v1 import common_pb2, health_pb2
from atelier_server.backends.base import Backend, ModelSpec
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.executor.base import Executor
from atelier_server.executor.inprocess import InProcessExecutor
from atelier_server.executor.limits import Limits
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import Events, heard, images

EXACT = common_pb2.REPRODUCIBILITY_EXACT


class ShortBackend(SdxlBackend):
    """Its UNet fails whenever rows times pixels exceed one row of 128 x 128, while `short`, until it is sliced."""

    short = True

    def load(self) -> None:
        super().load()
        original, unet = self._model.runner.predict, self._model._parts[0]

        def predict(sample: torch.Tensor, *rest: Any) -> torch.Tensor:
            area = sample.shape[0] * sample.shape[2] * sample.shape[3] * self._model.codec.factor**2
            sliced = all("Sliced" in type(one).__name__ for one in unet.attn_processors.values())
            if self.short and area > 128 * 128 and not sliced:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return original(sample, *rest)

        self._model.runner.predict = predict  # type: ignore[method-assign]


def executor(spec: ModelSpec) -> Executor:
    def create() -> Backend:
        return ShortBackend(spec)

    backend: Any = create if spec.config["backend"] == "sdxl" else str(spec.config["backend"])
    return InProcessExecutor(spec, backend, limits=Limits(heartbeat_seconds=0.05))


@pytest.fixture
async def short_server(
    starter_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningServer]:
    monkeypatch.setattr(ShortBackend, "short", True)
    options: dict[str, Any] = {"model_repository": starter_repository, "load_model": ("starter",)}
    async with echo_server(tmp_path, executor_factory=executor, **options) as server:
        yield server


async def health(server: RunningServer, wanted: str) -> health_pb2.HealthResponse:
    """Health, once the server knows of the wanted status."""
    async with asyncio.timeout(60):
        while True:
            answer = await images(server).Health(health_pb2.HealthRequest())
            if answer.status == wanted:
                return answer
            await asyncio.sleep(0.02)


def reproducibility(events: Events) -> int:
    return events[-1].completed.reproducibility


async def test_the_picture_comes_health_tells_and_the_next_call_is_as_always(short_server: RunningServer) -> None:
    answer = await health(short_server, "healthy")
    assert {one.execution for one in answer.instances if one.model == "starter"} == {"torch"}
    first = await heard(short_server, reproducibility=EXACT)
    assert any(event.HasField("image_completed") for event in first)
    assert reproducibility(first) == common_pb2.REPRODUCIBILITY_BATCHED, "it was not exact, and says so"
    answer = await health(short_server, "degraded")
    assert any("starter: out of memory" in reason for reason in answer.reasons)
    ShortBackend.short = False
    second = await heard(short_server, reproducibility=EXACT, seed=8)
    assert reproducibility(second) == EXACT
    await health(short_server, "healthy")
