"""One small checkpoint with random weights, and a backend on it."""

from pathlib import Path

import pytest

from atelier_server.backends.base import Backend
from tests.parity.sdxl_kit import make_backend, make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sdxl") / "untrained")


@pytest.fixture(scope="session")
def backend(checkpoint: Path) -> Backend:
    return make_backend(checkpoint, max_rows="8", allow_refine="on", max_side="256")
