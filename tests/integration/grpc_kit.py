"""What the tests of the gRPC front end share: calls, and the details that errors carry."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from atelier.v1 import image_generation_pb2, image_generation_pb2_grpc
from atelier_server.executor.base import InstanceStatus
from atelier_server.testing import RunningServer

M = TypeVar("M", bound=Message)
Events = list[image_generation_pb2.GenerateResponse]


def images(server: RunningServer) -> image_generation_pb2_grpc.ImageGenerationServiceStub:
    """A stub of the service that makes pictures."""
    return image_generation_pb2_grpc.ImageGenerationServiceStub(server.channel)


def request(**values: Any) -> image_generation_pb2.GenerateRequest:
    """A quick, small, repeatable request; `values` override its fields, None leaves one out."""
    given = {"prompt": "a bag", "width": 128, "height": 128, "num_inference_steps": 3, "seed": 7} | values
    return image_generation_pb2.GenerateRequest(**{name: value for name, value in given.items() if value is not None})


async def heard(server: RunningServer, **values: Any) -> Events:
    """Every event of a generation."""
    return [event async for event in images(server).Generate(request(**values))]


async def failing(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call, unary or streaming, must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _finish(call)
    return caught.value


async def _finish(call: Any) -> None:
    if isinstance(call, AsyncIterable):
        async for _ in call:
            pass
    else:
        await call


async def until(
    server: RunningServer, reached: Callable[[InstanceStatus], bool], model: str = "echo"
) -> InstanceStatus:
    """Asks echo for its status until it is as wanted."""
    executor = server.app.registry.get("echo")
    async with asyncio.timeout(20):
        while not reached(status := await executor.refresh()):  # noqa: ASYNC110 - the model tells nobody
            await asyncio.sleep(0.01)
    return status


def idle(status: InstanceStatus) -> bool:
    """Whether nothing waits or runs."""
    return not status.waiting and not status.running


def detail(error: grpc.aio.AioRpcError, kind: type[M]) -> M:
    """The google.rpc detail of a kind, which must be there."""
    status = rpc_status.from_call(_ForSync(error))
    assert status is not None, f"no details in {error!r}"
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} among {[packed.type_url for packed in status.details]}")


def fields_at_fault(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that the error names."""
    return [violation.field for violation in detail(error, error_details_pb2.BadRequest).field_violations]


class _ForSync:
    """grpc_status reads the calls of the synchronous API."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.trailing_metadata = error.trailing_metadata
        self.code = error.code
        self.details = error.details
