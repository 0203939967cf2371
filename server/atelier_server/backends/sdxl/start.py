"""Loads and warms up a model, with less, in pieces or on the CPU where its device's memory does not suffice."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.sdxl.compiled.compilation import Compilation, compilation_of
from atelier_server.backends.sdxl.curve import Measured, StepCurve
from atelier_server.backends.sdxl.device import choose_device, choose_dtype
from atelier_server.backends.sdxl.memory import LEAST_ROWS, MemoryRelief, is_shortage, out_of_memory, release_memory
from atelier_server.backends.sdxl.model import Model
from atelier_server.backends.sdxl.parameters import DTYPES, Parameters
from atelier_server.errors import InvalidArgument

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """A model at work. `decode_seconds` is what one native picture takes the VAE."""

    model: Model
    relief: MemoryRelief
    decode_seconds: float


def start(spec: ModelSpec, parameters: Parameters, clock: Callable[[], float]) -> Started:
    """Loads the checkpoint and measures how long a step takes by number of rows.

    Raises:
        InvalidArgument, Unavailable: The checkpoint or its description is broken, or the device is not there.
        ResourceExhausted: Its memory does not suffice.
    """
    if spec.dtype not in DTYPES:
        raise InvalidArgument(f"The dtype {spec.dtype!r} is unknown; use {', '.join(DTYPES)}.", field="dtype")
    if spec.threads > 0:
        torch.set_num_threads(spec.threads)
    begin = time.perf_counter()
    home = choose_device(spec.device)
    model = _load(spec, parameters, home)
    compilation = compilation_of(spec, parameters, model.device, model.runner.dtype, model.unet_parameters)
    if compilation is not None and parameters.compile == "on" and not compilation.store.complete:
        compilation.run()
    if compilation is not None and compilation.store.complete:
        _take(model, compilation)
        compilation = None
    loaded = time.perf_counter()
    started = _warm_up(model, parameters, home, clock)
    if parameters.compile == "on" and model.device.type == "cuda":
        model.record_steps()
    curve, native = started.relief.curve, model.limits.native_width * model.limits.native_height
    points = ", ".join(f"{rows}: {1000 * seconds:.0f}" for rows, seconds in curve.points.items())
    _LOG.info(
        "%s on %s in %s: loaded in %.1f s, warmed up in %.1f s; ms a step by rows: %s; at most %d rows a step",
        spec.name, model.device, str(model.runner.dtype).removeprefix("torch."), loaded - begin,
        time.perf_counter() - loaded, points, started.relief.cap(native),
    )  # fmt: skip
    if compilation is not None and parameters.compile == "auto":
        model.compilation = compilation
        compilation.begin()
    return started


def take_up_compiled(model: Model) -> None:
    """Lets a model compute by what was compiled beside its work, if that is done by now."""
    compilation = model.compilation
    if compilation is not None and compilation.done:
        model.compilation = None
        _take(model, compilation)


def _take(model: Model, compilation: Compilation) -> None:
    """Libraries that do not work are dropped, with a line in the log."""
    try:
        with torch.inference_mode():
            model.take_compiled(compilation.store.folder)
    except OSError as error:
        _LOG.warning("the compiled libraries in %s are dropped: %s", compilation.store.folder, error)
        compilation.store.discard()
    else:
        _LOG.info("compiled libraries in %s compute from now on", compilation.store.folder)


def _load(spec: ModelSpec, parameters: Parameters, home: torch.device) -> Model:
    """On its device; on the CPU where that is too small and the parameters allow it."""

    def load(device: torch.device) -> Model:
        wanted = spec.dtype if spec.dtype != "auto" else parameters.dtype
        return Model(spec, device, choose_dtype(wanted, device), parameters)

    try:
        return load(home)
    except Exception as error:
        if not is_shortage(error):
            raise
        _LOG.warning("%s does not fit into the memory of %s", spec.name, home)
    release_memory()
    if home.type == "cpu" or parameters.allow_cpu_fallback == "off":
        raise out_of_memory()
    return load(torch.device("cpu"))


def _warm_up(model: Model, parameters: Parameters, home: torch.device, clock: Callable[[], float]) -> Started:
    native = model.limits.native_width * model.limits.native_height
    unknown = StepCurve(Measured({LEAST_ROWS: 1.0}, {LEAST_ROWS: 1.0}), native, parameters.max_rows)
    relief = MemoryRelief(
        model, unknown, native, allow_cpu=parameters.allow_cpu_fallback == "on", clock=clock, home=home
    )
    rows, measured = parameters.max_rows, (unknown, 0.0)

    def warm_up() -> None:
        nonlocal measured
        with torch.inference_mode():
            measured = model.warm_up(parameters.max_rows, rows)

    while not relief.fits(warm_up):
        relief.relieve(rows, native)
        rows = max(LEAST_ROWS, rows // 2)
    relief.measured(measured[0])
    return Started(model, relief, measured[1])
