"""Converted graphs on disk, so that a model is converted once and not at every start."""

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier_server.backends.sdxl.derived import digest
from atelier_server.backends.sdxl.openvino.runtime import Runtime

_LOG = logging.getLogger(__name__)
_FORMAT = 1
"""Of what is converted and how; another number makes all stored graphs strangers."""
_PARTS = ("text", "unet", "decoder")


@dataclass(frozen=True, slots=True)
class Graphs:
    """OpenVINO models: text to keys and values, the UNet behind them, the VAE's decoder."""

    text: Any
    unet: Any
    decoder: Any


class GraphStore:
    """A folder for one checkpoint's graphs, named by its weights, by OpenVINO's version and by the dtype.

    Args:
        root: Folder of all stored graphs.
        name: Of the model and its version, for people who look into the folder.
        checkpoint: The folder with model_index.json.
        runtime: That will run them.
    """

    def __init__(self, root: Path, name: str, checkpoint: Path, runtime: Runtime) -> None:
        dtype = str(runtime.dtype).removeprefix("torch.")
        self._root, self._runtime = root, runtime
        self._prefix = f"{name}-{dtype}-"
        self.folder = root / f"{self._prefix}{digest(checkpoint, f'{_FORMAT} {runtime.version} {dtype}')}"

    def read(self) -> Graphs | None:
        """The stored graphs, their weights mapped from the files; None where there are none or they are damaged."""
        if not self.folder.is_dir():
            return None
        try:
            return Graphs(*(self._runtime.read(self.folder / f"{part}.xml") for part in _PARTS))
        except RuntimeError as error:
            _LOG.warning("%s cannot be read and is made anew: %s", self.folder, str(error).splitlines()[0])
            shutil.rmtree(self.folder, ignore_errors=True)
            return None

    def write(self, graphs: Graphs) -> None:
        """Stores graphs, all or none, and drops those of the same model that its new weights replace.

        Raises:
            OSError: They cannot be stored.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=self._root))
        try:
            for part in _PARTS:
                save = self._runtime.openvino.save_model
                save(getattr(graphs, part), making / f"{part}.xml", compress_to_fp16=False)
            for old in self._root.glob(f"{self._prefix}*"):
                shutil.rmtree(old, ignore_errors=True)
            with suppress(FileExistsError):  # another instance of the model was faster
                os.rename(making, self.folder)
        except RuntimeError as error:  # OpenVINO's own words for a full disk
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
