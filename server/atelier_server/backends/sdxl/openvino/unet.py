"""The UNet as OpenVINO graphs, in the place of diffusers' module."""

import logging
import math
import time
from typing import Any

import psutil
import torch

from atelier_server.backends.sdxl.cross_attention import Remembers
from atelier_server.backends.sdxl.openvino.runtime import Compiled, Runtime
from atelier_server.backends.sdxl.openvino.store import Graphs

_LOG = logging.getLogger(__name__)
_MEMORY_SHARE = 0.25
"""A compiled graph holds the weights once more; another is only compiled if they take less of the free memory."""


class OpenVinoUNet(Remembers):
    """Predicts noise as the UNet it was converted from.

    A graph that is compiled for one shape is faster than one for all shapes (18% at two rows of the starter), and a
    compiled graph takes the memory of its weights. So there are graphs for some numbers of rows at the native size, as
    `prepare` was asked to make them; a batch is computed in pieces of these. Other sizes share one graph for all.

    Args:
        runtime: Compiles.
        graphs: Of the checkpoint.
        config: The UNet's.
        native: Height and width of native latents.
    """

    def __init__(self, runtime: Runtime, graphs: Graphs, config: Any, native: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.dtype, self.device = config, runtime.dtype, torch.device("cpu")
        self._runtime, self._native, self._graph = runtime, native, graphs.unet
        self._text = runtime.compile(graphs.text)
        self._fixed: dict[int, Compiled] = {}
        self._any: Compiled | None = None
        self._weight_bytes = _weight_bytes(graphs.unet)
        self._seen: torch.Tensor | None = None
        self._constant: list[torch.Tensor] = []

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        *,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None,
        added_cond_kwargs: dict[str, torch.Tensor],
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        """[rows, channels, h, w] in float32, as diffusers' with return_dict=False."""
        assert not return_dict
        if encoder_hidden_states is not self._seen:
            self._remember(encoder_hidden_states, timestep_cond, added_cond_kwargs)
        sample = sample.float().contiguous()
        inputs = [sample, timestep, *self._constant]
        predicted = torch.empty_like(sample)
        first = 0
        while first < len(sample):
            run, rows = self._graph_for(len(sample) - first, (sample.shape[2], sample.shape[3]))
            predicted[first : first + rows] = run([value[first : first + rows] for value in inputs])[0]
            first += rows
        return (predicted,)

    def prepare(self, rows: int) -> None:
        """Compiles a graph for so many rows at the native size, unless memory is short; the first always."""
        if rows in self._fixed:
            return
        if self._fixed and self._weight_bytes > _MEMORY_SHARE * psutil.virtual_memory().available:
            return
        begin = time.perf_counter()
        sample, *others = (list(one.partial_shape) for one in self._graph.inputs)
        shapes = [[rows, sample[1].get_length(), *self._native]]
        shapes += [[rows, *(length.get_length() for length in shape[1:])] for shape in others]
        self._fixed[rows] = self._runtime.compile(self._graph, shapes)
        _LOG.info("compiled the graph for %d rows in %.1f s", rows, time.perf_counter() - begin)

    def set_attention_slice(self, slice_size: object) -> None:
        """OpenVINO's attention holds no score matrix; there is nothing to slice."""

    def forget(self) -> None:
        """Frees what is kept of the last text."""
        self._seen, self._constant = None, []

    def _graph_for(self, rows: int, size: tuple[int, int]) -> tuple[Compiled, int]:
        """A graph, and how many of the rows it takes."""
        fitting = [count for count in self._fixed if count <= rows] if size == self._native else []
        if fitting:
            return self._fixed[max(fitting)], max(fitting)
        if self._any is None:
            self._any = self._runtime.compile(self._graph)
        return self._any, rows

    def _remember(self, states: torch.Tensor, guidance: torch.Tensor | None, added: dict[str, torch.Tensor]) -> None:
        """Keeps what does not change from step to step: pooled text, time ids, guidance, keys and values."""
        keys_and_values = [value.clone() for value in self._text([states.float().contiguous()])]
        embedded = [] if guidance is None else [guidance.float()]
        self._constant = [added["text_embeds"].float(), added["time_ids"].float(), *embedded, *keys_and_values]
        self._seen = states


def _weight_bytes(graph: Any) -> int:
    constants = [node for node in graph.get_ops() if node.get_type_name() == "Constant"]
    return sum(node.get_element_type().size * math.prod(node.get_output_shape(0)) for node in constants)
