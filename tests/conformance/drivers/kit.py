"""What the drivers share. They run in an environment of their own, with NVIDIA's client and without Atelier."""

import inspect
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

DOUBLED = np.arange(4, dtype=np.float32).reshape(1, 4)


GUEST = {
    "backend": "onnxruntime",
    "max_batch_size": 4,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}],
}
"""The configuration of a model that comes with its load request."""


class Recorder:
    """A client whose calls are counted by method."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.called: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.called[name] += 1
        return getattr(self._client, name)

    def never_called(self) -> list[str]:
        """Public methods that nobody called."""
        public = {name for name, _ in inspect.getmembers(self._client, callable) if not name.startswith("_")}
        return sorted(public - set(self.called))


def filled(module: Any, arrays: dict[str, np.ndarray]) -> list[Any]:
    """InferInput objects of arrays; object arrays are BYTES."""
    from tritonclient.utils import np_to_triton_dtype

    inputs = []
    for name, array in arrays.items():
        tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def picture_inputs(module: Any, prompt: str, seed: int, steps: int = 2) -> list[Any]:
    """The inputs of a small, repeatable picture."""
    arrays = {
        "prompt": np.array([prompt.encode()], object),
        "seed": np.array([seed], np.uint64),
        "num_inference_steps": np.array([steps], np.uint32),
        "reproducibility": np.array([b"EXACT"], object),
    }
    return filled(module, arrays)


def report(folder: Path, facts: dict[str, Any], **arrays: np.ndarray) -> None:
    """Leaves facts and arrays for the test that started the driver."""
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "facts.json").write_text(json.dumps(facts))


def arguments() -> tuple[str, Path]:
    """The server's address, and the folder of what comes in and goes out."""
    return sys.argv[1], Path(sys.argv[2])
