"""Who may import whom, and what importing costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "onnxruntime")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    # Without coverage's own start-up, which imports modules of its own.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_layer_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_neither_torch_nor_the_network() -> None:
    loaded = modules_after("import atelier_server")
    assert loaded.isdisjoint({*HEAVY, "grpc", "google", "socket", "ssl", "asyncio", "numpy"})


@pytest.mark.parametrize("module", ["frontend.app", "cli", "runner.main", "backends.echo"])
def test_modules_that_load_no_model_stay_light(module: str) -> None:
    assert modules_after(f"import atelier_server.{module}").isdisjoint(HEAVY)


def test_the_client_needs_only_grpc() -> None:
    loaded = modules_after("import atelier_client")
    assert loaded.isdisjoint({*HEAVY, "numpy", "PIL", "rich", "atelier_server"})
