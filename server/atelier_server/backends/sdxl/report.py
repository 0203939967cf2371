"""How the backend is, for Health, metrics and the pipeline's plans."""

from collections.abc import Collection

import torch

from atelier_server.backends.base import BackendStatus
from atelier_server.backends.sdxl.jobs import Running
from atelier_server.backends.sdxl.memory import MemoryRelief
from atelier_server.backends.sdxl.model import Model
from atelier_server.backends.sdxl.parameters import Parameters
from atelier_server.backends.sdxl.tally import Tally


def report(
    model: Model, relief: MemoryRelief, parameters: Parameters, jobs: Collection[Running], tally: Tally
) -> BackendStatus:
    """Device, load, what it can do and what it did.

    Args:
        model: At work.
        relief: Its measures and its curve.
        parameters: Those of config.pbtxt.
        jobs: All that were taken in and are not done.
        tally: What it did.
    """
    limits = model.limits
    native = limits.native_width * limits.native_height
    running = sum(one.started is not None for one in jobs)
    on_cuda = model.device.type == "cuda"
    return BackendStatus(
        device=str(model.device),
        dtype=str(model.runner.dtype).removeprefix("torch."),
        waiting=max(0, len(jobs) - running),
        running=running,
        device_memory_bytes=torch.cuda.memory_allocated(model.device) if on_cuda else 0,
        facts={
            "native_width": limits.native_width,
            "native_height": limits.native_height,
            "max_side": limits.max_side,
            "size_multiple": limits.size_multiple,
            "default_steps": parameters.default_steps,
            "max_rows": relief.cap(native),
            "seconds_per_step": relief.step_seconds(2, native),
            "can_refine": float(limits.can_refine),
            **{f"seconds_of_{rows}_rows": relief.step_seconds(rows, native) for rows in relief.curve.points},
        },
        counters=dict(tally.counters),
        warnings=relief.warnings,
        histograms=tally.spreads(),
        execution=model.execution,
    )
