"""A real server with its processes, and NVIDIA's client in an environment and process of its own.

Two copies of `package inference` cannot live in one process, so the client's side is in drivers/, run by files.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.kserve_kit import step, write_double, write_ensemble

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "venv-tritonclient" / "bin" / "python"
DRIVERS = Path(__file__).parent / "drivers"


@dataclass(frozen=True)
class ServerProcess:
    """A server started from its command line."""

    address: str
    pid: int


@dataclass(frozen=True)
class Driven:
    """What a driver left."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


Drive = Callable[..., Driven]


@pytest.fixture(scope="session")
def client_python() -> Path:
    """The interpreter that has the client; `make tritonclient` makes it."""
    if not (PYTHON.parent.parent / ".installed").is_file():
        pytest.skip("NVIDIA's client is not installed; run `make tritonclient`")
    return PYTHON


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, starter_repository: Path) -> Path:
    """A repository with the picture model, the CLIP towers, and a small tensor model."""
    repository = tmp_path_factory.mktemp("conformance") / "models"
    for folder in (starter_repository / "starter", ROOT / "models" / "starter_clip"):
        shutil.copytree(folder, repository / folder.name, copy_function=os.link)
    write_double(repository)
    write_ensemble(repository, "chain", step("double", {"x": "x"}, {"y": "z"}), step("double", {"x": "z"}, {"y": "y"}))
    return repository


@pytest.fixture(scope="session")
def server(models: Path, client_python: Path) -> Iterator[ServerProcess]:
    """A server that is ready."""
    command = [sys.executable, "-m", "atelier_server", "serve", "--model-control-mode", "explicit"]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--model-repository", str(models)]
    command += ["--load-model", "*", "--dtype", "float32", "--state-dir", str(models.parent / "state")]
    with (models.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("READY "), (models.parent / "server.log").read_text()[-4000:]
        yield ServerProcess(line.split()[1].removeprefix("grpc="), process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def drive(server: ServerProcess, client_python: Path, tmp_path: Path) -> Drive:
    """Runs a driver against the server; `inputs` are arrays for it."""

    def run(driver: str, *arguments: str, **inputs: np.ndarray) -> Driven:
        np.savez(tmp_path / "inputs.npz", **inputs)
        command = [str(client_python), str(DRIVERS / driver), server.address, str(tmp_path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        arrays = np.load(tmp_path / "arrays.npz") if (tmp_path / "arrays.npz").exists() else {}
        facts = json.loads((tmp_path / "facts.json").read_text()) if (tmp_path / "facts.json").exists() else {}
        return Driven(facts, dict(arrays))

    return run
