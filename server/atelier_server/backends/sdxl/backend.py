"""The SDXL backend: jobs in, events out, one unit of work a call.

`step` does one of four things: encode a job's text, run one UNet step of a batch, decode one picture, or nothing.
"""

import logging
import time
from collections.abc import Callable, Collection

import torch

from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    DiffusionTask,
    Job,
    JobDone,
    JobFailed,
    JobImage,
    JobQueued,
    JobStep,
    ModelSpec,
    device_failed,
)
from atelier_server.backends.sdxl.batch import Denoising
from atelier_server.backends.sdxl.entries import Batch, Entry
from atelier_server.backends.sdxl.jobs import (
    Finished,
    FinishedQueue,
    Running,
    check_task,
    make_entries,
    refine_entry,
)
from atelier_server.backends.sdxl.memory import MemoryRelief, out_of_memory
from atelier_server.backends.sdxl.model import Model
from atelier_server.backends.sdxl.parameters import parameters_of
from atelier_server.backends.sdxl.report import report
from atelier_server.backends.sdxl.scheduler import StepScheduler, objective_missed
from atelier_server.backends.sdxl.start import start, take_up_compiled
from atelier_server.backends.sdxl.tally import Tally
from atelier_server.errors import AtelierError, DeadlineExceeded, Internal, InvalidArgument
from atelier_server.telemetry.origin import working_for

_LOG = logging.getLogger(__name__)


class SdxlBackend(Backend):
    """Computes pictures of many jobs together, a step at a time.

    Args:
        spec: Of the model; `folder` holds model_index.json.
        clock: Seconds, on the same clock as `Job.arrived`.
    """

    def __init__(self, spec: ModelSpec, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(spec)
        self._clock = clock
        self._parameters = parameters_of(spec)
        self._jobs: dict[str, Running] = {}
        self._undecoded = FinishedQueue()
        self._tally = Tally()
        self._model: Model
        self._relief: MemoryRelief
        self._scheduler: StepScheduler
        self._decode_seconds = self._encode_seconds = 0.0
        self._admitted: set[str] = set()  # whom `submit` has not been called for yet

    def load(self) -> None:
        """Loads the checkpoint and measures how long a step takes by number of rows."""
        started = start(self.spec, self._parameters, self._clock)
        self._model, self._relief, self._decode_seconds = started.model, started.relief, started.decode_seconds
        self._relief.on_move = self._move_pictures
        self._dtype = str(self._model.runner.dtype).removeprefix("torch.")
        self._scheduler = StepScheduler(self._relief, self._parameters.max_waiting)

    def admit(self, job: Job) -> None:
        """Lets a job wait for its turn.

        Raises:
            AtelierError: Wrong input, a full queue, a deadline or an objective that cannot be kept.
        """
        running, entries = self._prepare(job)
        foreseen = self._scheduler.admit(entries, self._clock())
        self._admitted.add(job.job_id)
        self._jobs[job.job_id] = running
        job.publish(JobQueued(foreseen.position, foreseen.wait_seconds, foreseen.total_seconds))
        self._scheduler.add(entries)  # last: the engine's thread may take it up at once

    def submit(self, job: Job) -> None:
        """Takes a job in unless it was admitted before, or publishes JobFailed."""
        if not self._scheduler.running and not self._undecoded:
            self._relief.restore()
        if job.job_id in self._admitted:
            self._admitted.discard(job.job_id)
            return
        try:
            self.admit(job)
        except AtelierError as error:
            job.publish(JobFailed(error))
        self._admitted.discard(job.job_id)

    def abort(self, job_id: str) -> None:
        """Forgets a job; its rows are gone from the next step on."""
        self._admitted.discard(job_id)
        if self._forget(job_id):
            self._tally.aborted(job_id)

    @torch.inference_mode()
    def step(self) -> float | None:
        """Does one unit of work; None when there is none."""
        self._drop_late()
        take_up_compiled(self._model)
        if self._undecoded:
            finished = self._undecoded.take()
            self._guard(lambda running: self._decode(running, finished), finished.running)
        else:
            batch = self._scheduler.schedule(self._clock())
            if batch is None:
                self._model.runner.forget()
                return None
            unencoded = self._unencoded(batch)
            if unencoded is not None:  # only now: the texts of one client's many calls would delay another's one
                self._guard(self._encode, unencoded)
            else:
                self._run(batch)
        return 0.0

    def _drop_late(self) -> None:
        now = self._clock()
        for job_id in self._scheduler.expired(now):
            self._fail(job_id, DeadlineExceeded("The deadline passed before the picture was done; allow more time."))
        for job_id in self._scheduler.shed(now):
            self._fail(job_id, objective_missed(0.0))

    def status(self) -> BackendStatus:
        """Device, load, what it can do and what it did."""
        return report(self._model, self._relief, self._parameters, list(self._jobs.values()), self._tally)

    def _prepare(self, job: Job) -> tuple[Running, list[Entry]]:
        task = job.task
        if not isinstance(task, DiffusionTask):
            raise InvalidArgument("This model makes pictures; send it a diffusion task.", field="task")
        if task.job_id in self._jobs:
            raise InvalidArgument(f"A job {task.job_id!r} is running already.", field="job_id")
        check_task(task, self._model.limits)
        name = self._model.schedules.name(task.noise_schedule)
        self._model.schedules.check(name, task.num_inference_steps)
        tail = self._decode_seconds * task.width * task.height / self._native_pixels
        entries = make_entries(task, self._model.limits, self._dtype, job.arrived, tail, self._encode_seconds)
        return Running(job, task, name, self._model.limits), entries

    @property
    def _native_pixels(self) -> int:
        return self._model.limits.native_width * self._model.limits.native_height

    def _unencoded(self, batch: Batch) -> Running | None:
        """A job that is to take part and whose text is not encoded yet."""
        jobs = (self._jobs[entry.job_id] for entry in batch.entries)
        return next((running for running in jobs if not running.pictures), None)

    def _encode(self, running: Running) -> None:
        begin = self._clock()
        task = running.task
        with running.job.spans.stage("encode_text"):
            conditioning, running.truncated = self._model.encode(task)
        running.pictures = [
            self._model.start(task, index, running.noise_schedule, conditioning) for index in range(len(task.seeds))
        ]
        running.encode_seconds = self._clock() - begin
        self._encode_seconds += (running.encode_seconds - self._encode_seconds) * (0.1 if self._encode_seconds else 1.0)

    def _run(self, batch: Batch) -> None:
        """Does one UNet step. The only place where a batch is computed, and where its failure is handled."""
        jobs = {entry.job_id: self._jobs[entry.job_id] for entry in batch.entries}
        begin = self._clock()
        for running in jobs.values():
            running.begin(begin)
        pictures = [jobs[entry.job_id].pictures[entry.index] for entry in batch.entries]
        latents = [picture.latents for picture in pictures]
        try:
            fitted = self._relief.fits(lambda: self._compute(pictures))
        except Exception as error:
            if device_failed(error):
                raise
            origins = {"request_ids": [running.task.origin.request_id for running in jobs.values()]}
            _LOG.exception("a step of %d rows failed", batch.rows, extra=origins)
            for job_id in jobs:
                self._fail(job_id, Internal("Computing the picture failed; the server's log has the details."))
            return
        if not fitted:
            untouched = all(picture.latents is old for picture, old in zip(pictures, latents, strict=True))
            self._relieve(batch, jobs.values(), untouched)
            return
        seconds = self._clock() - begin
        self._tally.step(batch, seconds)
        for running in jobs.values():
            running.denoise_seconds += seconds
            running.unaltered = running.unaltered and not self._relief.alters_pictures
        self._relief.update(batch.rows, batch.key.pixels, seconds)
        finished = self._scheduler.update(batch, seconds)
        for entry in batch.entries:
            self._publish_steps(entry, batch, jobs[entry.job_id])
        for entry in finished:
            running = jobs[entry.job_id]
            enlarge = bool(running.task.refine_width) and running.steps_done[entry.index] < running.total_steps
            self._undecoded.add(Finished(running, entry.index, enlarge))

    def _compute(self, pictures: list[Denoising]) -> None:
        self._model.runner.step(pictures)
        self._model.runner.synchronize()

    def _relieve(self, batch: Batch, jobs: Collection[Running], untouched: bool) -> None:
        """After a batch that did not fit: the next call of `step` schedules its entries anew, under a measure more."""
        self._tally.counters["out_of_memory"] += 1
        self._model.runner.forget()
        for running in jobs:
            running.unaltered = False
        try:
            if not untouched:  # some pictures are a step ahead of what the scheduler knows
                raise out_of_memory()
            self._relief.relieve(batch.rows if len(batch.entries) > 1 else 0, batch.key.pixels)
        except AtelierError as error:
            for running in list(jobs):
                self._fail(running.job.job_id, error)

    def _move_pictures(self) -> None:
        for running in list(self._jobs.values()):
            for picture in running.pictures:
                picture.move(self._model.device, self._model.runner.dtype)

    def _publish_steps(self, entry: Entry, batch: Batch, running: Running) -> None:
        """Tells of the step that was computed, and of those that were foretold after it."""
        every = running.task.preview_every
        running.computations[entry.index] -= 1
        together = sum(one.job_id == entry.job_id for one in batch.entries)
        step_seconds = self._relief.step_seconds(batch.rows, batch.key.pixels)
        decoding = entry.tail_seconds * running.images_left
        remaining = sum(running.computations) / together * step_seconds + decoding
        for foreseen in running.pictures[entry.index].foreseen:
            running.steps_done[entry.index] += 1
            step = running.steps_done[entry.index]
            preview = self._model.previewer.picture(foreseen) if every and step % every == 0 else None
            running.job.publish(JobStep(entry.index, step, running.total_steps, remaining, preview, batch.rows))

    def _decode(self, running: Running, finished: Finished) -> None:
        begin = self._clock()
        index, task = finished.index, running.task
        picture = running.pictures[index]
        if finished.enlarge:
            running.pictures[index] = self._model.enlarge(picture, task, index, running.noise_schedule)
            now = self._clock()
            entry = refine_entry(task, index, self._model.limits, self._dtype, now, running.job.arrived)
            self._scheduler.add([entry])
            running.decode_seconds += now - begin
            return
        with running.job.spans.stage("decode", image_index=index):
            pixels = self._model.codec.decode(picture.latents, picture.exact)
        seconds = self._clock() - begin
        running.decode_seconds += seconds
        if (task.width, task.height) == (self._model.limits.native_width, self._model.limits.native_height):
            self._decode_seconds += 0.1 * (seconds - self._decode_seconds)
        running.images_left -= 1
        self._tally.counters["images"] += 1
        running.job.publish(JobImage(index, pixels))
        if running.images_left == 0:
            self._forget(running.job.job_id)
            exact = task.exact and running.unaltered and not self._relief.alters_pictures
            running.job.publish(JobDone(running.timings_ms(), exact))

    def _guard(self, work: Callable[[Running], None], running: Running) -> None:
        """Does a job's own work; its failure is that job's alone. A shortage of memory is met with measures."""
        rows = self._relief.cap(self._native_pixels)
        try:
            with working_for(running.task.origin):
                while not self._relief.fits(lambda: work(running)):
                    self._tally.counters["out_of_memory"] += 1
                    running.unaltered = False
                    self._relief.relieve(rows, self._native_pixels)
                    rows = 0  # halved once is enough: this work is not done in batches
        except AtelierError as error:
            self._fail(running.job.job_id, error)
        except Exception as error:
            if device_failed(error):
                raise
            with working_for(running.task.origin):
                _LOG.exception("job %s failed", running.job.job_id)
            self._fail(running.job.job_id, Internal("Computing the picture failed; the server's log has the details."))

    def _fail(self, job_id: str, error: AtelierError) -> None:
        running = self._forget(job_id)
        if running is not None:
            running.job.publish(JobFailed(error))

    def _forget(self, job_id: str) -> Running | None:
        running = self._jobs.pop(job_id, None)
        if running is not None:
            self._scheduler.abort(job_id)
            self._undecoded.forget(running)
        return running
