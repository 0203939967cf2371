"""ModelService: which models there are; loads and unloads them."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from atelier.v1 import model_pb2, model_pb2_grpc
from atelier_server.errors import AtelierError
from atelier_server.executor.base import Executor
from atelier_server.frontend import converters
from atelier_server.repository.registry import Registry

Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Speaks for the registry."""

    def __init__(self, registry: Registry[Executor]) -> None:
        self._registry = registry

    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        """All models of the repository in the order of their names."""
        models = [converters.model_info(state) for state in self._registry.models()]
        return model_pb2.ListModelsResponse(models=models)

    async def LoadModel(self, request: model_pb2.LoadModelRequest, context: Context) -> model_pb2.LoadModelResponse:
        """Answers when the model is ready."""
        with _named_by("name"):
            state = await self._registry.load(request.name)
        return model_pb2.LoadModelResponse(model=converters.model_info(state))

    async def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, context: Context
    ) -> model_pb2.UnloadModelResponse:
        """Answers when the model's processes have ended."""
        with _named_by("name"):
            state = await self._registry.unload(request.name)
        return model_pb2.UnloadModelResponse(model=converters.model_info(state))


@contextmanager
def _named_by(field: str) -> Iterator[None]:
    """The registry's errors name GenerateRequest's field for a model; here it has another name."""
    try:
        yield
    except AtelierError as error:
        if error.field == "model_name":
            error.field = field
        raise
