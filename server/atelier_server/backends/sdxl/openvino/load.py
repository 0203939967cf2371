"""Takes the UNet and the decoder of a checkpoint over to OpenVINO: read from the store, or converted and stored."""

import logging
import time
from pathlib import Path

import torch

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.export import Decoder, example_inputs, split_text
from atelier_server.backends.sdxl.load import Checkpoint, load_checkpoint
from atelier_server.backends.sdxl.openvino.convert import convert
from atelier_server.backends.sdxl.openvino.runtime import Runtime
from atelier_server.backends.sdxl.openvino.store import Graphs, GraphStore

_LOG = logging.getLogger(__name__)


def load_converted(spec: ModelSpec, dtype: torch.dtype) -> tuple[Runtime, Graphs, Checkpoint]:
    """Loads a checkpoint whose UNet and decoder OpenVINO executes; its torch UNet is not loaded, or dropped.

    Raises:
        Unavailable: OpenVINO is not installed, or the checkpoint is broken.
        InvalidArgument: OpenVINO does not compute in this dtype.
    """
    runtime = Runtime(dtype, spec.threads or torch.get_num_threads())
    cpu = torch.device("cpu")
    store = None
    if spec.derived_folder:
        root = Path(spec.derived_folder) / "openvino"
        store = GraphStore(root, f"{spec.name}-{spec.version}", spec.folder, runtime)
    graphs = store.read() if store else None
    if graphs is not None:
        return runtime, graphs, load_checkpoint(spec.folder, spec.name, cpu, dtype, with_unet=False)
    begin = time.perf_counter()
    checkpoint = load_checkpoint(spec.folder, spec.name, cpu, dtype)
    graphs = _convert(runtime, checkpoint)
    _LOG.info("converted %s for OpenVINO in %.1f s", spec.name, time.perf_counter() - begin)
    if store is not None:
        try:
            store.write(graphs)
        except OSError as error:
            _LOG.warning("the converted graphs of %s cannot be kept: %s", spec.name, error)
        else:
            del checkpoint
            graphs = store.read() or graphs  # mapped from the files instead of held in memory
            checkpoint = load_checkpoint(spec.folder, spec.name, cpu, dtype, with_unet=False)
    return runtime, graphs, checkpoint


def _convert(runtime: Runtime, checkpoint: Checkpoint) -> Graphs:
    unet, openvino = checkpoint.unet, runtime.openvino
    step, text = split_text(unet)
    states = torch.zeros(2, 77, int(unet.config.cross_attention_dim))
    with torch.inference_mode():
        keys_and_values = text(states)
    latents = torch.zeros(1, int(unet.config.in_channels), 8, 8)
    return Graphs(
        text=convert(openvino, text, (states,)),
        unet=convert(openvino, step, (*example_inputs(unet), *keys_and_values)),
        decoder=convert(openvino, Decoder(checkpoint.vae), (latents,)),
    )
