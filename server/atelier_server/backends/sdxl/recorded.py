"""UNet steps on a CUDA device as recorded graphs: a step is launched at once instead of as some thousand kernels.

Where a batch is narrow, launching takes the processor longer than computing takes the device. A graph is of one shape:
so many rows of one size. Its inputs are tensors of its own, into which those of each step are copied.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from atelier_server.backends.sdxl.compiled.graph import GraphFailed
from atelier_server.backends.sdxl.cross_attention import Remembers

SEEN_BEFORE = 4
"""Steps of a shape before it is recorded: one that hardly ever comes is not worth it."""
MOST_GRAPHS = 6
"""Each holds the activations of a step; the one that was needed longest ago goes."""
_WARM_UPS = 3
"""Runs before a recording, as torch asks for: libraries choose their ways and take their workspaces."""

Compute = Callable[[], torch.Tensor]
Record = Callable[[Compute], Compute]
"""Runs a computation once or more, and returns what does the same again on the same tensors."""


@dataclass(slots=True)
class _Graph:
    """`inputs` are its own tensors by name; `composed` is the part of the last step's that rarely changes."""

    inputs: dict[str, torch.Tensor]
    replay: Compute
    composed: Mapping[str, Any]


class RecordedUNet:
    """Predicts noise as the UNet whose steps it records; shapes that are new are computed by the UNet itself.

    Args:
        unet: diffusers', its cross-attention remembering the text.
        record: `record_on` of its device.
    """

    def __init__(self, unet: Any, record: Record) -> None:
        self._unet, self._record = unet, record
        self._text = [module for module in unet.modules() if isinstance(module, Remembers)]
        self._graphs: OrderedDict[tuple[int, ...], _Graph] = OrderedDict()
        self._seen: Counter[tuple[int, ...]] = Counter()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the latents for which there are graphs."""
        return tuple(self._graphs)

    def takes(self, sample: torch.Tensor) -> bool:
        """It takes every size."""
        return True

    def predict(
        self, sample: torch.Tensor, timesteps: torch.Tensor, inputs: Mapping[str, Any], threads: int
    ) -> torch.Tensor:
        """[rows, channels, h, w] in the UNet's dtype.

        Args:
            sample: [rows, channels, h, w] in the UNet's dtype.
            timesteps: [rows], float32.
            inputs: The rest of what diffusers' UNet takes; the same object as long as nothing in it changes.
            threads: Of no matter on a device.

        Raises:
            GraphFailed: A step could not be recorded.
        """
        shape = tuple(sample.shape)
        graph = self._graphs.get(shape)
        if graph is None:
            self._seen[shape] += 1
            if self._seen[shape] <= SEEN_BEFORE:
                return self._compute(sample, timesteps, inputs)
            graph = self._graphs[shape] = self._recorded(sample, timesteps, inputs)
            if len(self._graphs) > MOST_GRAPHS:
                forgotten, _ = self._graphs.popitem(last=False)
                del self._seen[forgotten]
        self._graphs.move_to_end(shape)
        graph.inputs["sample"].copy_(sample)
        graph.inputs["timesteps"].copy_(timesteps)
        if graph.composed is not inputs:
            for name, value in _flat(inputs).items():
                graph.inputs[name].copy_(value)
            graph.composed = inputs
        return graph.replay().clone()  # the next step writes into the same tensor

    def _recorded(self, sample: torch.Tensor, timesteps: torch.Tensor, inputs: Mapping[str, Any]) -> _Graph:
        own = {"sample": sample.clone(), "timesteps": timesteps.clone()}
        own |= {name: value.clone() for name, value in _flat(inputs).items()}

        def compute() -> torch.Tensor:
            self._forget_text()  # the text's tensor stays and its content does not: keys and values are the graph's
            return self._compute(own["sample"], own["timesteps"], _nested(own))

        try:
            return _Graph(own, self._record(compute), inputs)
        except Exception as error:  # a device that failed will say so again, when the UNet itself computes
            self._graphs.clear()
            raise GraphFailed(f"a step of {len(sample)} rows cannot be recorded: {error}") from error
        finally:
            self._forget_text()

    def _compute(self, sample: torch.Tensor, timesteps: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
        predicted: torch.Tensor = self._unet(sample, timesteps, return_dict=False, **inputs)[0]
        return predicted

    def _forget_text(self) -> None:
        for module in self._text:
            module.forget()


def record_on(device: torch.device) -> Record:
    """Records CUDA graphs on a device, each in memory of its own."""

    def record(compute: Compute) -> Compute:
        with torch.cuda.device(device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    compute()
            torch.cuda.current_stream().wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = compute()

        def replay() -> torch.Tensor:
            with torch.cuda.device(device):
                graph.replay()
            return result

        return replay

    return record


def _flat(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of what diffusers' UNet takes beside sample and timesteps, by name."""
    added = inputs["added_cond_kwargs"]
    flat = {"states": inputs["encoder_hidden_states"], "pooled": added["text_embeds"], "time_ids": added["time_ids"]}
    return flat if inputs["timestep_cond"] is None else flat | {"guidance": inputs["timestep_cond"]}


def _nested(flat: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """As `_flat` found it."""
    return {
        "encoder_hidden_states": flat["states"],
        "timestep_cond": flat.get("guidance"),
        "added_cond_kwargs": {"text_embeds": flat["pooled"], "time_ids": flat["time_ids"]},
    }
