"""Torch modules to OpenVINO graphs. Inputs and outputs are float32 whatever the modules' dtype."""

import warnings
from typing import Any

import torch


def convert(openvino: Any, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A graph of the module: any number of rows, and where an input is a picture [rows, channels, h, w], any size."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of every Python condition; parity tests cover them
        graph = openvino.convert_model(module.eval(), example_input=inputs)
    shapes = [[-1, *value.shape[1:2], -1, -1] if value.ndim == 4 else [-1, *value.shape[1:]] for value in inputs]
    graph.reshape(dict(enumerate([openvino.PartialShape(shape) for shape in shapes])))
    return graph
