"""A scripted instance and scorer, so that the pipeline's own logic is tested without a runner."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
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
    Tensor,
    TensorTask,
)
from atelier_server.cache.cache import ResultCache
from atelier_server.cache.memory import MemoryCache
from atelier_server.errors import NotFound, Unavailable
from atelier_server.executor.base import READY, Executor, InstanceStatus
from atelier_server.pipeline.orchestrator import Pipeline, PipelineLimits
from atelier_server.pipeline.prompt import load_templates
from atelier_server.pipeline.score import scorer_missing
from atelier_server.types import Gate, GenerateRequest, Scores

FACTS = {"native_width": 64, "native_height": 64, "max_side": 96, "size_multiple": 16, "default_steps": 3}


class ScriptedExecutor(Executor):
    """Makes pictures whose every pixel is the seed modulo 256; `hold` keeps it at a step, `error` ends it there."""

    def __init__(self, name: str = "scripted", role: str = "diffusion", can_refine: bool = False) -> None:
        self.spec = ModelSpec(name, "1", Path("/nonexistent"), {"role": role})
        self.facts = FACTS | {"can_refine": float(can_refine)}
        self.tasks: list[DiffusionTask] = []
        self.closed = 0
        self.hold: asyncio.Event | None = None
        self.error: Exception | None = None
        self.paint = lambda shape, seed: np.full(shape, seed % 256, np.uint8)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def status(self) -> InstanceStatus:
        return InstanceStatus(READY, waiting=2, facts=self.facts)

    async def refresh(self) -> InstanceStatus:
        return self.status()

    async def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        self.tasks.append(task)
        try:
            yield JobQueued(1, 0.5)
            yield JobStarted(task.noise_schedule or "euler")
            for index, seed in enumerate(task.seeds):
                for step in range(task.num_inference_steps):
                    if self.hold is not None:
                        await self.hold.wait()
                    if self.error is not None:
                        raise self.error
                    preview = np.zeros((8, 8, 3), np.uint8) if task.preview_every else None
                    yield JobStep(index, step + 1, task.num_inference_steps, 0.1, preview)
                yield JobImage(index, self.paint((task.height, task.width, 3), seed))
            yield JobDone({"denoise": 5.0}, task.exact)
        finally:
            self.closed += 1

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        raise AssertionError("not a tensor model")


class ScriptedModels:
    """A registry of scripted instances."""

    def __init__(self, *instances: ScriptedExecutor) -> None:
        self.instances = {instance.spec.name: instance for instance in instances}
        self.successors: list[ScriptedExecutor] = []

    def get(self, name: str, version: str = "") -> ScriptedExecutor:
        if name not in self.instances:
            raise NotFound(f"no model {name}", field="model_name")
        return self.instances[name]

    def ready(self, role: str) -> Sequence[ScriptedExecutor]:
        return [instance for instance in self.instances.values() if instance.spec.parameters["role"] == role]

    async def successor(self, lost: Executor) -> ScriptedExecutor:
        if not self.successors:
            raise Unavailable("none is coming")
        return self.successors.pop(0)


class ScriptedScorer:
    """Scores a picture by its first pixel; `reason` makes it a missing scorer."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.by_value: Callable[[int], float] = lambda value: value / 25.5

    async def admit(self, request: GenerateRequest) -> str:
        if self.reason is not None and request.gate is Gate.ENFORCE:
            raise scorer_missing(self.reason)
        return "scripted"

    async def score(self, image: Image.Image, request: GenerateRequest) -> Scores:
        if self.reason is not None:
            return Scores(missing_reasons={"aesthetic_score": self.reason})
        value = int(np.asarray(image)[0, 0, 0])
        return Scores(aesthetic_score=self.by_value(value), aesthetic_threshold=request.aesthetic_threshold)


@pytest.fixture
def instance() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
def models(instance: ScriptedExecutor) -> ScriptedModels:
    return ScriptedModels(instance)


@pytest.fixture
def scorer() -> ScriptedScorer:
    return ScriptedScorer()


@pytest.fixture
def cache() -> Iterator[ResultCache]:
    with ThreadPoolExecutor(1) as pool:
        yield ResultCache(MemoryCache(64 * 1024 * 1024), None, pool)


@pytest.fixture
def pipeline(models: ScriptedModels, scorer: ScriptedScorer, cache: ResultCache) -> Iterator[Pipeline]:
    with ThreadPoolExecutor(2) as pool:
        yield Pipeline(models, scorer, load_templates(), pool, cache, PipelineLimits(heartbeat_seconds=600.0))


@pytest.fixture
def beating_pipeline(models: ScriptedModels, scorer: ScriptedScorer, cache: ResultCache) -> Iterator[Pipeline]:
    with ThreadPoolExecutor(2) as pool:
        yield Pipeline(models, scorer, load_templates(), pool, cache, PipelineLimits(heartbeat_seconds=0.05))
