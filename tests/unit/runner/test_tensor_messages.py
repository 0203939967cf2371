"""Tensors that cross between server and runner come back equal."""

import math

import numpy as np
import pytest

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import BatchTimes, JobTensors, TensorTask
from atelier_server.errors import InvalidArgument
from atelier_server.runner import tensor_messages as messages


def body_of(parts: messages.Parts) -> memoryview:
    return memoryview(b"".join(part.tobytes() for part in parts))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", ">f8", "complex64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_survive_the_wire(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    task = TensorTask("ignored", {"odd": np.ones(3, np.uint8), "x": array}, ("y",), 2.0)
    if array.dtype.kind == "c":
        with pytest.raises(InvalidArgument, match="numbers"):
            messages.infer_request(task)
        return
    request, parts = messages.infer_request(task)
    back = messages.tensor_task(request, body_of(parts), "mine")
    assert (back.job_id, back.outputs, back.timeout_seconds) == ("mine", ("y",), 2.0)
    np.testing.assert_array_equal(back.inputs["x"], array)
    assert back.inputs["odd"].tolist() == [1, 1, 1]
    assert back.inputs["x"].dtype == array.dtype.newbyteorder("<")
    response, parts = messages.infer_response(JobTensors({"x": array}, BatchTimes(1, 2, 3, 4, rows=5, leads=False)))
    result = messages.job_tensors(response, body_of(parts))
    np.testing.assert_array_equal(result.outputs["x"], array)
    assert result.times == BatchTimes(1, 2, 3, 4, rows=5, leads=False)


def test_a_view_that_is_not_contiguous_is_sent_right() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2].T
    request, parts = messages.infer_request(TensorTask("", {"x": array}))
    assert messages.tensor_task(request, body_of(parts), "").inputs["x"].tolist() == array.tolist()


def test_objects_are_never_sent_as_tensors() -> None:
    with pytest.raises(InvalidArgument, match="numbers") as caught:
        messages.infer_request(TensorTask("", {"names": np.array(["a", None], dtype=object)}))
    assert caught.value.field == "names"


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        ("float32", [2], b"\0" * 4),
        ("float32", [2], b"\0" * 7),
        ("float32", [-1, -1], b"\0" * 4),
        ("float32", [2**62], b"\0" * 4),
        ("object", [1], b"\0" * 8),
        ("no such", [1], b"\0"),
    ],
)
def test_tensors_that_contradict_themselves_are_refused(dtype: str, shape: list[int], data: bytes) -> None:
    request = pb.InferRequest(inputs=[pb.Tensor(name="x", dtype=dtype, shape=shape)])
    with pytest.raises(InvalidArgument) as caught:
        messages.tensor_task(request, memoryview(data), "job")
    assert caught.value.field == "x"
