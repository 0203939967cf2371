"""Tensors between server and runner: protobuf describes them, and their bytes follow it as they lie in memory.

The bytes of a message are its tensors' in order, row-major little-endian, each begun at a multiple of 16.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import BatchTimes, JobTensors, Tensor, TensorTask
from atelier_server.errors import InvalidArgument
from atelier_server.runner.messages import Parts, origin, origin_message

ALIGNMENT = 16
"""Of tensors within a message; no number format needs more."""

_NUMBERS = frozenset("biuf")
_PADDING = np.zeros(ALIGNMENT, np.uint8)


def infer_request(task: TensorTask) -> tuple[pb.InferRequest, Parts]:
    """To the wire; `job_id` stays behind, since the runner names its own."""
    tensors, parts = _taken_apart(task.inputs)
    message = pb.InferRequest(
        inputs=tensors,
        outputs=task.outputs,
        timeout_seconds=task.timeout_seconds,
        origin=origin_message(task.origin),
        priority=task.priority,
    )
    return message, parts


def tensor_task(message: pb.InferRequest, body: memoryview, job_id: str) -> TensorTask:
    """From the wire; the arrays are read-only views of the body."""
    tensors, outputs = _put_together(message.inputs, body), tuple(message.outputs)
    return TensorTask(job_id, tensors, outputs, message.timeout_seconds, origin(message.origin), message.priority)


def infer_response(event: JobTensors) -> tuple[pb.InferResponse, Parts]:
    """To the wire."""
    tensors, parts = _taken_apart(event.outputs)
    return pb.InferResponse(outputs=tensors, times=pb.BatchTimes(**asdict(event.times))), parts


def job_tensors(message: pb.InferResponse, body: memoryview) -> JobTensors:
    """From the wire; the arrays are read-only views of the body."""
    times = message.times
    return JobTensors(
        _put_together(message.outputs, body),
        BatchTimes(times.queue_ns, times.input_ns, times.infer_ns, times.output_ns, times.rows, times.leads),
    )


def padded(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _taken_apart(arrays: Mapping[str, Tensor]) -> tuple[list[pb.Tensor], Parts]:
    tensors: list[pb.Tensor] = []
    parts: Parts = []
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            raise InvalidArgument(f"Tensor {name} must hold numbers, not {array.dtype}.", field=name)
        tensors.append(pb.Tensor(name=name, dtype=array.dtype.name, shape=array.shape))
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        data = little_endian.reshape(-1).view(np.uint8)
        parts += [data, _PADDING[: padded(data.size) - data.size]]
    return tensors, parts


def _put_together(tensors: Iterable[pb.Tensor], body: memoryview) -> dict[str, Tensor]:
    arrays: dict[str, Tensor] = {}
    offset = 0
    for tensor in tensors:
        arrays[tensor.name], offset = _array(tensor, body, offset)
    return arrays


def _array(tensor: pb.Tensor, body: memoryview, offset: int) -> tuple[Tensor, int]:
    try:
        dtype = np.dtype(tensor.dtype)
        if dtype.kind not in _NUMBERS:
            raise TypeError("not a number format")
        shape: Sequence[int] = tuple(tensor.shape)
        if any(size < 0 for size in shape):
            raise ValueError("a size is negative")
        end = offset + math.prod(shape) * dtype.itemsize
        if end > len(body):
            raise ValueError(f"{end} bytes are needed and {len(body)} came")
        return np.frombuffer(body[offset:end], dtype.newbyteorder("<")).reshape(shape), padded(end)
    except (TypeError, ValueError) as error:
        message = f"Tensor {tensor.name} needs a number format and as many bytes as its shape says: {error}."
        raise InvalidArgument(message, field=tensor.name) from error
