"""The shipped test double: a diffusion and tensor backend without weights that behaves, and misbehaves, on request.

Its pictures are a pattern made of prompt, seed and size, so equal tasks give equal pictures. A tensor job gets its
own inputs back. Jobs wait, are refused and take turns by the SDXL backend's scheduler; only that steps take the same
time however many rows they have, and that all jobs may share them. Model parameters (config.pbtxt), all optional:

    native_width, native_height, max_side, default_steps, max_rows, max_waiting, can_refine: as a real model's facts
    load_seconds, step_seconds: how long it pretends to work
    fail_load: the reason why it cannot be loaded
    fail_at_step, crash_at_step, hang_at_step, lose_device_at_step: what goes wrong when a job has done so many steps
    on_prompt: these four happen only to prompts that contain this word
"""

import hashlib
import math
import os
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    DiffusionTask,
    Job,
    JobDone,
    JobFailed,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    JobTensors,
    ModelSpec,
    Pixels,
    TensorTask,
)
from atelier_server.backends.sdxl.entries import BatchKey, Entry
from atelier_server.backends.sdxl.scheduler import StepScheduler, objective_missed
from atelier_server.errors import AtelierError, DeadlineExceeded, FailedPrecondition, InvalidArgument
from atelier_server.telemetry.histogram import BATCH_ROWS, STEP_SECONDS, Histogram

_PREVIEW_SCALE = 8
_SIZE_MULTIPLE = 8


def create(spec: ModelSpec) -> Backend:
    """The entry point of every backend."""
    return EchoBackend(spec)


_ANY = BatchKey(1, 1)
_LEAST_STEP_SECONDS = 1e-4
_SMOOTHING = 0.1


@dataclass(slots=True)
class _Flat:
    """A curve t(rows) that does not rise; it follows what steps really take."""

    seconds: float
    rows: int

    def cap(self, pixels: int) -> int:
        """See Curve."""
        return self.rows

    def step_seconds(self, rows: int, pixels: int) -> float:
        """See Curve."""
        return self.seconds

    def update(self, seconds: float) -> None:
        """Takes in what a step took; a stall counts as three steps."""
        self.seconds += _SMOOTHING * (min(max(seconds, _LEAST_STEP_SECONDS), 3 * self.seconds) - self.seconds)


@dataclass(slots=True)
class _Running:
    job: Job
    task: DiffusionTask
    started: float = 0.0
    steps_done: int = 0
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(self.task.seeds)


class EchoBackend(Backend):
    """See the module."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._jobs: dict[str, _Running] = {}
        self._admitted: set[str] = set()  # whom `submit` has not been called for yet
        self._counters: Counter[str] = Counter(rows_total=0, pictures_total=0, infers_total=0)
        self._measured_steps, self._batch_rows = Histogram(STEP_SECONDS), Histogram(BATCH_ROWS)
        self._step_seconds = self._number("step_seconds", 0.0)
        self._max_rows = int(self._number("max_rows", 8))
        self._max_side = int(self._number("max_side", 1024))
        self._curve = _Flat(max(self._step_seconds, _LEAST_STEP_SECONDS), self._max_rows)
        self._scheduler = StepScheduler(self._curve, int(self._number("max_waiting", 64)))

    def load(self) -> None:
        """Waits as long as it is told, then fails if it is told to."""
        time.sleep(self._number("load_seconds", 0.0))
        reason = self.spec.parameters.get("fail_load")
        if reason:
            raise FailedPrecondition(reason, reason="MODEL_BROKEN")

    def admit(self, job: Job) -> None:
        """Lets a diffusion job wait for its turn.

        Raises:
            AtelierError: A wrong size, a full queue, a deadline or an objective that cannot be kept.
        """
        task = job.task
        if isinstance(task, TensorTask):
            return
        for name in ("width", "height"):
            side = getattr(task, name)
            if not 0 < side <= self._max_side or side % _SIZE_MULTIPLE:
                message = f"{name} must be a multiple of {_SIZE_MULTIPLE} up to {self._max_side}, not {side}."
                raise InvalidArgument(message, field=name)
        entry = _entry(task, job.arrived)
        foreseen = self._scheduler.admit([entry], time.monotonic())
        self._admitted.add(job.job_id)
        self._jobs[job.job_id] = _Running(job, task)
        job.publish(JobQueued(foreseen.position, foreseen.wait_seconds, foreseen.total_seconds))
        self._scheduler.add([entry])  # last: the engine's thread may take it up at once

    def submit(self, job: Job) -> None:
        """Answers a tensor job; a diffusion job was admitted, or is now."""
        if isinstance(job.task, TensorTask):
            self._infer(job, job.task)
        elif job.job_id not in self._admitted:
            self.admit(job)
        self._admitted.discard(job.job_id)

    def abort(self, job_id: str) -> None:
        """Frees the job's rows."""
        self._admitted.discard(job_id)
        if self._jobs.pop(job_id, None) is not None:
            self._scheduler.abort(job_id)

    def step(self) -> float | None:
        """One step of as many jobs as fit."""
        began = time.monotonic()
        self._drop_late(began)
        batch = self._scheduler.schedule(began)
        if batch is None:
            return None
        taken = [self._jobs[entry.job_id] for entry in batch.entries]
        for running in taken:
            if not running.started:
                running.started = began
                running.job.publish(JobStarted(running.task.noise_schedule or "euler"))
        time.sleep(self._step_seconds)
        seconds = time.monotonic() - began
        self._measured_steps.observe(seconds)
        self._batch_rows.observe(batch.rows)
        self._curve.update(seconds)
        self._scheduler.update(batch, seconds)
        for running in taken:
            self._advance(running)
        return 0.0

    def status(self) -> BackendStatus:
        """Its facts are those of a real diffusion model."""
        return BackendStatus(
            device="cpu",
            dtype="uint8",
            waiting=len(self._scheduler.waiting),
            running=len(self._scheduler.running),
            facts={
                "native_width": self._number("native_width", 128),
                "native_height": self._number("native_height", 128),
                "max_side": self._max_side,
                "size_multiple": _SIZE_MULTIPLE,
                "default_steps": self._number("default_steps", 8),
                "max_rows": self._max_rows,
                "seconds_per_step": self._curve.seconds if self._step_seconds else 0.0,
                "can_refine": self._number("can_refine", 0),
            },
            counters=dict(self._counters),
            histograms={"step_seconds": self._measured_steps.spread(), "batch_rows": self._batch_rows.spread()},
        )

    def _number(self, name: str, default: float) -> float:
        return float(self.spec.parameters.get(name, default))

    def _infer(self, job: Job, task: TensorTask) -> None:
        unknown = [name for name in task.outputs if name not in task.inputs]
        if unknown:
            raise InvalidArgument(f"There is no output named {unknown[0]}.", field="outputs")
        self._counters["infers_total"] += 1
        job.publish(JobTensors({name: task.inputs[name] for name in task.outputs or task.inputs}))

    def _drop_late(self, now: float) -> None:
        late: dict[str, AtelierError] = {job_id: objective_missed(0.0) for job_id in self._scheduler.shed(now)}
        for job_id in self._scheduler.expired(now):
            late[job_id] = DeadlineExceeded("The deadline passed before the picture was done; allow more time.")
        for job_id, error in late.items():
            running = self._jobs[job_id]
            self.abort(job_id)
            running.job.publish(JobFailed(error))

    def _advance(self, running: _Running) -> None:
        task = running.task
        running.steps_done += 1
        self._counters["rows_total"] += running.rows
        self._misbehave(running)
        left = (task.num_inference_steps - running.steps_done) * self._curve.seconds
        every = task.preview_every
        for index, seed in enumerate(task.seeds):
            preview = None
            if every and running.steps_done % every == 0:
                preview = picture(task.prompt, seed, task.width // _PREVIEW_SCALE, task.height // _PREVIEW_SCALE)
            running.job.publish(JobStep(index, running.steps_done, task.num_inference_steps, left, preview))
        if running.steps_done >= task.num_inference_steps:
            self._finish(running)

    def _misbehave(self, running: _Running) -> None:
        parameters = self.spec.parameters
        if parameters.get("on_prompt", "") not in running.task.prompt:
            return
        if parameters.get("fail_at_step") == str(running.steps_done):
            raise RuntimeError("told to fail")
        if parameters.get("crash_at_step") == str(running.steps_done):
            os.abort()
        if parameters.get("lose_device_at_step") == str(running.steps_done):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if parameters.get("hang_at_step") == str(running.steps_done):
            time.sleep(86400)

    def _finish(self, running: _Running) -> None:
        task, job = running.task, running.job
        del self._jobs[job.job_id]
        for index, seed in enumerate(task.seeds):
            width, height = task.refine_width or task.width, task.refine_height or task.height
            job.publish(JobImage(index, picture(task.prompt, seed, width, height)))
            self._counters["pictures_total"] += 1
        denoise_ms = (time.monotonic() - running.started) * 1000
        queue_ms = (running.started - job.arrived) * 1000
        timings = {"queue": queue_ms, "encode_text": 0.0, "denoise": denoise_ms, "decode": 0.0}
        job.publish(JobDone(timings, task.exact))


def picture(prompt: str, seed: int, width: int, height: int) -> Pixels:
    """A colour gradient whose corners depend on the prompt and the seed: uint8 [height, width, 3]."""
    digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
    corners = np.frombuffer(digest[:12], np.uint8).reshape(4, 3).astype(np.float32)
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top = corners[0] * (1 - x) + corners[1] * x
    bottom = corners[2] * (1 - x) + corners[3] * x
    pixels: Pixels = (top * (1 - y) + bottom * y).astype(np.uint8)
    return pixels


def _entry(task: DiffusionTask, arrived: float) -> Entry:
    return Entry(
        task.job_id,
        0,
        _ANY,
        len(task.seeds),
        task.num_inference_steps,
        task.priority,
        arrived,
        deadline=arrived + task.timeout_seconds if task.timeout_seconds > 0 else math.inf,
        objective=arrived + task.objective_seconds if task.objective_seconds > 0 else math.inf,
        client=task.client,
        share=task.client_share or 1.0,
    )
