"""OpenVINO itself: importing it quietly, and compiling graphs for the CPU."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from atelier_server.errors import InvalidArgument, Unavailable

INSTALL = "pip install 'atelier-server[openvino]'"
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""What is computed here, in OpenVINO's words."""


def installed() -> bool:
    """Whether the package is there; nothing is imported."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> Any:
    """Imports OpenVINO without its telemetry, which would report the import and every conversion to its makers.

    Raises:
        Unavailable: It is not installed.
    """
    if not installed():
        raise Unavailable(
            f"The model's parameter execution is openvino, and OpenVINO is not installed; `{INSTALL}`, "
            "or set the parameter to torch.",
            reason="PACKAGE_MISSING",
            metadata={"package": "openvino"},
        )
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # its import now fails: a stub is used
    return importlib.import_module("openvino")


class Runtime:
    """Compiles graphs for the CPU.

    Args:
        dtype: What they compute in: float32 or bfloat16.
        threads: Of the runner; more would only stand in the way of other models.

    Raises:
        InvalidArgument: The dtype is not computed here.
        Unavailable: OpenVINO is not installed.
    """

    def __init__(self, dtype: torch.dtype, threads: int) -> None:
        self.dtype = dtype
        if dtype not in PRECISIONS:
            raise InvalidArgument(
                f"OpenVINO computes in float32 or bfloat16 here, not in {dtype}; change dtype or execution.",
                field="parameters.dtype",
            )
        self.openvino = load_openvino()
        self.version = str(self.openvino.get_version())
        self._core = self.openvino.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "PERFORMANCE_HINT": "LATENCY",  # one stream of all threads: a step is one call
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the scorers' processes want these cores too
        }

    def read(self, path: Path) -> Any:
        """A graph from disk; its weights are mapped, not read."""
        return self._core.read_model(path)

    def compile(self, graph: Any, shapes: Sequence[Sequence[int]] | None = None) -> "Compiled":
        """Makes a graph ready to run: for these shapes of its inputs only, which is faster, or for all that fit it."""
        if shapes is not None:
            graph = graph.clone()
            graph.reshape(dict(enumerate([list(shape) for shape in shapes])))
        return Compiled(self.openvino, self._core.compile_model(graph, "CPU", self._options))


class Compiled:
    """A graph that is ready to run."""

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()
        self._outputs = len(compiled.outputs)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Runs it. Inputs are float32 and contiguous; outputs are views of memory that the next call overwrites."""
        for index, value in enumerate(inputs):
            self._request.set_input_tensor(index, self._tensor(value.numpy(), shared_memory=True))
        self._request.infer()
        return [torch.from_numpy(self._request.get_output_tensor(index).data) for index in range(self._outputs)]
