"""The VAE's decoder as an OpenVINO graph."""

from typing import Any

import torch

from atelier_server.backends.sdxl.openvino.runtime import Runtime


class OpenVinoDecoder:
    """Decodes pictures of one size.

    Args:
        runtime: Compiles.
        graph: Of the decoder.
        native: Height and width of the latents.
    """

    def __init__(self, runtime: Runtime, graph: Any, native: tuple[int, int]) -> None:
        self._shape = (1, graph.inputs[0].partial_shape[1].get_length(), *native)
        self._run = runtime.compile(graph, [self._shape])

    def takes(self, latents: torch.Tensor) -> bool:
        """Whether they have the size."""
        return tuple(latents.shape) == self._shape

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """[1, 3, height, width] in -1..1 from unscaled float32 latents."""
        return self._run([latents.contiguous()])[0].clone()
