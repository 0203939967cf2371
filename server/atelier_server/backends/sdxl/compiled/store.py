"""Compiled libraries on disk, so that a model is compiled once for a machine and not at every start."""

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

import torch

from atelier_server.backends.sdxl.derived import DerivedStore

_FORMAT = 2
"""Of what is compiled and how; another number makes all that is stored strange."""
UNET, DECODER = "unet.so", "decoder.so"


class CompiledStore(DerivedStore):
    """A folder for one checkpoint's libraries, named by its weights, the dtype, torch's version and the processor.

    Args:
        root: Folder of all that is compiled.
        name: Of the model and its version, for people who look into the folder.
        checkpoint: The folder with model_index.json.
        dtype: What is computed in.
    """

    def __init__(self, root: Path, name: str, checkpoint: Path, dtype: torch.dtype) -> None:
        super().__init__(root, name, checkpoint, dtype, f"{_FORMAT} {torch.__version__} {_processor()}")


def _processor() -> str:
    """What the libraries' machine code depends on; they are compiled for the very processor."""
    flags = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    return f"{platform.machine()} {hashlib.sha256(flags.encode()).hexdigest()}"
