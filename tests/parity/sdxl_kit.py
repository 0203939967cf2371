"""Drives an SDXL backend without a server: a tiny engine, and a checkpoint with random weights."""

import contextlib
import itertools
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from atelier_server.backends.base import (
    Backend,
    DiffusionTask,
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobImage,
    ModelSpec,
    Pixels,
)
from atelier_server.backends.sdxl import create

TRAINING = Path(__file__).parents[2] / "training"
_IDS = itertools.count()


@contextlib.contextmanager
def _training_modules(*argv: str) -> Iterator[None]:
    """Lets scripts of training/ import one another as when they are started, and takes all traces away."""
    path, arguments, modules = sys.path[:], sys.argv[:], set(sys.modules)
    sys.path.insert(0, str(TRAINING))
    sys.argv[1:] = argv
    try:
        yield
    finally:
        sys.path[:], sys.argv[:] = path, arguments
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(TRAINING):
                del sys.modules[name]


def make_checkpoint(folder: Path) -> Path:
    """Writes the starter's layout with random weights."""
    with _training_modules(str(folder)):
        runpy.run_path(str(TRAINING / "make_untrained.py"), run_name="__main__")
    return folder


def make_backend(folder: Path, dtype: str = "float32", **parameters: str) -> Backend:
    """A loaded backend on the CPU."""
    backend = create(ModelSpec("starter", "1", folder, parameters=parameters, device="cpu", dtype=dtype))
    backend.load()
    return backend


def task(**changes: Any) -> DiffusionTask:
    """A small task with an id of its own."""
    values: dict[str, Any] = {
        "job_id": f"job-{next(_IDS)}",
        "prompt": "a red leather handbag on white marble",
        "negative_prompt": None,
        "seeds": (1,),
        "width": 128,
        "height": 128,
        "num_inference_steps": 6,
        "guidance_scale": 7.5,
    }
    return DiffusionTask(**{**values, **changes})


@dataclass
class Crowd:
    """A backend, and all that its jobs said."""

    backend: Backend
    events: dict[str, list[JobEvent]] = field(default_factory=dict)

    def submit(self, one: DiffusionTask) -> list[JobEvent]:
        """Submits a task; its events arrive in the list that is returned."""
        events = self.events[one.job_id] = []
        self.backend.submit(Job(one, events.append, time.monotonic()))
        return events

    def run(self, before_step: Callable[[int], None] = lambda step: None) -> None:
        """Steps until nothing is left; `before_step` may submit or abort."""
        for step in itertools.count():
            before_step(step)
            if self.backend.step() is None:
                return


def run(backend: Backend, one: DiffusionTask) -> list[Pixels]:
    """Computes a task alone. Returns its pictures."""
    crowd = Crowd(backend)
    events = crowd.submit(one)
    crowd.run()
    return pictures(events)


def pictures(events: list[JobEvent]) -> list[Pixels]:
    """The pictures of a job that succeeded."""
    failures = [event.error for event in events if isinstance(event, JobFailed)]
    if failures:
        raise failures[0]
    assert isinstance(events[-1], JobDone)
    images = [event for event in events if isinstance(event, JobImage)]
    return [image.pixels for image in sorted(images, key=lambda image: image.image_index)]


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise ratio in dB."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
