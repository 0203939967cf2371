"""The VAE's decoder as a compiled graph."""

import torch

from atelier_server.backends.sdxl.compiled.graph import Graph

MOST_SIDE = 256
"""Longest side of latents for which the graph was compiled."""


class CompiledDecoder:
    """Decodes pictures of any size on one thread.

    Args:
        graph: Of `export.Decoder`.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def takes(self, latents: torch.Tensor) -> bool:
        """Whether the graph decodes latents of this size."""
        return len(latents) == 1 and max(latents.shape[2:]) <= MOST_SIDE

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """[1, 3, height, width] in -1..1 from unscaled float32 latents."""
        return self._graph([latents.contiguous()])
