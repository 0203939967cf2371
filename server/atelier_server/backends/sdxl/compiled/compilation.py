"""Whether a model is compiled, and the process that does it while the model is already at work."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.compiled.store import CompiledStore
from atelier_server.backends.sdxl.parameters import Parameters
from atelier_server.errors import InvalidArgument, Unavailable

_LOG = logging.getLogger(__name__)
DTYPES = (torch.float32, torch.bfloat16)
"""What is compiled; elsewhere float16 is computed as torch does it."""
MOST_PARAMETERS = 500_000_000
"""Larger UNets are not compiled by themselves: their libraries hold the weights once more, and SDXL's own 2.6 G
parameters took 16 s a step compiled where torch takes 3.2 s (2 rows, 512², two cores, 24 GiB)."""
_DELAY_SECONDS = 10.0
"""A model that has just started is likely to be called at once; a server that was started for one picture is gone."""
_LINES = 5


def compilation_of(
    spec: ModelSpec, parameters: Parameters, device: torch.device, dtype: torch.dtype, unet_parameters: int
) -> "Compilation | None":
    """Reads the parameter `compile`. None where torch computes the model as it is.

    Args:
        spec: Of the model.
        parameters: Those of config.pbtxt.
        device: Where it computes; only on a CPU this way (recorded.py is for CUDA).
        dtype: In what.
        unet_parameters: How many torch's UNet has; 0 where torch does not compute it.

    Raises:
        InvalidArgument: It is on, for a model that is not compiled or has no place for the result.
        Unavailable: It is on, and there is no compiler.
    """
    if parameters.compile == "off" or not unet_parameters or device.type != "cpu":
        return None
    if dtype not in DTYPES:
        if parameters.compile == "on":
            raise InvalidArgument(
                "The parameter compile of config.pbtxt is on, and on a CPU only float32 and bfloat16 are compiled, not "
                f"{str(dtype).removeprefix('torch.')}; set it to auto or off.",
                field="parameters.compile",
            )
        return None
    if parameters.compile == "auto" and unet_parameters > MOST_PARAMETERS:
        return None
    if spec.derived_folder:
        root = Path(spec.derived_folder) / "compiled"
        store = CompiledStore(root, f"{spec.name}-{spec.version}", spec.folder, dtype)
        if store.complete or compiler():
            return Compilation(spec, dtype, store)
    elif parameters.compile == "on":
        raise InvalidArgument(
            "The parameter compile of config.pbtxt is on, and this model has no folder where libraries could be kept; "
            "set it to auto or off.",
            field="parameters.compile",
        )
    if parameters.compile == "on":
        raise Unavailable(
            "The parameter compile of config.pbtxt is on, and there is no C++ compiler; install one (`apt-get install "
            "g++`; the variable CXX names another), or set the parameter to auto or off.",
            reason="PACKAGE_MISSING",
            metadata={"package": "g++"},
        )
    return None


def compiler() -> str | None:
    """Path of the C++ compiler that torch would call; None where there is none."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


class _Failed(Exception):
    """The process that compiles did not do it."""


class Compilation:
    """Compiles one model, unless that was done before.

    Args:
        spec: Of the model.
        dtype: What it computes in.
        store: Where the result goes.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype, store: CompiledStore) -> None:
        self._spec, self._dtype, self.store = spec, dtype, store
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        """Whether there is something to take up that was not there at the start."""
        return self._ended.is_set() and self.store.complete

    def begin(self) -> None:
        """Compiles beside the model's work, with what time the processors have left."""
        threading.Thread(target=self._compile_later, name="compilation", daemon=True).start()

    def run(self, beside: bool = False) -> bool:
        """Compiles now. Returns whether it worked; the log says why not.

        Args:
            beside: With what time the processors have left; otherwise somebody waits for it.
        """
        begin = time.perf_counter()
        try:
            making = self.store.prepare()
            try:
                self._build(making, beside)
                self.store.keep(making)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        except (OSError, _Failed) as error:
            _LOG.warning(
                "%s could not be compiled and is computed as before; --compile off keeps it from being tried. %s",
                self._spec.name, error,
            )  # fmt: skip
            return False
        _LOG.info("compiled %s in %.0f s", self._spec.name, time.perf_counter() - begin)
        return True

    def _build(self, folder: Path, beside: bool) -> None:
        command = [sys.executable, "-m", "atelier_server.backends.sdxl.compiled.build", str(self._spec.folder)]
        command += [f"--name={self._spec.name}", f"--dtype={str(self._dtype).removeprefix('torch.')}"]
        command += ["--beside"] if beside else []
        # It ends when its standard input is closed, and nobody else holds the other end.
        with subprocess.Popen(
            [*command, f"--into={folder}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            said = process.stderr.read()
        if process.returncode:
            lines = " / ".join(said.strip().splitlines()[-_LINES:])
            raise _Failed(f"Its compilation ended with exit status {process.returncode}: {lines}")

    def _compile_later(self) -> None:
        time.sleep(_DELAY_SECONDS)
        if not self.store.complete:  # another instance of the model may have been faster
            _LOG.info("compiling %s beside its work; its steps will take about half the time", self._spec.name)
            self.run(beside=True)
        self._ended.set()
