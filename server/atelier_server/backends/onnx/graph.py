"""One ONNX graph: its session, what it takes, and runs of it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from atelier_server.backends.base import Tensor
from atelier_server.errors import InvalidArgument, Unavailable

_NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}

Provider = str | tuple[str, dict[str, int]]
"""What onnxruntime takes: a name, or a name with options."""

_ERRORS_ONLY = 3
"""onnxruntime's log level: warnings about missing devices do not belong in an operator's log."""
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")
"""Of NVIDIA's driver, and of Windows' own where Linux runs inside it."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as the graph declares it; None stands for any size."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class Graph:
    """An ONNX file ready to run."""

    def __init__(self, path: Path, providers: Sequence[Provider], threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads of several runners on few cores stall each other tenfold.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime raises a class of its own for every status
            raise Unavailable(
                f"{path.name} is no ONNX model that onnxruntime {ort.__version__} can run: {_first_line(error)}",
                reason="BAD_WEIGHTS",
            ) from error
        self.name = path.stem
        self.provider = self._session.get_providers()[0]
        self._device_id = next((one[1]["device_id"] for one in providers if not isinstance(one, str)), 0)
        self.inputs = {tensor.name: _info(tensor) for tensor in self._session.get_inputs()}
        self.outputs = {tensor.name: _info(tensor) for tensor in self._session.get_outputs()}

    @property
    def has_rows(self) -> bool:
        """Whether its outputs may be cut by rows: one of a fixed first size has the same number for any batch."""
        return all(info.shape[:1] in ((), (None,)) for info in self.outputs.values())

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        """Checks types and shapes.

        Raises:
            InvalidArgument: It names the input at fault.
        """
        for name, info in self.inputs.items():
            tensor = inputs[name]
            if tensor.dtype != info.dtype:
                raise InvalidArgument(f"input {name} is {tensor.dtype}; the model takes {info.dtype}", field=name)
            fits = tensor.ndim == len(info.shape) and all(
                want is None or want == have for want, have in zip(info.shape, tensor.shape, strict=True)
            )
            if not fits:
                want = [-1 if size is None else size for size in info.shape]
                raise InvalidArgument(
                    f"input {name} has shape {list(tensor.shape)}; the model takes {want} (-1: any)", field=name
                )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Runs the graph; every input must have passed `check`. On CUDA, tensors travel by IO binding."""
        names = list(self.outputs)
        if self.provider == "CPUExecutionProvider":
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(tensor))
        for name in names:
            binding.bind_output(name, "cuda", self._device_id)
        self._session.run_with_iobinding(binding)
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))


def choose_providers(device: str) -> list[Provider]:
    """onnxruntime's providers for a device: auto, cpu, cuda or cuda:N.

    Raises:
        Unavailable: CUDA is asked for and is not there.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in ort.get_available_providers() and any(map(os.path.exists, _DEVICE_FILES)):
        ort.preload_dlls()
        gpu = {"device_id": int(device.partition(":")[2] or 0)}
        return [("CUDAExecutionProvider", gpu), "CPUExecutionProvider"]
    if device.startswith("cuda"):
        raise Unavailable(
            "this model asks for a GPU and there is none that onnxruntime can use; install the [gpu] extra, or set "
            "instance_group { kind: KIND_CPU } in its config.pbtxt",
            reason="NO_GPU",
        )
    return ["CPUExecutionProvider"]


def _info(tensor: ort.NodeArg) -> TensorInfo:
    if tensor.type not in _NUMPY_TYPES:
        raise Unavailable(f"tensor {tensor.name} is {tensor.type}, which this backend does not serve")
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return TensorInfo(tensor.name, _NUMPY_TYPES[tensor.type], shape)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
