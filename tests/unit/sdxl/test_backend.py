"""The backend: events, cancellation, deadlines, faults, previews, tiles, the second pass."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atelier_server.backends.base import (
    Backend,
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    TensorTask,
)
from atelier_server.backends.sdxl.backend import SdxlBackend
from atelier_server.errors import AtelierError
from tests.parity.sdxl_kit import Crowd, make_backend, pictures, psnr, run, task


def kinds(events: list[JobEvent]) -> list[type]:
    return [type(event) for event in events]


def failure(events: list[JobEvent]) -> AtelierError:
    assert isinstance(events[-1], JobFailed)
    return events[-1].error


def test_the_events_of_a_job(backend: Backend) -> None:
    crowd = Crowd(backend)
    events = crowd.submit(task(seeds=(1, 2), num_inference_steps=3, preview_every=2))
    crowd.run()
    assert kinds(events[:2]) == [JobQueued, JobStarted]
    assert isinstance(events[0], JobQueued)
    assert (events[0].position, events[0].estimated_wait_seconds) == (0, 0.0)
    assert events[0].estimated_total_seconds > 0
    assert events[1] == JobStarted("euler", ())
    assert kinds(events)[-1] is JobDone
    for index in (0, 1):
        steps = [event for event in events if isinstance(event, JobStep) and event.image_index == index]
        assert [(step.step, step.total_steps) for step in steps] == [(1, 3), (2, 3), (3, 3)]
        assert [step.preview is not None for step in steps] == [False, True, False]
        assert steps[0].estimated_remaining_seconds > steps[-1].estimated_remaining_seconds > 0
        preview = steps[1].preview
        assert preview is not None
        assert (preview.shape, preview.dtype) == ((16, 16, 3), np.uint8)
    images = [event for event in events if isinstance(event, JobImage)]
    assert [image.pixels.shape for image in images] == [(128, 128, 3)] * 2
    assert all(image.pixels.dtype == np.uint8 for image in images)
    done = events[-1]
    assert isinstance(done, JobDone)
    assert set(done.timings_ms) == {"queue", "encode_text", "denoise", "decode"}
    assert all(value > 0 for value in (done.timings_ms["denoise"], done.timings_ms["decode"]))
    assert done.exact is False


def test_the_facts(backend: Backend) -> None:
    status = backend.status()
    assert (status.device, status.dtype, status.waiting, status.running) == ("cpu", "float32", 0, 0)
    facts = dict(status.facts)
    assert facts.pop("seconds_per_step") > 0
    curve = {name: facts.pop(name) for name in list(facts) if name.startswith("seconds_of_")}
    assert curve["seconds_of_2_rows"] > 0
    assert 2 <= facts.pop("max_rows") <= 8
    assert facts == {
        "native_width": 128,
        "native_height": 128,
        "max_side": 256,
        "size_multiple": 32,
        "default_steps": 50,
        "can_refine": 1,
    }


@pytest.mark.parametrize("steps_before", [0, 1, 2, 4, 12])
def test_abort_at_any_time_computes_nothing_more(backend: Backend, steps_before: int) -> None:
    crowd = Crowd(backend)
    doomed = task(seeds=(1, 2), num_inference_steps=8)
    lost, kept = crowd.submit(doomed), crowd.submit(task(seeds=(3,), num_inference_steps=10))
    for _ in range(steps_before):
        backend.step()
    backend.abort(doomed.job_id)
    before, said = backend.status().counters["rows"], len(lost)
    steps_left = 10 - sum(isinstance(event, JobStep) for event in kept)
    crowd.run()
    assert len(lost) == said, "an aborted job says nothing more"
    assert backend.status().counters["rows"] - before == 2 * steps_left
    assert backend.status().counters["rows_after_abort"] == 0
    assert len(pictures(kept)) == 1
    backend.abort("nobody")
    backend.abort(doomed.job_id)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 100}, "width"),
        ({"height": 512}, "height"),
        ({"height": 0}, "height"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (-1,)}, "seed"),
        ({"seeds": (2**64,)}, "seed"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 51, "noise_schedule": "lcm"}, "num_inference_steps"),
        ({"noise_schedule": "heun"}, "noise_schedule"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"refine_width": 250, "refine_height": 256}, "refine_width"),
        ({"refine_width": 256}, "refine_height"),
    ],
)
def test_a_wrong_task_is_refused_at_once(backend: Backend, changes: dict[str, Any], field: str) -> None:
    crowd = Crowd(backend)
    error = failure(crowd.submit(task(**changes)))
    assert error.field == field
    assert backend.step() is None


def test_other_refusals(backend: Backend, checkpoint: Path) -> None:
    crowd = Crowd(backend)
    assert failure(crowd.submit(TensorTask("tensors", {}))).field == "task"  # type: ignore[arg-type]
    first = task(num_inference_steps=1)
    kept = crowd.submit(first)
    assert failure(crowd.submit(first)).field == "job_id"
    crowd.events[first.job_id] = kept
    crowd.run()
    assert len(pictures(kept)) == 1
    late = failure(crowd.submit(task(num_inference_steps=150, timeout_seconds=0.01)))
    assert late.reason == "DEADLINE_EXCEEDED"
    plain = Crowd(make_backend(checkpoint, max_rows="2"))
    assert failure(plain.submit(task(refine_width=256, refine_height=256))).field == "refine_width"


def test_a_full_queue_refuses_and_recovers(backend: Backend) -> None:
    crowd = Crowd(backend)
    waiting = [task(num_inference_steps=1, width=64, height=64) for _ in range(64)]
    for one in waiting:
        crowd.submit(one)
    assert failure(crowd.submit(task())).reason == "QUEUE_FULL"
    for one in waiting:
        backend.abort(one.job_id)
    assert len(run(backend, task(num_inference_steps=1))) == 1


def test_a_deadline_that_passes_ends_the_job(backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(backend, "_clock", lambda: now[0])
    events: list[JobEvent] = []
    backend.submit(Job(task(timeout_seconds=1000.0, num_inference_steps=5), events.append, now[0]))
    for _ in range(3):
        backend.step()
    now[0] += 1001
    backend.step()
    assert failure(events).reason == "DEADLINE_EXCEEDED"
    assert backend.step() is None
    assert backend.status().running == 0


class Fault:
    """Raises in a method of one object until it is removed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: object, method: str, when: str = "") -> None:
        original = getattr(target, method)

        def broken(*args: Any, **options: Any) -> Any:
            if not when or any(when in str(argument) for argument in args):
                raise RuntimeError("secret detail")
            return original(*args, **options)

        monkeypatch.setattr(target, method, broken)


@pytest.mark.parametrize("part", ["encode", "codec"])
def test_a_fault_in_one_job_is_that_jobs_alone(
    backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = Crowd(backend)
    with monkeypatch.context() as patch:
        if part == "encode":
            Fault(patch, backend._model, "encode", when="CURSED")
        else:
            original, calls = backend._model.codec.decode, iter([True])

            def first_fails(*what: Any) -> Any:
                if next(calls, False):
                    raise RuntimeError("secret detail")
                return original(*what)

            patch.setattr(backend._model.codec, "decode", first_fails)
        cursed = crowd.submit(task(prompt="a CURSED vase", num_inference_steps=2))
        sane = crowd.submit(task(num_inference_steps=4))
        with caplog.at_level(logging.ERROR):
            crowd.run()
    assert failure(cursed).reason == "INTERNAL"
    assert "secret" not in failure(cursed).message
    assert "secret detail" in caplog.text
    assert len(pictures(sane)) == 1


def test_a_fault_in_a_step_fails_its_batch_and_the_backend_lives(
    backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(backend)
    small = crowd.submit(task(width=64, height=64, num_inference_steps=2, exact=True))
    both = [crowd.submit(task()), crowd.submit(task())]
    with monkeypatch.context() as patch:
        original = backend._model.runner.predict

        def predict(sample: torch.Tensor, *rest: Any) -> torch.Tensor:
            if sample.shape[-1] == 16:
                raise RuntimeError("these shapes do not go together")
            return original(sample, *rest)

        patch.setattr(backend._model.runner, "predict", predict)
        crowd.run()
    assert all(failure(events).reason == "INTERNAL" for events in both)
    assert len(pictures(small)) == 1
    assert len(run(backend, task(num_inference_steps=1))) == 1


def test_a_broken_device_is_for_the_engine_to_deal_with(backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(*rest: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    crowd = Crowd(backend)
    crowd.submit(task())
    with monkeypatch.context() as patch:
        patch.setattr(backend._model.runner, "predict", predict)
        with pytest.raises(RuntimeError, match="CUDA error"):
            crowd.run()
    assert backend.status().running == 1, "its jobs have not failed: they can be done elsewhere"


def test_tokens_that_are_cut_are_counted(backend: Backend) -> None:
    crowd = Crowd(backend)
    events = crowd.submit(task(prompt="a red bag " * 60, negative_prompt="blurry " * 200, num_inference_steps=1))
    crowd.run()
    started = next(event for event in events if isinstance(event, JobStarted))
    assert [cut.encoder for cut in started.truncated] == ["text_encoder", "text_encoder_2"]
    assert all(cut.prompt_tokens > 60 and cut.negative_prompt_tokens > 100 for cut in started.truncated)


def test_strange_prompts_do_not_crash(backend: Backend) -> None:
    for prompt in ("", "\x00\x01\x07", "🎒" * 50, "a\u202eb", "\ufffd"):
        assert len(run(backend, task(prompt=prompt, num_inference_steps=1))) == 1


def test_the_second_pass_keeps_the_composition(backend: Backend) -> None:
    options: dict[str, Any] = {"width": 64, "height": 64, "exact": True, "num_inference_steps": 7}
    [composed] = run(backend, task(**options))
    crowd = Crowd(backend)
    events = crowd.submit(task(refine_width=128, refine_height=128, **options))
    crowd.run()
    [refined] = pictures(events)
    assert refined.shape == (128, 128, 3)
    steps = [event for event in events if isinstance(event, JobStep)]
    assert [step.step for step in steps] == list(range(1, 10))
    assert {step.total_steps for step in steps} == {9}
    shrunk = refined.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert psnr(shrunk.astype(np.uint8), composed) > 10
    [again] = run(backend, task(refine_width=128, refine_height=128, **options))
    np.testing.assert_array_equal(refined, again)


def test_accelerations_hold_in_the_second_pass_too(backend: Backend) -> None:
    before = dict(backend.status().counters)
    crowd = Crowd(backend)
    size = {"width": 64, "height": 64, "refine_width": 128, "refine_height": 128}
    events = crowd.submit(task(num_inference_steps=20, guidance_end=0.8, step_caching=3, **size))
    crowd.run()
    assert pictures(events)[0].shape == (128, 128, 3)
    steps = [event for event in events if isinstance(event, JobStep)]
    assert [step.step for step in steps] == list(range(1, 27))
    after = backend.status().counters
    first, second = (2, 2, *(0, 0, 2) * 4, 0, 0, 1, 1, 0, 1), (2, 2, 1, 1, 0, 1)
    assert after["rows"] - before["rows"] == sum(first) + sum(second)
    assert after["steps"] - before["steps"] == sum(map(bool, first)) + sum(map(bool, second))


def test_switches_change_the_way_not_the_picture(backend: Backend, checkpoint: Path) -> None:
    one = task(width=160, height=128, num_inference_steps=2, exact=True, job_id="switches")
    sliced = make_backend(checkpoint, attention_slicing="on", vae_slicing="on", vae_tiling="off", max_rows="2")
    assert psnr(run(backend, one)[0], run(sliced, one)[0]) > 45
    tiled = make_backend(checkpoint, vae_tiling="on", max_rows="2")
    assert isinstance(tiled, SdxlBackend)
    assert tiled._model.codec.tiles(128 * 128)
    assert run(tiled, one)[0].shape == (128, 160, 3)


def test_tiles_are_used_when_memory_is_short(backend: SdxlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = backend._model.codec
    assert not codec.tiles(128 * 128)
    assert codec.tiles(4096 * 4096)
    monkeypatch.setattr(codec, "_free_bytes", lambda: 1000)
    assert codec.tiles(128 * 128)


def test_the_text_of_a_batch_is_not_kept_when_idle(backend: SdxlBackend) -> None:
    layers = backend._model.runner._remembered
    assert layers
    crowd = Crowd(backend)
    crowd.submit(task(num_inference_steps=2))
    for _ in range(2):
        backend.step()
    assert all(layer._result is not None for layer in layers)
    crowd.run()
    assert all(layer._result is None and layer._seen is None for layer in layers)
