"""One checkpoint, one backend and one diffusers pipeline for the whole folder."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier_server.backends.base import Backend
from atelier_server.backends.sdxl.compiled.compilation import compiler
from tests.parity.compiled_kit import EARLY, EarlyCompilation
from tests.parity.sdxl_kit import make_backend, make_checkpoint


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compiling takes a minute, which the tests before test_compiled.py mostly spend waiting."""
    wanted = any(item.path.name == "test_compiled.py" and item.path.parent.name == "parity" for item in session.items)
    if wanted and compiler() and not session.config.option.collectonly:
        session.config.stash[EARLY] = EarlyCompilation()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends what a run that was stopped has left."""
    if (early := config.stash.get(EARLY, None)) is not None:
        early.end()


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> Iterator[None]:
    """EXACT promises equal bytes at a fixed thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sdxl") / "untrained")


@pytest.fixture(scope="session")
def backend(checkpoint: Path) -> Backend:
    return make_backend(checkpoint)


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> Any:
    from diffusers import StableDiffusionXLPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionXLPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def backend_bf16(checkpoint: Path) -> Backend:
    return make_backend(checkpoint, "bfloat16")
