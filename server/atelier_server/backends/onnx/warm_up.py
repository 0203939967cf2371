"""The requests of `model_warmup`: they run before the model is ready, so that no caller pays for what happens once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atelier_server.backends.base import ModelSpec, Tensor
from atelier_server.errors import FailedPrecondition

FOLDER = "warmup"
"""Beside the versions; `input_data_file` names a file in it, the bytes of the tensor as they travel."""
MOST_BYTES = 2**30
_TYPES: dict[str, type[np.generic]] = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_INT8": np.int8,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
}
"""What the backend computes in; a graph of TYPE_BF16 takes TYPE_FP32 here."""


def warm_up_requests(spec: ModelSpec) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(name, inputs) of every request, as often as its `count` says.

    Raises:
        FailedPrecondition: A request cannot be made; the message names its field.
    """
    declared = spec.config.get("model_warmup", ())
    assert isinstance(declared, list | tuple)
    for index, warm_up in enumerate(declared):
        path = f"model_warmup[{index}]"
        rows = int(warm_up.get("batch_size", 0))
        batch = [max(rows, 1)] if spec.config.get("max_batch_size") else []
        inputs = {
            name: _tensor(spec, f"{path}.inputs.{name}", batch, put) for name, put in warm_up.get("inputs", {}).items()
        }
        if not inputs:
            raise _wrong(spec, f"{path}.inputs", "a warm-up request needs inputs")
        for _ in range(int(warm_up.get("count", 1)) or 1):
            yield str(warm_up.get("name", path)), inputs


def _tensor(spec: ModelSpec, path: str, batch: list[int], put: Mapping[str, Any]) -> Tensor:
    kind, shape = _TYPES.get(put.get("data_type", "")), [*batch, *map(int, put.get("dims", ()))]
    if kind is None:
        raise _wrong(spec, f"{path}.data_type", f"must be one of {', '.join(_TYPES)}")
    if any(size < 1 for size in shape) or np.prod(shape, dtype=float) * np.dtype(kind).itemsize > MOST_BYTES:
        raise _wrong(spec, f"{path}.dims", "needs sizes from 1 on, and 1 GiB at most")
    if put.get("zero_data"):
        return np.zeros(shape, kind)
    if put.get("random_data"):
        return (np.random.default_rng(0).random(shape, np.float32) * 2).astype(kind)
    if not put.get("input_data_file"):
        raise _wrong(spec, path, "say zero_data, random_data or input_data_file")
    return _from_file(spec, path, shape, kind, str(put["input_data_file"]))


def _from_file(spec: ModelSpec, path: str, shape: list[int], kind: type[np.generic], name: str) -> Tensor:
    folder = (spec.folder.parent / FOLDER).resolve()
    file = (folder / name).resolve()
    if file.parent != folder or Path(name).name != name:
        raise _wrong(spec, path, f"{name!r} must be a file in the folder {FOLDER} of the model")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _wrong(spec, path, f"{FOLDER}/{name} cannot be read: {error.strerror}") from None
    expected = int(np.prod(shape)) * np.dtype(kind).itemsize
    if len(data) != expected:
        raise _wrong(spec, path, f"{FOLDER}/{name} holds {len(data)} bytes, and the shape takes {expected}")
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(shape)


def _wrong(spec: ModelSpec, field: str, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"{spec.name}/config.pbtxt: {field}: {problem}", reason="BAD_WARM_UP", field=field)
