"""The server's core inside the caller's process: same pipeline, same models, threads in place of runner processes."""

import asyncio
import os
import warnings
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.openai.parameters import KEY_VARIABLE
from atelier_server.config import load_config
from atelier_server.core import Core
from atelier_server.engine.messages import ImageGenerationRequest, ImageGenerationResult, to_domain, to_result
from atelier_server.errors import FailedPrecondition
from atelier_server.executor.base import Executor
from atelier_server.executor.inprocess import InProcessExecutor
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.frontend.drain import Drain
from atelier_server.frontend.health import HealthMonitor
from atelier_server.pipeline.caller import Caller
from atelier_server.types import Event


class ImageGenerationEngine:
    """Makes pictures in this process.

    Args:
        openai_api_key: Key of OpenAI's API; None takes OPENAI_API_KEY.
        device: auto, cpu, cuda or cuda:N. A GPU that is not there warns, and the CPU is used.
        model_repository: Folder of the models, or its address on s3:// or gs://; None takes the shipped one.
        state_dir: Folder of what outlives the process.
    """

    def __init__(
        self,
        openai_api_key: str | None = None,
        device: str = "auto",
        *,
        model_repository: str | Path | None = None,
        state_dir: str | Path | None = None,
    ) -> None:
        self._device = device
        self._environment = os.environ | ({KEY_VARIABLE: openai_api_key} if openai_api_key else {})
        flags = {"model_repository": model_repository, "state_dir": state_dir}
        self._config = load_config({name: value for name, value in flags.items() if value is not None})
        self._core: Core | None = None
        self._life: asyncio.Task[None] | None = None

    async def initialize(self) -> None:
        """Loads every model that can be loaded; more calls do nothing.

        The engine belongs to the event loop that runs now, and is closed at the latest when asyncio.run ends it.
        """
        if self._core is not None:
            return
        # Threads that spin while they wait stall their neighbours; torch reads this when it is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self._device.startswith("cuda") and not await asyncio.to_thread(_cuda_is_there):
            warnings.warn(f"there is no GPU for device={self._device!r}; the CPU is used", RuntimeWarning, stacklevel=2)
            self._device = "cpu"
        core = self._core = Core(self._config, self._executor, self._environment)
        self._life = asyncio.create_task(self._live(core), name="engine")
        await asyncio.sleep(0)  # a task that is cancelled before it has begun would not close anything
        await core.start()

    async def close(self) -> None:
        """Releases the models. More calls do nothing."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life

    async def _live(self, core: Core) -> None:
        """Lasts until it is cancelled, by `close` or by the end of asyncio.run; then it tidies up."""
        try:
            await asyncio.Event().wait()
        finally:
            self._core = None
            await core.stop()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def generate_image(self, request: ImageGenerationRequest) -> ImageGenerationResult:
        """Makes one picture.

        Raises:
            AtelierError: The request is wrong, or the model failed.
        """
        core = self._ready()
        caller = Caller()
        events: list[Event] = []
        with core.metrics.follow(caller.remaining_seconds) as record:
            generation = await core.pipeline.start(to_domain(request), caller)
            try:
                async with aclosing(generation.read()) as entries:
                    async for entry in entries:
                        record.observe(entry.event)
                        events.append(entry.event)
            finally:
                generation.cancel()
        return to_result(events, request.metadata)

    async def generate_batch(self, requests: Sequence[ImageGenerationRequest]) -> list[ImageGenerationResult]:
        """Makes pictures side by side; their steps share batches. The results come in the order of the requests.

        Raises:
            AtelierError: The first request that failed; the others are cancelled.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.generate_image(request)) for request in requests]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    def get_metrics(self) -> dict[str, Any]:
        """What was done, in the words of GetMetrics; None while nothing can tell."""
        metrics = self._ready().metrics
        summary = metrics.window.summary()
        return {
            "total_generations": metrics.total,
            "cache_hit_rate": summary.cache_hit_rate,
            "avg_generation_time_ms": summary.avg_ms,
            "p50_generation_time_ms": summary.p50_ms,
            "p95_generation_time_ms": summary.p95_ms,
            "p99_generation_time_ms": summary.p99_ms,
            "avg_aesthetic_score": summary.avg_aesthetic,
            "avg_brand_consistency": summary.avg_brand,
            "generations_by_model": dict(metrics.by_model),
            "failed_generations": metrics.failed,
            "success_rate": summary.success_rate,
            "slo_met": summary.slo_met,
            "quality_met": summary.quality_met,
            "brand_consistency_met": summary.brand_consistency_met,
        }

    async def get_health(self) -> dict[str, Any]:
        """How the engine is, in the words of Health."""
        core = self._ready()
        report = HealthMonitor(core.registry, core.metrics, Drain()).report()
        summary = report.summary
        return {
            "status": report.status,
            "reasons": list(report.reasons),
            "initialized": report.initialized,
            "device": report.device,
            "models_available": {
                "stable_diffusion_xl": report.can_diffuse,
                "dalle_3": report.can_call_openai,
                "clip_scoring": report.can_score,
                "brand_embedding": report.can_embed_brands,
            },
            "total_generations": report.total_generations,
            "avg_generation_time_ms": summary.avg_ms,
            "p95_generation_time_ms": summary.p95_ms,
            "avg_aesthetic_score": summary.avg_aesthetic,
            "avg_brand_consistency": summary.avg_brand,
            "slo_met": summary.slo_met,
            "quality_met": summary.quality_met,
            "brand_consistency_met": summary.brand_consistency_met,
            "success_rate": summary.success_rate,
        }

    def _ready(self) -> Core:
        if self._core is None:
            raise FailedPrecondition("the engine is not initialized: await engine.initialize() first")
        return self._core

    def _executor(self, spec: ModelSpec) -> Executor:
        if spec.config["backend"] == "openai":
            return OpenAIExecutor(spec, self._environment)
        if self._device != "auto":
            spec = replace(spec, device=self._device)
        return InProcessExecutor(spec, str(spec.config["backend"]))


def _cuda_is_there() -> bool:
    import torch  # here: importing the engine must stay cheap

    return torch.cuda.is_available()
