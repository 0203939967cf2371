"""inference.GRPCInferenceService: Triton's protocol over the same models and pipeline. It only translates."""

import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import NoReturn

import grpc

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve import grpc_service_pb2_grpc as rpc
from atelier_server.core import Core
from atelier_server.errors import NotImplementedYet, PermissionDenied, Unavailable
from atelier_server.frontend.access import caller_of, calling, is_local
from atelier_server.frontend.drain import Drain
from atelier_server.frontend.kserve import metadata
from atelier_server.frontend.kserve.inference import Inference
from atelier_server.frontend.kserve.log_settings import LogSettings
from atelier_server.frontend.kserve.overrides import read_override, read_unload_dependents
from atelier_server.frontend.kserve.shared_memory import ClientsMemory, SharedMemory
from atelier_server.frontend.kserve.statistics import statistics_response
from atelier_server.frontend.kserve.stream import InferStream, Requests
from atelier_server.frontend.kserve.targets import Targets, triton_codes
from atelier_server.frontend.kserve.trace_settings import TraceSettings, log_trace
from atelier_server.repository.state import READY
from atelier_server.telemetry.inference_metrics import InferenceCollector
from atelier_server.telemetry.tracing import unrecorded

Context = grpc.aio.ServicerContext[object, object]
SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
GRPC_ERROR = ("triton_grpc_error", "true")
"""Metadata that makes a stream's first error its status."""

logger = logging.getLogger(__name__)


class InferenceServicer(rpc.GRPCInferenceServiceServicer):
    """All 20 methods.

    Args:
        core: The server's parts.
        drain: Refuses new inferences when the server ends.
    """

    def __init__(self, core: Core, drain: Drain) -> None:
        self._registry = core.registry
        self._drain = drain
        self._statistics = core.inference
        InferenceCollector(self._statistics, core.metrics.registry)
        self._targets = Targets(core.registry)
        self._clients_memory = ClientsMemory()
        self._inference = Inference(core, self._targets, self._clients_memory)
        self._logs = LogSettings()
        self._traces = TraceSettings()

    def close(self) -> None:
        """Lets go of the clients' shared memory."""
        self._clients_memory.close()

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """Always, or there is no answer."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Started, not ending, and no model lost that was ready: Triton's strict readiness."""
        lost = any(state.was_ready and state.state != READY for state in self._registry.models())
        return pb.ServerReadyResponse(ready=self._registry.initialized and not self._drain.closed and not lost)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether its next request would be taken."""
        return pb.ModelReadyResponse(ready=self._targets.is_ready(request.name, request.version))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""
        return metadata.server_metadata()

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """What a loaded model takes and gives."""
        return metadata.model_metadata(self._targets.find(request.name, request.version))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """A loaded model's configuration."""
        return metadata.model_config(self._targets.find(request.name, request.version))

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """One request, one reply; a picture model gives its final picture."""
        with self._drain.generation(), self._traced(request), triton_codes():
            return await self._inference.one(request, caller_of(context))

    async def ModelStreamInfer(
        self, request_iterator: Requests, context: Context
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Any number of requests at once. Leaving the stream cancels them."""
        fail_on_error = GRPC_ERROR in {(key, value) for key, value in context.invocation_metadata() or ()}

        async def answer(request: pb.ModelInferRequest) -> AsyncGenerator[pb.ModelInferResponse, None]:
            caller = caller_of(context)
            caller.account.request()
            with self._drain.generation(), self._traced(request), triton_codes():
                async with aclosing(self._inference.stream(request, caller)) as responses:
                    async for response in responses:
                        yield response

        stream = InferStream(answer, fail_on_error=fail_on_error)
        async with aclosing(stream.run(request_iterator)) as messages:
            async for message in messages:
                yield message

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """What was counted for a model, or for all."""
        states = [self._targets.state(request.name, request.version)] if request.name else self._registry.models()
        return statistics_response(states, request.version, self._statistics)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """The models of the repository."""
        _refuse_repository_name(request.repository_name)
        return metadata.repository_index(self._registry.models(), ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Answers when the model is ready; a running one goes on until then, and stays when the new one fails.

        The request may bring a configuration and files; they hold until the model is loaded anew or unloaded.
        """
        _refuse_repository_name(request.repository_name)
        self._check_control()
        override = read_override(request)
        with triton_codes():
            await self._registry.load(request.model_name, override)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Answers when the model's processes are gone, and their memory with them."""
        _refuse_repository_name(request.repository_name)
        self._check_control()
        with_its_parts = read_unload_dependents(request)
        with triton_codes():
            await self._registry.unload(request.model_name, with_its_parts=with_its_parts)
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """The regions that are registered."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._memory.regions(request.name):
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Opens a region of this machine's memory."""
        if not is_local(context):
            raise PermissionDenied("shared memory is for callers on the server's own machine", reason="NOT_LOCAL")
        self._memory.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forgets a region, or all."""
        self._memory.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """Refuses, and says why."""
        _refuse_cuda()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Refuses, and says why."""
        _refuse_cuda()

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Refuses, and says why."""
        _refuse_cuda()

    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        """Changes what is traced, and answers with all settings."""
        if request.model_name:
            self._targets.state(request.model_name)
        settings = ((name, tuple(setting.value)) for name, setting in request.settings.items())
        self._traces.change(request.model_name, settings)
        return self._traces.response(request.model_name)

    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """Changes what is logged, and answers with all settings."""
        self._logs.change(request)
        return self._logs.response()

    @property
    def _memory(self) -> SharedMemory:
        """The caller's."""
        return self._clients_memory.of(calling().name)

    def _check_control(self) -> None:
        if self._registry.control_mode != "explicit":
            raise Unavailable(
                "explicit model load / unload is not allowed under --model-control-mode "
                f"{self._registry.control_mode}; start the server with explicit",
                reason="MODEL_CONTROL_MODE",
            )

    @contextmanager
    def _traced(self, request: pb.ModelInferRequest) -> Iterator[None]:
        model = request.model_name if self._targets.knows(request.model_name) else ""  # names are not strangers' to add
        if not self._traces.wants(model):
            with unrecorded(self._traces.rules(model)):
                yield
            return
        began, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "succeeded"
        finally:
            log_trace(request, (time.perf_counter() - began) * 1000.0, outcome)


def _refuse_repository_name(name: str) -> None:
    if name:
        raise NotImplementedYet("'repository_name' specification is not supported", field="repository_name")


def _refuse_cuda() -> NoReturn:
    if not Path("/dev/nvidiactl").exists():
        raise NotImplementedYet("CUDA shared memory needs a GPU, and this machine has none; use system shared memory")
    raise NotImplementedYet(
        "CUDA shared memory is not served: the server's own process opens no GPU, only its models' processes do; use "
        "system shared memory"
    )
