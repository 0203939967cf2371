"""The composition root: makes the parts of a server, puts them together, starts and ends them."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

import grpc

from atelier.v1 import (
    brand_pb2,
    brand_pb2_grpc,
    image_generation_pb2,
    image_generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)
from atelier_server._generated.atelier.kserve import grpc_service_pb2_grpc
from atelier_server.backends.base import ModelSpec
from atelier_server.config import ServerConfig, is_loopback, split_address
from atelier_server.core import Core, ExecutorFactory
from atelier_server.errors import InvalidArgument
from atelier_server.executor.base import Executor
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.executor.subprocess import SubprocessExecutor
from atelier_server.frontend.access import Access
from atelier_server.frontend.drain import Drain
from atelier_server.frontend.health import HealthMonitor
from atelier_server.frontend.instance_numbers import model_numbers
from atelier_server.frontend.kserve.servicer import SERVICE as INFERENCE_SERVICE
from atelier_server.frontend.kserve.servicer import InferenceServicer
from atelier_server.frontend.metrics_http import MetricsServer
from atelier_server.frontend.process import run_until_signalled
from atelier_server.frontend.reflection import add_reflection
from atelier_server.frontend.server import bind, join_address, make_server, raise_open_files
from atelier_server.frontend.servicers.brand import BrandServicer
from atelier_server.frontend.servicers.generation import ImageGenerationServicer
from atelier_server.frontend.servicers.model import ModelServicer
from atelier_server.frontend.serving import HEALTH_SERVICE, ServingStatus
from atelier_server.frontend.tls import CertificateContext
from atelier_server.repository.poller import Poller
from atelier_server.security.guard import Guard
from atelier_server.telemetry.calls import CallMetrics
from atelier_server.telemetry.instance_metrics import InstanceCollector
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.telemetry.push import Push, start_push
from atelier_server.telemetry.tracing import configure_tracing, shutdown_tracing

IMAGE_SERVICE: str = image_generation_pb2.DESCRIPTOR.services_by_name["ImageGenerationService"].full_name
BRAND_SERVICE: str = brand_pb2.DESCRIPTOR.services_by_name["BrandService"].full_name
MODEL_SERVICE: str = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name

CLOSE_SECONDS = 2.0
"""What open Health.Watch and reflection streams get at the end, which never end by themselves, and what calls get that
came in the very last moment, to be refused in a way that callers understand; gRPC would end them as CANCELLED."""
UNOBSERVED_POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class App:
    """One server: `start`, then `drain` (or not), then `stop`. Ports are taken when it is made.

    Args:
        config: What was configured.
        executor_factory: Makes the executor of a model instance.

    Raises:
        InvalidArgument: A port is taken, or there is no model repository.
    """

    def __init__(self, config: ServerConfig, executor_factory: ExecutorFactory) -> None:
        self.config = config
        self.core = Core(config, executor_factory)
        self.metrics = self.core.metrics
        self.registry = self.core.registry
        self.pipeline = self.core.pipeline
        self._drain = Drain()
        self._health = HealthMonitor(self.registry, self.metrics, self._drain)
        self._inference = InferenceServicer(self.core, self._drain)
        services = [BRAND_SERVICE, MODEL_SERVICE, INFERENCE_SERVICE, HEALTH_SERVICE]
        self._serving = ServingStatus(self.registry, self._health, generating=[IMAGE_SERVICE], others=services)
        guard = Guard(config.tokens_file) if config.tokens_file else None
        self._server = self._make_server(Access(guard, config.max_concurrent_calls))
        self.address = bind(self._server, config)
        InstanceCollector(lambda: model_numbers(self.registry), self.metrics.registry)
        self._metrics_server = _metrics_server(config, self.metrics, lambda: self._serving.ready, guard)
        host, _ = split_address(config.metrics_listen)
        self.metrics_address = join_address(host, self._metrics_server.port)
        self._poller: asyncio.Task[None] | None = None
        self._push: Push | None = None

    async def start(self) -> None:
        """Answers calls at once, and returns when every model that can load has loaded."""
        self._push = start_push(self.metrics.registry)
        await self._serving.start()
        await self._server.start()
        poller = Poller(self.registry) if self.config.model_control_mode == "poll" else None
        if poller is not None:
            await poller.begin()
        await self.core.start()
        if poller is not None:
            polling = poller.run(self.config.repository_poll_seconds)
            self._poller = asyncio.create_task(polling, name="poll the model repository")
        await self._serving.publish()

    async def drain(self) -> None:
        """Says NOT_SERVING, goes on for the drain delay, then refuses new generations and waits for those inside."""
        await self._serving.stop()
        await asyncio.sleep(self.config.drain_delay_seconds)
        self._drain.close()
        logger.info("draining: %d generations are running", self.pipeline.running)
        try:
            async with asyncio.timeout(self.config.drain_timeout_seconds):
                await self._drain.idle()
                while self.pipeline.running:  # noqa: ASYNC110 - kept for callers who left; rare, and only at the end
                    await asyncio.sleep(UNOBSERVED_POLL_SECONDS)
        except TimeoutError:
            logger.warning("drain timeout: %d generations are cancelled", self.pipeline.running)

    async def stop(self) -> None:
        """Ends everything now; what still runs is cancelled."""
        self._drain.close()
        await self._serving.stop()
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
        await self._server.stop(CLOSE_SECONDS)
        self._inference.close()
        await self.core.stop()
        await asyncio.to_thread(self._metrics_server.stop)
        if self._push is not None:
            await asyncio.to_thread(self._push.stop)

    def _make_server(self, access: Access) -> grpc.aio.Server:
        server = make_server(self.config, CallMetrics(self.metrics.registry), access)
        generation = ImageGenerationServicer(self.pipeline, self.core.judging, self._health, self.metrics, self._drain)
        image_generation_pb2_grpc.add_ImageGenerationServiceServicer_to_server(generation, server)
        brand_pb2_grpc.add_BrandServiceServicer_to_server(BrandServicer(self.core.brands.brands), server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self.registry), server)
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._inference, server)
        self._serving.add_to(server)
        add_reflection(server, [IMAGE_SERVICE, BRAND_SERVICE, MODEL_SERVICE, INFERENCE_SERVICE, HEALTH_SERVICE])
        return server


async def build(config: ServerConfig, executor_factory: ExecutorFactory | None = None) -> App:
    """Makes a server that is not started yet; every model instance gets a process of its own unless told otherwise.

    Raises:
        InvalidArgument: A port is taken, or there is no model repository.
    """
    return App(config, executor_factory or subprocess_executor)


def serve(config: ServerConfig) -> int:
    """Runs a server until it is told to end by SIGTERM or SIGINT.

    Returns:
        The process's exit status, 0.

    Raises:
        AtelierError: It cannot be started: a port is taken, or there is no model repository.
    """
    logger.info("configuration: %s", json.dumps(config.effective()))
    raise_open_files(config.max_connections)

    async def live() -> None:
        await run_until_signalled(await build(config))

    configure_tracing("atelier-server")
    try:
        asyncio.run(live())
    finally:
        shutdown_tracing()
    return 0


def subprocess_executor(spec: ModelSpec) -> Executor:
    """An executor with a runner process; in this process for models that are elsewhere: no runner has the key."""
    if spec.config["backend"] == "openai":
        return OpenAIExecutor(spec)
    return SubprocessExecutor(spec, str(spec.config["backend"]))


def _metrics_server(
    config: ServerConfig, metrics: GenerationMetrics, ready: Callable[[], bool], guard: Guard | None
) -> MetricsServer:
    host, port = split_address(config.metrics_listen)
    tls = None
    if config.tls_cert and config.tls_key and not is_loopback(config.metrics_listen):
        tls = CertificateContext(config.tls_cert, config.tls_key)
    try:
        return MetricsServer(host, port, metrics.registry, ready, guard, tls)
    except OSError as error:
        message = f"cannot listen on {config.metrics_listen}: {error.strerror}"
        raise InvalidArgument(message, field="metrics_listen") from None
