"""diffusers' SDXL pipeline behind PyTriton, the real Triton server: what a user of Triton would write.

python benchmarks/peer_pytriton.py CHECKPOINT DTYPE GRPC_PORT SITE_PACKAGES

Runs in PyTriton's own environment and takes torch and diffusers from SITE_PACKAGES.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

sys.path.append(sys.argv[4])

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from pytriton.decorators import batch, first_value, group_by_values
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    """Serves until it is killed."""
    checkpoint, dtype, port = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(checkpoint, torch_dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)

    # As in PyTriton's own Stable Diffusion example: calls of equal size and steps form a batch of the pipeline.
    @batch
    @group_by_values("steps", "side")
    @first_value("steps", "side")
    def infer(
        prompt: np.ndarray, negative: np.ndarray, seed: np.ndarray, steps: int, side: int
    ) -> dict[str, np.ndarray]:
        images = pipe(
            [text.decode() for text in prompt[:, 0]],
            negative_prompt=[text.decode() for text in negative[:, 0]],
            generator=[torch.Generator("cpu").manual_seed(int(one)) for one in seed[:, 0]],
            num_inference_steps=int(steps),
            guidance_scale=7.5,
            width=int(side),
            height=int(side),
        ).images
        return {"image": np.stack([np.asarray(image) for image in images])}

    inputs = [
        Tensor(name="prompt", dtype=bytes, shape=(1,)),
        Tensor(name="negative", dtype=bytes, shape=(1,)),
        Tensor(name="seed", dtype=np.int64, shape=(1,)),
        Tensor(name="steps", dtype=np.int32, shape=(1,)),
        Tensor(name="side", dtype=np.int32, shape=(1,)),
    ]
    config = TritonConfig(grpc_port=port, http_port=port + 1, metrics_port=port + 2, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="sdxl",
            infer_func=infer,
            inputs=inputs,
            outputs=[Tensor(name="image", dtype=np.uint8, shape=(-1, -1, 3))],
            config=ModelConfig(max_batch_size=8, batcher=DynamicBatcher(max_queue_delay_microseconds=50_000)),
        )
        triton.serve()


main()
