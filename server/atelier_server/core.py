"""Everything of a server but its transport: what is loaded, the pipeline over it, and the numbers about both.

The gRPC front end and the in-process engine are two ways into the same core.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from atelier_server.backends.base import ModelSpec
from atelier_server.cache.cache import ResultCache
from atelier_server.cache.disk import DiskCache
from atelier_server.cache.memory import MemoryCache
from atelier_server.config import ServerConfig
from atelier_server.executor.base import Executor
from atelier_server.executor.ensemble import EnsembleExecutor
from atelier_server.pipeline.brand_parts import BrandParts
from atelier_server.pipeline.clip_scorer import ClipScorer
from atelier_server.pipeline.judging import Judging
from atelier_server.pipeline.orchestrator import Pipeline, PipelineLimits
from atelier_server.pipeline.prompt import DEFAULT_TEMPLATES, load_templates
from atelier_server.pipeline.safety import load_gate
from atelier_server.pipeline.score import ModelScorer
from atelier_server.repository.overrides import Overrides
from atelier_server.repository.registry import Registry
from atelier_server.repository.remote import open_repository
from atelier_server.telemetry.inference import InferenceStatistics
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.telemetry.window import SLO_MS

ExecutorFactory = Callable[[ModelSpec], Executor]

FINISHING_THREADS = min(4, os.cpu_count() or 1)
"""Resampling and encoding share the cores with the diffusion runner; so do decoding and scoring."""
BRAND_THREADS = 4
"""They mostly wait for a database, which nothing else should do."""


class Core:
    """The parts, put together but not started.

    Args:
        config: What was configured.
        executor_factory: Makes the executor of a model instance.
        environment: Where models' required variables are looked up; None: the process's own.

    Raises:
        InvalidArgument: There is no model repository.
    """

    def __init__(
        self, config: ServerConfig, executor_factory: ExecutorFactory, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.metrics = GenerationMetrics(config.metrics_window_seconds)
        self.inference = InferenceStatistics()
        self.pool = ThreadPoolExecutor(FINISHING_THREADS, thread_name_prefix="finish")
        self.registry: Registry[Executor] = Registry(
            open_repository(config.model_repository, config.repository_cache, environment),
            self._executor(executor_factory),
            control_mode=config.model_control_mode,
            load_model=config.load_model,
            dtype=config.dtype,
            retire_timeout_seconds=config.drain_timeout_seconds,
            overrides=Overrides(config.state_dir / "overrides"),
        )
        url = config.database_url.get_secret_value() if config.database_url else ""
        self._brand_pool = ThreadPoolExecutor(BRAND_THREADS, thread_name_prefix="brand")
        self._judging_pool = ThreadPoolExecutor(FINISHING_THREADS, thread_name_prefix="judge")
        self.brands = BrandParts(self.registry, self._brand_pool, config.state_dir / "brands", url)
        self.registry.on_change(lambda state: self.brands.reembedder.nudge())
        scorer = ModelScorer(ClipScorer(self.registry), self.brands.looks, self._judging_pool, config.default_brand)
        self.judging = Judging(scorer)
        self.pipeline = Pipeline(
            self.registry,
            scorer,
            load_templates(config.prompt_templates or DEFAULT_TEMPLATES),
            self.pool,
            _result_cache(config, self.pool),
            PipelineLimits(
                config.heartbeat_seconds,
                config.event_log_capacity,
                config.result_keep_seconds,
                config.result_keep_bytes,
                SLO_MS / 1000 if config.slo_policy == "shed" else 0.0,
                config.log_prompts,
            ),
            load_gate(config.safety_gate) if config.safety_gate else None,
        )

    def _executor(self, factory: ExecutorFactory) -> ExecutorFactory:
        """Ensembles run here, whatever carries the models that they chain."""
        derived = str((self.config.state_dir / "derived").absolute())

        def create(spec: ModelSpec) -> Executor:
            if "ensemble_scheduling" in spec.config:
                return EnsembleExecutor(spec, self.registry, self.inference)
            return factory(replace(spec, derived_folder=derived, compile=self.config.compile or ""))

        return create

    async def start(self) -> None:
        """Returns when every model that can load has loaded."""
        await asyncio.gather(self.registry.start_all(), self.brands.start())

    async def stop(self) -> None:
        """Ends the models' instances and the threads."""
        await self.brands.stop()
        await self.registry.stop_all()
        for pool in (self.pool, self._brand_pool, self._judging_pool):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _result_cache(config: ServerConfig, pool: ThreadPoolExecutor) -> ResultCache:
    folder = config.state_dir / "cache"
    disk = DiskCache(folder, config.cache_disk_bytes) if config.cache_disk_bytes else None
    return ResultCache(MemoryCache(config.cache_memory_bytes), disk, pool)
