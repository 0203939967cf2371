"""The UNet as a compiled graph, its rows shared between threads."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from atelier_server.backends.sdxl.compiled.graph import Graph
from atelier_server.backends.sdxl.export import text_layers

MOST_UNITS = 64
"""Longest side of latents for which the graph was compiled, in units of the smallest that the UNet takes."""


class CompiledUNet:
    """Predicts noise as the UNet whose graph it is, any number of rows, at any size.

    The graph uses one thread. So rows are shared between threads of Python, each of which computes its part from end to
    end: they wait for each other once a step, not after every operator.

    Args:
        graph: Of `export.Step`.
        unet: diffusers', whose layers make keys and values of the text.
        threads: Most that take part in a step.
    """

    def __init__(self, graph: Graph, unet: Any, threads: int) -> None:
        self._graph = graph
        self._layers = text_layers(unet)
        self._unit = unit_of(unet.config)
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), "unet", _use_one_thread)

    def takes(self, sample: torch.Tensor) -> bool:
        """Whether the graph computes latents of this size."""
        return all(side % self._unit == 0 and side // self._unit <= MOST_UNITS for side in sample.shape[2:])

    def predict(
        self, sample: torch.Tensor, timesteps: torch.Tensor, inputs: Mapping[str, Any], threads: int
    ) -> torch.Tensor:
        """[rows, channels, h, w] in float32. The caller's torch must be set to one thread.

        Args:
            sample: [rows, channels, h, w] in the UNet's dtype.
            timesteps: [rows], float32.
            inputs: The rest of what diffusers' UNet takes; keys and values are remembered by its layers.
            threads: How many share the rows.
        """
        added = inputs["added_cond_kwargs"]
        states = inputs["encoder_hidden_states"]
        guidance = [] if inputs["timestep_cond"] is None else [inputs["timestep_cond"]]
        keys_and_values = [layer(states) for layer in self._layers]
        values = [sample, timesteps, added["text_embeds"], added["time_ids"], *guidance, *keys_and_values]
        rows, parts = len(sample), min(threads, len(sample))
        bounds = [rows * part // parts for part in range(parts + 1)]
        shares = [[value[first:last] for value in values] for first, last in itertools.pairwise(bounds)]
        waiting = [self._helpers.submit(self._compute, share) for share in shares[1:]]
        predicted = [self._compute(shares[0]), *(one.result() for one in waiting)]
        return torch.cat(predicted) if parts > 1 else predicted[0]

    def _compute(self, share: Sequence[torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            return self._graph(share)


def unit_of(config: Any) -> int:
    """Sides of latents are multiples of this: 2 for each halving between the UNet's levels."""
    return int(2 ** (len(config.block_out_channels) - 1))


def _use_one_thread() -> None:
    torch.set_num_threads(1)  # OpenMP counts for each calling thread
