"""Compiled libraries on disk, so that a model is compiled once for a machine and not at every start."""

import hashlib
import os
import platform
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from atelier_server.backends.sdxl.derived import digest

_FORMAT = 2
"""Of what is compiled and how; another number makes all that is stored strange."""
_MAKING = "making-"
_ABANDONED_SECONDS = 3600.0
UNET, DECODER = "unet.so", "decoder.so"


class CompiledStore:
    """A folder for one checkpoint's libraries, named by its weights, the dtype, torch's version and the processor.

    Args:
        root: Folder of all that is compiled.
        name: Of the model, for people who look into the folder.
        checkpoint: The folder with model_index.json.
        dtype: What is computed in.
    """

    def __init__(self, root: Path, name: str, checkpoint: Path, dtype: torch.dtype) -> None:
        self._root = root
        self._prefix = f"{name}-{str(dtype).removeprefix('torch.')}-"
        salt = f"{_FORMAT} {torch.__version__} {dtype} {_processor()}"
        self.folder = root / f"{self._prefix}{digest(checkpoint, salt)}"

    @property
    def complete(self) -> bool:
        """Whether the libraries are there."""
        return self.folder.is_dir()

    def prepare(self) -> Path:
        """Makes a folder for libraries in the making; those that were left by somebody who was killed are dropped.

        Raises:
            OSError: It cannot be made.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{_MAKING}*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=_MAKING, dir=self._root))

    def keep(self, making: Path) -> None:
        """Takes a folder of libraries in, and drops those of the same model that it replaces.

        Raises:
            OSError: It cannot be stored.
        """
        if self.complete:  # another instance of the model was faster
            return
        for old in self._root.glob(f"{self._prefix}*"):
            shutil.rmtree(old, ignore_errors=True)
        try:
            os.rename(making, self.folder)
        except OSError:
            if not self.complete:  # otherwise another instance was faster by a moment
                raise

    def discard(self) -> None:
        """Drops libraries that do not work."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _processor() -> str:
    """What the libraries' machine code depends on; they are compiled for the very processor."""
    flags = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features")))
    return f"{platform.machine()} {hashlib.sha256(flags.encode()).hexdigest()}"
