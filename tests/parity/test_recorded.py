"""Steps through RecordedUNet, by a recorder that works on a CPU, make the pictures of the UNet itself."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.backends.sdxl.recorded import Compute, RecordedUNet
from tests.parity.sdxl_kit import Crowd, make_backend, pictures, psnr, task


def again(compute: Compute) -> Compute:
    """Computes anew, into one and the same tensor."""
    result = compute().clone()
    return lambda: result.copy_(compute())


def fail(compute: Compute) -> Compute:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> SdxlBackend:
    made = make_backend(checkpoint, max_rows="4", compile="off")
    assert isinstance(made, SdxlBackend)
    return made


@pytest.fixture
def backend(loaded: SdxlBackend) -> Iterator[SdxlBackend]:
    yield loaded
    loaded._model.runner.take(None)


def crowd_of(backend: SdxlBackend) -> list[np.ndarray]:
    """Pictures that share steps, in compositions that change from step to step."""
    crowd = Crowd(backend)
    all_events = [
        crowd.submit(task(seeds=(seed,), width=64, height=64, num_inference_steps=steps, noise_schedule=schedule))
        for seed, (steps, schedule) in enumerate([(7, "euler"), (12, "dpmpp_2m"), (9, "euler_ancestral")])
    ]
    crowd.run()
    return [picture for events in all_events for picture in pictures(events)]


def test_pictures_are_those_of_the_unet(backend: SdxlBackend) -> None:
    expected = crowd_of(backend)
    recorded = RecordedUNet(backend._model._parts[0], again)
    backend._model.runner.take(recorded)
    assert backend.status().execution == "compiled"
    made = crowd_of(backend)
    assert recorded.shapes
    for one, other in zip(expected, made, strict=True):
        assert one.std() > 5
        assert psnr(one, other) >= 45, "widths of batches and numbers of threads change the last bits, no more"


def test_a_failed_recording_costs_nobody_a_picture(backend: SdxlBackend, caplog: pytest.LogCaptureFixture) -> None:
    expected = crowd_of(backend)
    backend._model.runner.take(RecordedUNet(backend._model._parts[0], fail))
    for one, other in zip(expected, crowd_of(backend), strict=True):
        assert psnr(one, other) >= 45
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "not used any more" in caplog.text
    assert backend.status().execution == "torch"


def test_a_model_that_moves_leaves_its_graphs_behind(backend: SdxlBackend) -> None:
    backend._model.runner.take(RecordedUNet(backend._model._parts[0], again))
    backend._model.move(torch.device("cpu"))
    assert backend.status().execution == "torch"


def test_a_shortage_of_memory_frees_the_graphs(backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device: a CPU's compiled graphs hold none that could be freed."""
    runner = backend._model.runner
    runner.take(RecordedUNet(backend._model._parts[0], again))
    monkeypatch.setattr(runner, "_device", torch.device("cuda"))
    backend._model.economise(True)
    assert backend.status().execution == "torch"
    backend._model.economise(False)
