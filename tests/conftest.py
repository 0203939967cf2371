"""Fixtures that every folder of tests may use."""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atelier_server.testing import RunningServer, echo_server

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch reads it when it is imported; its threads spin otherwise
os.environ.setdefault("ATELIER_COMPILE", "off")  # compiling beside the tests would take a core from them for a minute
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: its children would be deaf
    signal.signal(signal.SIGINT, signal.default_int_handler)
MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A real server on a free port with one quick model, echo, on a thread of this process."""
    async with echo_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def starter_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository whose starter can be loaded: the shipped one, or the same layout with random weights.

    It is to be read only.
    """
    if (MODELS / "starter" / "1" / "model_index.json").is_file():
        return MODELS
    from tests.parity.sdxl_kit import make_checkpoint  # torch takes seconds: only where it is needed

    models = tmp_path_factory.mktemp("untrained") / "models"
    (models / "starter").mkdir(parents=True)
    shutil.copy(MODELS / "starter" / "config.pbtxt", models / "starter")
    make_checkpoint(models / "starter" / "1")
    return models
