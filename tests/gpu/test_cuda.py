"""What only a CUDA device shows; on a machine without one all of it is skipped.

ATELIER_TEST_DEVICE names another device than cuda. With cpu the tests that make sense there run on it, which tries
them, not the device.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from atelier_server.backends import onnx, sdxl
from atelier_server.backends.base import Job, JobDone, JobEvent, JobStep, JobTensors, ModelSpec, Tensor, TensorTask
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.backends.sdxl.recorded import RecordedUNet
from atelier_server.errors import Unavailable
from atelier_server.executor.base import READY
from atelier_server.executor.subprocess import SubprocessExecutor
from tests.integration import executor_kit
from tests.parity.sdxl_kit import Crowd, make_checkpoint, pictures, psnr, run, task

DEVICE = os.environ.get("ATELIER_TEST_DEVICE", "cuda")
ON_CUDA = DEVICE.startswith("cuda") and torch.cuda.is_available()
INDEX = torch.device(DEVICE).index  # None: the current one
NO_DEVICE = "there is no CUDA device" if DEVICE != "cpu" else "ATELIER_TEST_DEVICE is cpu"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not ON_CUDA and DEVICE != "cpu", reason=NO_DEVICE)]
needs_cuda = pytest.mark.skipif(not ON_CUDA, reason=NO_DEVICE)

STARTER_CLIP = Path(__file__).parents[2] / "models" / "starter_clip" / "1"
LARGE = 512
"""Side of the pictures that fill the memory: large enough for the activations to outweigh weights and workspaces."""
MANY = 64
"""Pictures at once that fill it: 128 rows of a step, 1.8 GiB of activations. One alone needs 0.1 GiB, when decoded."""
PATIENCE = 120.0
"""Seconds that a runner may take to import torch, to open the device and to load."""
LIMITS = dataclasses.replace(
    executor_kit.QUICK, load_seconds=PATIENCE, silence_seconds=PATIENCE, stall_seconds=PATIENCE
)

SITE = """
import atelier_server.backends
atelier_server.backends.__path__.append({folder!r})
"""
BREAKING = '''
"""The sdxl backend; an index beyond a table breaks its device at a prompt with the word deadly."""

import torch

from atelier_server.backends.sdxl.backend import SdxlBackend


class BreakingBackend(SdxlBackend):
    def _encode(self, running):
        if "deadly" in running.task.prompt:
            device = self._model.device
            torch.nn.functional.embedding(torch.tensor([10**6], device=device), torch.zeros(4, 4, device=device))
            torch.cuda.synchronize(device)
        super()._encode(running)


create = BreakingBackend
'''


def load(folder: Path, device: str, dtype: str, **parameters: str) -> SdxlBackend:
    """A loaded backend."""
    backend = sdxl.create(
        ModelSpec("starter", "1", folder, {"compile": "off"} | parameters, device=device, dtype=dtype)
    )
    assert isinstance(backend, SdxlBackend)
    backend.load()
    return backend


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sdxl") / "untrained")


@pytest.fixture(scope="module")
def on_cpu(checkpoint: Path) -> SdxlBackend:
    return load(checkpoint, "cpu", "float32")


@pytest.fixture(scope="module")
def float32(checkpoint: Path) -> SdxlBackend:
    return load(checkpoint, DEVICE, "float32")


@pytest.fixture(scope="module")
def bfloat16(checkpoint: Path) -> SdxlBackend:
    return load(checkpoint, DEVICE, "bfloat16")


def let_share(backend: SdxlBackend, patch: pytest.MonkeyPatch, rows: int) -> None:
    """Lets so many rows share a step, however wide a batch pays on this device."""
    patch.setattr(backend._relief.curve, "cap", lambda pixels: rows)
    patch.setattr(backend._relief.curve, "step_seconds", lambda rows, pixels: 0.01 + 0.0001 * rows)


@needs_cuda
def test_a_model_takes_the_device_by_itself_and_computes_in_bfloat16(checkpoint: Path) -> None:
    backend = load(checkpoint, "auto", "auto")
    status = backend.status()
    assert status.device.startswith("cuda")
    assert status.dtype == "bfloat16"
    assert status.device_memory_bytes > 0
    assert len(run(backend, task(num_inference_steps=2))) == 1


@pytest.mark.parametrize("schedule", ["euler", "dpmpp_2m_karras", "euler_ancestral"])
def test_a_seed_means_the_same_picture_as_on_a_cpu(on_cpu: SdxlBackend, float32: SdxlBackend, schedule: str) -> None:
    """All noise comes from a generator on the CPU; convolutions in TF32, torch's default, left 58 dB when simulated."""
    [expected] = run(on_cpu, task(seeds=(5,), noise_schedule=schedule))
    [made] = run(float32, task(seeds=(5,), noise_schedule=schedule))
    assert expected.std() > 5, "a flat picture would hide differences"
    assert psnr(made, expected) >= 40


def steps_done(events: Iterable[JobEvent]) -> int:
    return sum(isinstance(event, JobStep) for event in events)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exact_bytes_alone_and_among_others(
    dtype: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come when some of its steps are done, and are another client's, who has turns like the first one."""
    backend: SdxlBackend = request.getfixturevalue(dtype)
    let_share(backend, monkeypatch, rows=6)
    one = task(seeds=(11, 12), exact=True, noise_schedule="euler_ancestral")
    alone = run(backend, one)
    crowd = Crowd(backend)
    events = crowd.submit(one)
    others: dict[int, list[JobEvent]] = {}
    meanwhile = 0

    def before_step(step: int) -> None:
        nonlocal meanwhile
        done = steps_done(events)
        if done in (2, 5, 8) and done not in others:
            side = (64, 128)[done % 2]
            other = task(seeds=(1, 2, 3), num_inference_steps=2, width=side, height=side, client="neighbour")
            others[done] = crowd.submit(other)
        if done < 12:
            meanwhile = sum(map(steps_done, others.values()))

    crowd.run(before_step)
    assert meanwhile > 0, "the others were to be computed between its steps"
    assert isinstance(events[-1], JobDone)
    assert events[-1].exact
    for first, second in zip(alone, pictures(events), strict=True):
        np.testing.assert_array_equal(first, second)


def test_batched_pictures_in_bfloat16_stay_close_to_exact_ones(
    bfloat16: SdxlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_share(bfloat16, monkeypatch, rows=16)
    seeds = tuple(range(31, 39))
    exact = run(bfloat16, task(seeds=seeds, exact=True))
    steps = bfloat16.status().counters.get("steps_of_16_rows", 0)
    batched = run(bfloat16, task(seeds=seeds))
    assert bfloat16.status().counters["steps_of_16_rows"] == steps + 6, "they did not share their steps"
    for one, other in zip(exact, batched, strict=True):
        assert one.std() > 5
        assert psnr(one, other) >= 30


@needs_cuda
def test_recorded_steps_make_nearly_the_same_pictures(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load(checkpoint, DEVICE, "bfloat16", compile="on")
    assert backend.status().execution == "compiled"
    let_share(backend, monkeypatch, rows=8)
    asked = task(seeds=(1, 2, 3), num_inference_steps=12)
    exact = run(backend, dataclasses.replace(asked, job_id="exact", exact=True))
    made = run(backend, asked)
    recorded = backend._model.runner._compiled
    assert isinstance(recorded, RecordedUNet), "a step could not be recorded: the log says why"
    assert (6, 12) in [shape[:2] for shape in recorded.shapes]
    for one, other in zip(exact, made, strict=True):
        assert one.std() > 5
        assert psnr(one, other) >= 30


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Lets torch take no more than so many bytes of the device for this process."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(INDEX).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total, INDEX)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, INDEX)


@needs_cuda
def test_pictures_come_although_the_memory_is_short(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is a quarter above all that torch took for one picture, and less than half of what many need at once.

    Torch takes more than it uses, and counts what it took against the limit. So the one may be held against the limit
    by what was taken, and the many by what was in use; the factors are for other ways to cut the memory into blocks.
    """
    side = str(LARGE)
    backend = load(checkpoint, DEVICE, "float32", native_width=side, native_height=side, max_rows=str(2 * MANY))
    let_share(backend, monkeypatch, rows=2 * MANY)
    many = task(seeds=tuple(range(MANY)), num_inference_steps=2, width=LARGE, height=LARGE)
    one = dataclasses.replace(many, job_id="one", seeds=(0,))

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(INDEX)
    run(backend, one)
    limit = torch.cuda.max_memory_reserved(INDEX) * 5 // 4
    torch.cuda.reset_peak_memory_stats(INDEX)
    expected = run(backend, many)
    assert torch.cuda.max_memory_allocated(INDEX) > 2 * limit, "many pictures would fit: take more of them"

    warnings: set[str] = set()
    crowd = Crowd(backend)
    with at_most(limit):
        events = crowd.submit(many)
        crowd.run(lambda step: warnings.update(backend.status().warnings))
        made = pictures(events)
    assert backend.status().counters["out_of_memory"] > 0
    assert any("out of memory; since then batches of at most" in warning for warning in warnings)
    assert all(psnr(*pair) >= 40 for pair in zip(expected, made, strict=True))
    assert len(run(backend, dataclasses.replace(one, job_id="afterwards"))) == 1
    assert backend.status().warnings == ()


async def eventually_ready(executor: SubprocessExecutor, restarts: int) -> None:
    """Waits for the incarnation after so many restarts."""
    async with asyncio.timeout(PATIENCE):
        while executor.status().restarts != restarts or executor.status().state != READY:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


@needs_cuda
async def test_a_broken_device_costs_its_runner_and_the_next_one_works(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend is a module that only this test's runners find, beside the server's own."""
    (tmp_path / "breaking.py").write_text(BREAKING)
    (tmp_path / "sitecustomize.py").write_text(SITE.format(folder=str(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    spec = ModelSpec("starter", "1", checkpoint, {"compile": "off"}, device=DEVICE, dtype="float32")
    reasons: list[str] = []
    executor = SubprocessExecutor(
        spec, "breaking", limits=LIMITS, on_change=lambda status: reasons.append(status.reason)
    )
    async with executor_kit.started(executor):
        first = executor.status().pid
        with pytest.raises(Unavailable) as caught:
            await executor_kit.run(executor, executor_kit.diffusion_task(prompt="a deadly cup", side=128))
        assert caught.value.reason == "RUNNER_LOST"
        await eventually_ready(executor, restarts=1)
        assert executor.status().pid != first
        events = await executor_kit.run(executor, executor_kit.diffusion_task(prompt="a cup", side=128))
        assert isinstance(events[-1], JobDone)
    assert any("its device failed" in reason for reason in reasons)


def outputs_of(device: str, inputs: dict[str, Tensor]) -> NDArray[np.float32]:
    """What starter_clip's graph for these inputs gives."""
    backend = onnx.create(ModelSpec("starter_clip", "1", STARTER_CLIP, device=device))
    backend.load()
    assert backend.status().device == device.partition(":")[0]
    events: list[JobEvent] = []
    backend.submit(Job(TensorTask("one", inputs), events.append, time.monotonic()))
    while backend.step() is not None:
        pass
    assert isinstance(events[0], JobTensors)
    [output] = events[0].outputs.values()
    return output.astype(np.float32)


@needs_cuda
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers(), reason="this onnxruntime is one without CUDA"
)
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_graph_gives_nearly_the_cpus_outputs(tower: str) -> None:
    dice = np.random.default_rng(0)
    pixels: Tensor = dice.normal(size=(4, 3, 128, 128)).astype(np.float32)
    tokens: Tensor = dice.integers(1, 1000, size=(4, 16))
    inputs = {"pixel_values": pixels} if tower == "vision" else {"input_ids": tokens}
    expected, made = outputs_of("cpu", inputs), outputs_of(DEVICE, inputs)
    assert expected.std() > 0.01
    # One hundredth of a value, or of the largest: TF32 leaves little of the digits of values near zero.
    np.testing.assert_allclose(made, expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())
