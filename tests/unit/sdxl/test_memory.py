"""Shortages of memory at load, encode, step and decode: what is done about them, what callers see, what comes after."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atelier_server.backends.base import JobDone, JobEvent, JobFailed, JobStarted, JobStep, ModelSpec
from atelier_server.backends.sdxl import create, memory, start
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.backends.sdxl.curve import Measured, StepCurve
from atelier_server.backends.sdxl.memory import GOOD_STEPS, HOME_AFTER_SECONDS, MemoryRelief, is_shortage
from atelier_server.errors import ResourceExhausted
from tests.parity.sdxl_kit import Crowd, pictures, psnr, run, task

PIXELS = 128 * 128
CUDA = torch.device("cuda")


def shortage() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def is_sliced(backend: SdxlBackend) -> bool:
    return all("Sliced" in type(one).__name__ for one in backend._model._parts[0].attn_processors.values())


@pytest.fixture
def healthy(backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[SdxlBackend]:
    """A backend with batches of 8 rows, whatever the machine is like, and without measures before and after."""
    monkeypatch.setattr(backend._relief.curve, "cap", lambda pixels: 8 * PIXELS // pixels)
    monkeypatch.setattr(backend._relief.curve, "step_seconds", lambda rows, pixels: 0.01 + 0.001 * rows)
    backend._relief.restore()
    yield backend
    monkeypatch.undo()
    backend._relief.restore()
    assert not backend.status().warnings


def small_unet(backend: SdxlBackend, patch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Lets the UNet fail at more than so many rows of 128 x 128, until it is sliced. Returns the rows it computed."""
    original, computed = backend._model.runner.predict, list[int]()

    def predict(sample: torch.Tensor, *rest: Any) -> torch.Tensor:
        area = sample.shape[0] * sample.shape[2] * sample.shape[3] * backend._model.codec.factor**2
        if area > rows * PIXELS and not is_sliced(backend):
            raise shortage()
        computed.append(sample.shape[0])
        return original(sample, *rest)

    patch.setattr(backend._model.runner, "predict", predict)
    return computed


def done(events: list[JobEvent]) -> JobDone:
    assert isinstance(events[-1], JobDone)
    return events[-1]


def test_a_batch_that_is_too_wide_is_halved_and_every_picture_comes(
    healthy: SdxlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(healthy, task(seeds=(1, 2, 3, 4), num_inference_steps=3))
    crowd = Crowd(healthy)
    with monkeypatch.context() as patch:
        computed = small_unet(healthy, patch, rows=4)
        events = crowd.submit(task(seeds=(1, 2, 3, 4), num_inference_steps=3))
        crowd.run()
    assert set(computed) == {4}
    assert healthy.status().facts["max_rows"] == 4
    assert not is_sliced(healthy)
    assert healthy.status().warnings == ("out of memory; since then batches of at most 4 rows",)
    for before, after in zip(expected, pictures(events), strict=True):
        assert psnr(before, after) > 50
    for index in range(4):
        steps = [event.step for event in events if isinstance(event, JobStep) and event.image_index == index]
        assert steps == [1, 2, 3], "a step that was done again is told once"
    assert sum(isinstance(event, JobStarted) for event in events) == 1
    assert len(run(healthy, task(num_inference_steps=1))) == 1
    assert not healthy.status().warnings, "the next request is back to normal"
    assert healthy.status().facts["max_rows"] == 8


def test_one_picture_that_is_too_large_is_computed_in_pieces(
    healthy: SdxlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task(num_inference_steps=3, exact=True)
    [expected] = run(healthy, one)
    crowd = Crowd(healthy)
    shortages = healthy.status().counters["out_of_memory"]
    with monkeypatch.context() as patch:
        small_unet(healthy, patch, rows=1)
        events = crowd.submit(one)
        crowd.run()
        assert is_sliced(healthy)
        assert healthy._model.codec.tiles(PIXELS)
    assert healthy.status().counters["out_of_memory"] == shortages + 1
    assert "in pieces" in healthy.status().warnings[0]
    [picture] = pictures(events)
    assert picture.shape == expected.shape
    assert done(events).exact is False
    again = crowd.submit(one)
    crowd.run()
    assert not is_sliced(healthy)
    assert not healthy._model.codec.tiles(PIXELS)
    assert done(again).exact is True
    np.testing.assert_array_equal(pictures(again)[0], expected)


@pytest.mark.parametrize(
    ("part", "method"), [("_model", "encode"), ("_model.codec", "decode")], ids=["encode", "decode"]
)
@pytest.mark.parametrize(("failures", "rows", "pieces"), [(1, 4, False), (2, 4, True)])
def test_a_shortage_beside_the_unet(
    healthy: SdxlBackend,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    method: str,
    failures: int,
    rows: int,
    pieces: bool,
) -> None:
    owner = healthy._model if part == "_model" else healthy._model.codec
    original, left = getattr(owner, method), [failures]

    def short(*args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise shortage()
        return original(*args)

    crowd = Crowd(healthy)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, short)
        events = crowd.submit(task(num_inference_steps=2, exact=True))
        crowd.run()
    assert len(pictures(events)) == 1
    assert done(events).exact is False
    assert healthy.status().facts["max_rows"] == rows
    assert is_sliced(healthy) is pieces
    assert healthy.status().warnings


def test_when_nothing_helps_the_request_is_refused_and_the_backend_lives(
    healthy: SdxlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(healthy)
    with monkeypatch.context() as patch:
        original = healthy._model.runner.predict

        def predict(sample: torch.Tensor, *rest: Any) -> torch.Tensor:
            if sample.shape[-1] == 128 // healthy._model.codec.factor:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            return original(sample, *rest)

        patch.setattr(healthy._model.runner, "predict", predict)
        large = crowd.submit(task())
        small = crowd.submit(task(width=64, height=64))
        crowd.run()
    assert isinstance(large[-1], JobFailed)
    assert isinstance(large[-1].error, ResourceExhausted)
    assert large[-1].error.reason == "OUT_OF_MEMORY"
    assert len(pictures(small)) == 1
    assert len(run(healthy, task(num_inference_steps=1))) == 1


@pytest.mark.parametrize("noise_schedule", ["euler", "unipc", "dpmpp_2m"])
def test_the_last_measure_is_the_cpu(
    healthy: SdxlBackend, monkeypatch: pytest.MonkeyPatch, noise_schedule: str
) -> None:
    one = task(num_inference_steps=4, noise_schedule=noise_schedule)
    [expected] = run(healthy, one)
    now = [0.0]
    relief = MemoryRelief(
        healthy._model, healthy._relief.curve, PIXELS, allow_cpu=True, clock=lambda: now[0], home=CUDA
    )
    relief.on_move = healthy._move_pictures
    crowd = Crowd(healthy)
    with monkeypatch.context() as patch:
        patch.setattr(healthy, "_relief", relief)
        patch.setattr(healthy._model.codec, "_tiling", "off")  # tiles of random weights look like nothing
        original, steps, shortages = healthy._model.runner.step, [0], [2]

        def step(some: Any) -> None:
            if steps[0] == 2 and shortages[0]:
                shortages[0] -= 1
                healthy._model.device = CUDA  # it only says so; the test needs no GPU
                raise shortage()
            steps[0] += 1
            original(some)

        patch.setattr(healthy._model.runner, "step", step)
        events = crowd.submit(one)
        crowd.run()
        assert "computing on the cpu instead of cuda" in healthy.status().warnings[0]
        assert healthy.status().device == "cpu"
        assert psnr(pictures(events)[0], expected) > 40
        homes: list[torch.device] = []
        patch.setattr(healthy._model, "move", homes.append)
        relief.restore()
        assert not homes, "not at once"
        now[0] += HOME_AFTER_SECONDS
        relief.restore()
        assert homes == [CUDA]


@pytest.fixture
def spec(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """Of a model that is meant for a GPU whose memory does not hold it."""
    monkeypatch.setattr(start, "choose_device", lambda wanted: CUDA)
    original = start.Model

    def model(spec: ModelSpec, device: torch.device, *rest: Any) -> Any:
        if device == CUDA:
            raise shortage()
        return original(spec, device, *rest)

    monkeypatch.setattr(start, "Model", model)
    return ModelSpec("starter", "1", checkpoint, {"max_rows": "2", "allow_cpu_fallback": "on"}, dtype="float32")


def test_a_model_that_does_not_fit_is_loaded_on_the_cpu_where_that_is_allowed(spec: ModelSpec) -> None:
    backend = create(spec)
    backend.load()
    assert backend.status().warnings == ("out of memory; since then computing on the cpu instead of cuda",)
    assert backend.status().device == "cpu"
    assert len(run(backend, task(num_inference_steps=1))) == 1


def test_a_model_that_does_not_fit_is_refused_where_it_is_not(spec: ModelSpec) -> None:
    with pytest.raises(ResourceExhausted, match="memory"):
        create(dataclasses.replace(spec, parameters={})).load()


def test_the_warm_up_finds_out_what_fits(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = start.Model.warm_up

    def warm_up(model: Any, max_rows: int, measured_rows: int) -> Any:
        if measured_rows > 8:
            raise shortage()
        return original(model, max_rows, 2)

    monkeypatch.setattr(start.Model, "warm_up", warm_up)
    backend = create(ModelSpec("starter", "1", checkpoint, {"max_rows": "32"}, device="cpu", dtype="float32"))
    assert isinstance(backend, SdxlBackend)
    backend.load()
    monkeypatch.setattr(backend._relief.curve, "cap", lambda pixels: 32)
    assert backend.status().facts["max_rows"] == 8
    assert not is_sliced(backend)


class FakeModel:
    """Notes what it is told."""

    can_economise = True

    def __init__(self, device: torch.device = CUDA) -> None:
        self.device = device
        self.pieces: list[bool] = []
        self.refuses: Callable[[torch.device], bool] = lambda device: False

    def economise(self, on: bool) -> None:
        self.pieces.append(on)

    def move(self, device: torch.device) -> None:
        if self.refuses(device):
            raise shortage()
        self.device = device


def make_relief(model: FakeModel, clock: Callable[[], float] = lambda: 0.0) -> MemoryRelief:
    flat = {1: 0.1, 2: 0.11, 4: 0.12, 8: 0.13, 16: 0.14}
    return MemoryRelief(model, StepCurve(Measured(flat, flat), PIXELS, 16), PIXELS, allow_cpu=True, clock=clock)


def steps(relief: MemoryRelief, count: int) -> None:
    for _ in range(count):
        relief.update(2, PIXELS, 0.11)


def test_measures_are_taken_back_one_by_one() -> None:
    model = FakeModel()
    relief = make_relief(model)
    assert relief.cap(PIXELS) == 16
    relief.relieve(16, PIXELS)
    relief.relieve(8, PIXELS)
    relief.relieve()
    assert (relief.cap(PIXELS), relief.cap(4 * PIXELS), model.pieces) == (4, 2, [True])
    steps(relief, GOOD_STEPS - 1)
    assert model.pieces == [True]
    steps(relief, 1)
    assert model.pieces == [True, False]
    steps(relief, GOOD_STEPS)
    assert relief.cap(PIXELS) == 8
    steps(relief, GOOD_STEPS)
    assert relief.cap(PIXELS) == 16
    assert not relief.active


def test_a_measure_that_proves_to_be_needed_is_kept_longer() -> None:
    relief = make_relief(FakeModel())
    relief.relieve(16, PIXELS)
    steps(relief, GOOD_STEPS)
    assert not relief.active
    relief.relieve(16, PIXELS)
    steps(relief, GOOD_STEPS)
    assert relief.active
    steps(relief, GOOD_STEPS)
    assert not relief.active


def test_a_device_that_is_still_full_is_left_again() -> None:
    model, now = FakeModel(), [0.0]
    relief = make_relief(model, lambda: now[0])
    relief.relieve()
    relief.relieve()
    assert (model.device.type, relief.alters_pictures) == ("cpu", True)
    steps(relief, 10 * GOOD_STEPS)
    assert model.device.type == "cpu", "not while pictures are in the making"
    model.refuses = lambda device: device == CUDA
    now[0] += HOME_AFTER_SECONDS
    relief.restore()
    assert (model.device.type, relief.active) == ("cpu", True)
    model.refuses = lambda device: False
    now[0] += HOME_AFTER_SECONDS
    relief.restore()
    assert (model.device, relief.active) == (CUDA, False)


def test_the_cpus_times_do_not_spoil_the_devices() -> None:
    model, now = FakeModel(), [0.0]
    relief = make_relief(model, lambda: now[0])
    relief.relieve()
    relief.relieve()
    for _ in range(20):
        relief.update(2, PIXELS, 20.0)
    assert relief.step_seconds(2, PIXELS) == pytest.approx(20.0)
    now[0] += HOME_AFTER_SECONDS
    relief.restore()
    assert relief.step_seconds(2, PIXELS) == pytest.approx(0.11)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_a_shortage(error: Exception, short: bool) -> None:
    assert is_shortage(error) is short
    relief = make_relief(FakeModel())

    def work() -> None:
        raise error

    if short:
        assert relief.fits(work) is False
    else:
        with pytest.raises(type(error)):
            relief.fits(work)


def test_the_failed_works_tensors_are_let_go_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    alive: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(10)
        alive.append(weakref.ref(large))
        raise shortage()

    def release() -> None:
        assert alive[0]() is None

    monkeypatch.setattr(memory, "release_memory", release)
    assert make_relief(FakeModel()).fits(work) is False
