"""Converted graphs on disk, so that a model is converted once and not at every start."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier_server.backends.sdxl.derived import DerivedStore
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


class GraphStore(DerivedStore):
    """A folder for one checkpoint's graphs, named by its weights, by OpenVINO's version and by the dtype.

    Args:
        root: Folder of all stored graphs.
        name: Of the model and its version, for people who look into the folder.
        checkpoint: The folder with model_index.json.
        runtime: That will run them.
    """

    def __init__(self, root: Path, name: str, checkpoint: Path, runtime: Runtime) -> None:
        super().__init__(root, name, checkpoint, runtime.dtype, f"{_FORMAT} {runtime.version}")
        self._runtime = runtime

    def read(self) -> Graphs | None:
        """The stored graphs, their weights mapped from the files; None where there are none or they are damaged."""
        if not self.complete:
            return None
        try:
            return Graphs(*(self._runtime.read(self.folder / f"{part}.xml") for part in _PARTS))
        except RuntimeError as error:
            _LOG.warning("%s cannot be read and is made anew: %s", self.folder, str(error).splitlines()[0])
            self.discard()
            return None

    def write(self, graphs: Graphs) -> None:
        """Stores graphs, all or none, and drops those of the same model that its new weights replace.

        Raises:
            OSError: They cannot be stored.
        """
        making = self.prepare()
        try:
            for part in _PARTS:
                save = self._runtime.openvino.save_model
                save(getattr(graphs, part), making / f"{part}.xml", compress_to_fp16=False)
            self.keep(making)
        except RuntimeError as error:  # OpenVINO's own words for a full disk
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
