"""Whether OpenVINO or torch computes a model."""

import torch

from atelier_server.backends.sdxl.openvino.runtime import PRECISIONS, installed
from atelier_server.errors import InvalidArgument


def computes_by_openvino(execution: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Reads the parameter `execution`; auto is OpenVINO where it is installed and can do what is asked.

    Raises:
        InvalidArgument: It is openvino, which computes on CPUs only.
    """
    if execution == "auto":
        return device.type == "cpu" and dtype in PRECISIONS and installed()
    if execution == "openvino" and device.type != "cpu":
        raise InvalidArgument(
            f"The parameter execution of config.pbtxt is openvino, which computes on a CPU, not on {device}; "
            "set the instance_group's kind to KIND_CPU, or execution to torch or auto.",
            field="parameters.execution",
        )
    return execution == "openvino"
