"""Compiles a checkpoint's UNet and decoder: `python -m atelier_server.backends.sdxl.compiled.build`, minutes of work.

It ends when its standard input is closed, as it is when the process that started it is gone. Beside a model at work it
takes what processors others leave over, and is the first to be ended when memory is short.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from atelier_server.backends.sdxl.compiled.decoder import MOST_SIDE
from atelier_server.backends.sdxl.compiled.graph import seal
from atelier_server.backends.sdxl.compiled.store import DECODER, UNET
from atelier_server.backends.sdxl.compiled.unet import MOST_UNITS, unit_of
from atelier_server.backends.sdxl.export import Decoder, example_inputs, split_text
from atelier_server.backends.sdxl.load import load_checkpoint

_ROWS = 4
"""Of the example; the graph takes any number."""
_OPTIONS: dict[str, Any] = {
    "freezing": True,  # weights are constants, packed once for the processor's matrix units
    "cpp.threads": 1,  # see CompiledUNet
    "aot_inductor.precompile_headers": False,  # they would stay in the temporary folder, 280 MB for every model
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m atelier_server.backends.sdxl.compiled.build")
    parser.add_argument("checkpoint", type=Path, help="folder with model_index.json")
    parser.add_argument("--name", required=True, help="of the model, for messages")
    parser.add_argument("--dtype", required=True, choices=("float32", "bfloat16"), help="what the model computes in")
    parser.add_argument("--into", required=True, type=Path, help="folder for the libraries; it exists")
    parser.add_argument("--beside", action="store_true", help="nobody waits: others go first")
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if options.beside:
        _stand_back()
    compile_checkpoint(options.checkpoint, options.name, getattr(torch, options.dtype), options.into)


def compile_checkpoint(checkpoint: Path, name: str, dtype: torch.dtype, folder: Path) -> None:
    """Writes the shared libraries of the UNet and the decoder into a folder.

    Args:
        checkpoint: The folder with model_index.json.
        name: Of the model, for messages.
        dtype: What they compute in.
        folder: Exists.

    Raises:
        AtelierError: The checkpoint cannot be loaded.
    """
    torch.set_num_threads(1)
    parts = load_checkpoint(checkpoint, name, torch.device("cpu"), dtype)
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=folder))
    tempfile.tempdir = str(scratch)
    os.environ.update(TMPDIR=str(scratch), TORCHINDUCTOR_CACHE_DIR=str(scratch), TORCHINDUCTOR_COMPILE_THREADS="1")
    try:
        with torch.no_grad():
            _compile_unet(parts.unet, folder / UNET, scratch)
            _compile_decoder(parts.vae, folder / DECODER, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _compile_unet(unet: Any, path: Path, scratch: Path) -> None:
    """A graph for any number of rows and any size up to MOST_UNITS."""
    step, text = split_text(unet)
    sample, timestep, pooled, time_ids, *guidance = example_inputs(unet)
    states = torch.zeros(2, 77, int(unet.config.cross_attention_dim), dtype=unet.dtype)
    keys_and_values = [value.to(unet.dtype) for value in text(states)]
    few = [sample.to(unet.dtype), timestep, pooled.to(unet.dtype), time_ids]
    few += [*(value.to(unet.dtype) for value in guidance), *keys_and_values]
    inputs = tuple(value[:1].repeat(_ROWS, *[1] * (value.ndim - 1)) for value in few)
    unit = unit_of(unet.config)
    height, width = (unit * Dim(name, min=1, max=MOST_UNITS) for name in ("height", "width"))
    any_rows = {0: Dim.DYNAMIC}
    shapes = {
        "sample": any_rows | {2: height, 3: width},
        "timestep": any_rows,
        "rest": tuple(any_rows for _ in inputs[2:]),
    }
    # Otherwise a graph for any number of rows is one for any number but 1.
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        exported = torch.export.export(step.eval(), inputs, dynamic_shapes=shapes)
        _write(exported, path, scratch)


def _compile_decoder(vae: Any, path: Path, scratch: Path) -> None:
    latents = torch.zeros(1, int(vae.config.latent_channels), 16, 24)
    sides = {2: Dim("height", min=2, max=MOST_SIDE), 3: Dim("width", min=2, max=MOST_SIDE)}
    _write(torch.export.export(Decoder(vae).eval(), (latents,), dynamic_shapes=(sides,)), path, scratch)


def _write(exported: Any, path: Path, scratch: Path) -> None:
    package = torch._inductor.aoti_compile_and_package(
        exported, package_path=str(scratch / f"{path.stem}.pt2"), inductor_configs=_OPTIONS
    )
    with zipfile.ZipFile(package) as archive:
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        with archive.open(library) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    seal(path)


def _end_with_parent() -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1):
            pass
    os._exit(3)


def _stand_back() -> None:
    with suppress(OSError, AttributeError):  # Linux has it; a container may forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    main()
