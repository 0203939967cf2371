"""The small model of test_compiled.py, compiled from the first test of a run on: that is a minute's work for idle time.

python -m tests.parity.compiled_kit FOLDER
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.compiled.compilation import Compilation
from atelier_server.backends.sdxl.compiled.store import CompiledStore
from tests.parity.sdxl_kit import make_checkpoint

ROOT = Path(__file__).resolve().parents[2]
EARLY = pytest.StashKey["EarlyCompilation"]()


def untraced() -> dict[str, str]:
    """The environment of processes whose lines are not counted: tracing makes torch's compiler half as slow again."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class EarlyCompilation:
    """Runs this module. Its folder holds `checkpoint`, `derived` and `temporary`, where the build had its own files."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-compiled-"))
        (self.folder / "temporary").mkdir()
        # Less is optimised and looked for than usual, which spares a third of the time.
        quick = {"TORCHINDUCTOR_VEC_ISA_OK": "1", "AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL": "O0"}
        self._log = self.folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self.folder)],
                cwd=ROOT,
                env=untraced() | quick | {"TMPDIR": str(self.folder / "temporary")},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it is done."""
        assert self._process.wait() == 0, f"the small model could not be compiled:\n{self._log.read_text()}"

    def end(self) -> None:
        """Leaves nothing."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def store_of(checkpoint: Path, derived: Path) -> CompiledStore:
    """Where a backend named small finds its libraries."""
    return CompiledStore(derived / "compiled", "small-1", checkpoint, torch.float32)


def make_small_checkpoint(folder: Path) -> Path:
    """The starter's text encoders with as little to compile as a UNet and a decoder can be."""
    make_checkpoint(folder)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=12,
        out_channels=12,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=256,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=128 + 6 * 32,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(16,),
        latent_channels=12,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=16,
        scaling_factor=0.8,
        force_upcast=False,
    )
    for part, model in (("unet", unet), ("vae", vae)):
        shutil.rmtree(folder / part)
        model.save_pretrained(folder / part)
    return folder


def main() -> None:
    """Makes the checkpoint and compiles it."""
    with contextlib.suppress(OSError):
        os.nice(10)
    folder = Path(sys.argv[1])
    checkpoint = make_small_checkpoint(folder / "checkpoint")
    store = store_of(checkpoint, folder / "derived")
    sys.exit(not Compilation(ModelSpec("small", "1", checkpoint), torch.float32, store).run(beside=True))


if __name__ == "__main__":
    main()
