"""What the server and its models are, in the protocol's messages."""

from atelier_server import __version__
from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.executor.base import Executor
from atelier_server.frontend.kserve.signature import TensorSpec, completed_config
from atelier_server.frontend.kserve.targets import Target
from atelier_server.repository.state import READY, ModelState

SERVER_NAME = "atelier"
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""Triton's words for what works here; sequences and CUDA shared memory do not."""


def server_metadata() -> pb.ServerMetadataResponse:
    """Name, version and extensions."""
    return pb.ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=EXTENSIONS)


def model_metadata(target: Target) -> pb.ModelMetadataResponse:
    """What a model takes and gives, and the versions that are loaded."""
    signature = target.signature
    return pb.ModelMetadataResponse(
        name=target.state.name,
        versions=target.state.versions,
        platform=signature.platform,
        inputs=map(_tensor, signature.inputs.values()),
        outputs=map(_tensor, signature.outputs.values()),
    )


def model_config(target: Target) -> pb.ModelConfigResponse:
    """The configuration as read from config.pbtxt, completed."""
    return pb.ModelConfigResponse(config=completed_config(target.state.entry))


def repository_index(states: list[ModelState[Executor]], *, ready: bool) -> pb.RepositoryIndexResponse:
    """One entry for each version that is loaded or would be; `ready` leaves out what is not ready."""
    response = pb.RepositoryIndexResponse()
    for state in states:
        if ready and state.state != READY:
            continue
        for version in state.versions or [str(number) for number in state.entry.chosen] or [""]:
            response.models.add(name=state.name, version=version, state=state.state, reason=state.reason)
    return response


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
