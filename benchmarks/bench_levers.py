"""What single measures gain in one UNet step of the starter: each against the step without it, in turns.

python benchmarks/bench_levers.py [--rows 2 16 --rounds 9 --dtype bfloat16 --compiled]

CPU time on one thread is compared, which other work on the machine hardly disturbs. `--compiled` adds the step as the
server compiles it, one graph for any number of rows; it wants a C++ compiler and a minute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from diffusers import UNet2DConditionModel

from atelier_server.backends.sdxl.compiled.graph import Graph
from atelier_server.backends.sdxl.compiled.store import UNET
from atelier_server.backends.sdxl.compiled.unet import CompiledUNet
from atelier_server.backends.sdxl.cross_attention import remember_text
from atelier_server.backends.sdxl.export import example_inputs, split_text
from atelier_server.backends.sdxl.openvino.convert import convert
from atelier_server.backends.sdxl.openvino.runtime import Runtime
from common import STARTER, machine, summary, write

Step = Callable[[], object]


class Whole(torch.nn.Module):
    """The UNet with text as an input, for a graph that computes keys and values at every step."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Any, steps: Any, text: Any, pooled: Any, time_ids: Any) -> Any:
        """As diffusers, with float32 outside."""
        dtype = self.unet.dtype
        added = {"text_embeds": pooled.to(dtype), "time_ids": time_ids}
        return self.unet(sample.to(dtype), steps, text.to(dtype), added_cond_kwargs=added, return_dict=False)[0].float()


def unet(dtype: torch.dtype) -> Any:
    return UNet2DConditionModel.from_pretrained(STARTER / "unet", torch_dtype=dtype).eval().requires_grad_(False)


def inputs(config: Any, rows: int) -> tuple[torch.Tensor, ...]:
    """Sample, timesteps, text, pooled text and time ids, in float32."""
    random = torch.Generator().manual_seed(0)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return (
        torch.randn(rows, config.in_channels, config.sample_size, config.sample_size, generator=random),
        torch.full((rows,), 500.0),
        torch.randn(rows, 77, config.cross_attention_dim, generator=random),
        torch.randn(rows, pooled, generator=random),
        torch.tensor([[128.0, 128, 0, 0, 128, 128]]).repeat(rows, 1),
    )


def torch_steps(dtype: torch.dtype, rows: int) -> dict[str, Step]:
    """The torch step, and with one measure each."""

    def step(model: Any, layout: torch.memory_format = torch.contiguous_format) -> Step:
        sample, steps, text, pooled, time_ids = inputs(model.config, rows)
        sample = sample.to(dtype, memory_format=layout)
        text, pooled = text.to(dtype), pooled.to(dtype)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return lambda: model(sample, steps, text, added_cond_kwargs=added, return_dict=False)

    remembering, fused, last = unet(dtype), unet(dtype), unet(dtype)
    remember_text(remembering)
    fused.fuse_qkv_projections()
    last.to(memory_format=torch.channels_last)
    return {
        "torch": step(unet(dtype)),
        "torch, keys and values once": step(remembering),
        "torch, fused projections": step(fused),
        "torch, channels_last": step(last, torch.channels_last),
    }


class CompiledSteps:
    """The step as sdxl/compiled has it, on one thread; `seconds` of computing went into compiling UNet and decoder."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._model = unet(dtype)
        remember_text(self._model)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "atelier_server.backends.sdxl.compiled.build", str(STARTER)]
            command += ["--name=starter", f"--dtype={str(dtype).removeprefix('torch.')}", f"--into={folder}"]
            with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # it ends when the pipe is closed
                if process.wait() != 0:
                    raise SystemExit("the starter could not be compiled")
            self._compiled = CompiledUNet(Graph(Path(folder) / UNET, 1), self._model, 1)
        self.seconds = sum(os.times()[2:4])

    def step(self, rows: int) -> Step:
        """The step of so many rows."""
        sample, steps, text, pooled, time_ids = inputs(self._model.config, rows)
        dtype = self._model.dtype
        sample, text, pooled = sample.to(dtype), text.to(dtype), pooled.to(dtype)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        rest = {"encoder_hidden_states": text, "timestep_cond": None, "added_cond_kwargs": added}
        return lambda: self._compiled.predict(sample, steps, rest, 1)


def openvino_steps(dtype: torch.dtype, rows: int) -> dict[str, Step]:
    """The same by OpenVINO: keys and values once or always, a graph for this shape or for all."""
    model, runtime = unet(dtype), Runtime(dtype, 1)
    sample, steps, text, pooled, time_ids = inputs(model.config, rows)
    split, texts = split_text(model)
    keys_and_values = texts(text[:2])
    graph = convert(runtime.openvino, split, (*example_inputs(model), *keys_and_values))
    whole_inputs = (sample, steps, text, pooled, time_ids)
    whole = convert(
        runtime.openvino, Whole(model), tuple(value[:1].repeat(2, *[1] * (value.ndim - 1)) for value in whole_inputs)
    )
    known = [sample, steps, pooled, time_ids, *(value.clone() for value in texts(text))]
    fixed = runtime.compile(graph, [list(value.shape) for value in known])
    free = runtime.compile(graph)
    always = runtime.compile(whole, [list(value.shape) for value in whole_inputs])
    return {
        "openvino": lambda: always(whole_inputs),
        "openvino, keys and values once": lambda: fixed(known),
        "openvino, keys and values once, any shape": lambda: free(known),
    }


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU time."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            if number >= 2:
                taken[name].append(1000 * (time.process_time() - begin))
    return taken


@torch.inference_mode()
def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--compiled", action="store_true", help="the compiled step too")
    parser.add_argument("--name", default="levers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts, dtype = machine(), getattr(torch, options.dtype)
    found, compiled = {}, CompiledSteps(dtype) if options.compiled else None
    for rows in options.rows:
        steps = torch_steps(dtype, rows) | openvino_steps(dtype, rows)
        steps |= {"torch, compiled": compiled.step(rows)} if compiled else {}
        found[f"{rows} rows"] = {name: summary(values) for name, values in measure(steps, options.rounds).items()}
    more = {"CPU s of compiling": round(compiled.seconds, 1)} if compiled else {}
    write(options.name, {"machine": facts, "dtype": options.dtype, "CPU ms a step on one thread": found, **more})


if __name__ == "__main__":
    main()
