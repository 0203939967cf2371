"""What is made of a checkpoint and kept for the next start: a folder named by the weights that it was made of."""

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

_MAKING = "making-"
_ABANDONED_SECONDS = 3600.0


class DerivedStore:
    """A folder that is there as a whole or not at all.

    Args:
        root: Folder of all that is kept of this kind.
        name: Of the model and its version, for people who look into the folder.
        checkpoint: The folder with model_index.json.
        dtype: What is computed in.
        salt: What else decides whether the content is of use: versions, the processor.
    """

    def __init__(self, root: Path, name: str, checkpoint: Path, dtype: torch.dtype, salt: str) -> None:
        self._root = root
        self._prefix = f"{name}-{str(dtype).removeprefix('torch.')}-"
        self.folder = root / f"{self._prefix}{_digest(checkpoint, f'{salt} {dtype}')}"

    @property
    def complete(self) -> bool:
        """Whether it is there."""
        return self.folder.is_dir()

    def prepare(self) -> Path:
        """Makes a folder for what is in the making; those that were left by somebody who was killed are dropped.

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
        """Takes in what was made, and drops what it replaces of the same model.

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
        """Drops what does not work."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _digest(checkpoint: Path, salt: str) -> str:
    """24 hexadecimal digits that the UNet's and the VAE's files and `salt` decide."""
    made = hashlib.sha256(salt.encode())
    for part in ("unet", "vae"):
        for path in sorted((checkpoint / part).iterdir()):
            if path.suffix in (".safetensors", ".json"):
                made.update(path.name.encode())
                with path.open("rb") as file:
                    made.update(hashlib.file_digest(file, "sha256").digest())
    return made.hexdigest()[:24]
