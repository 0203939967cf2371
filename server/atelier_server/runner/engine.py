"""The engine: the one thread of a runner that drives its backend.

    load → { take submits and aborts from the inbox → backend.step() → wait as it says } … → close

All calls into the backend happen here, so a backend needs no locks, and torch keeps one pool of threads.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    DiffusionTask,
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobStep,
    JobTensors,
    TensorTask,
    device_failed,
)
from atelier_server.errors import AlreadyExists, AtelierError, Internal, ResourceExhausted, Unavailable
from atelier_server.runner.engine_status import EngineState, EngineStatus
from atelier_server.runner.followed import FollowedJob
from atelier_server.runner.pace import Pace
from atelier_server.telemetry.origin import working_for

_log = logging.getLogger(__name__)

MOST_FAILED_STEPS = 3
"""Failed steps, without a job done between them, after which the engine gives up."""

_STATUS_SECONDS = 0.05
"""A busy backend whose jobs stay the same is asked how it is no more often."""


class Engine:
    """Drives one backend on a thread of its own. The methods may be called from any thread.

    Args:
        create: Makes the backend; called on the engine's thread, since importing a backend's libraries takes seconds.
        inbox_capacity: Submits that may wait for the end of the current step.
    """

    def __init__(self, create: Callable[[], Backend], inbox_capacity: int = 1024) -> None:
        self._create = create
        self._capacity = inbox_capacity
        self._condition = threading.Condition()
        self._inbox: deque[Job | str] = deque()  # a job to submit, or the id of one to abort
        self._live: dict[str, Job] = {}
        self._followed: dict[str, FollowedJob] = {}  # of the live jobs
        self._backend: Backend | None = None
        self._state = EngineState.LOADING
        self._reason = ""
        self._stopping = False
        self._failures = 0  # failed steps since a job was last done
        self._pace = Pace()
        self._call_began = self._usual_seconds = 0.0
        self._backend_status, self._status_from = BackendStatus(device="", dtype="", waiting=0, running=0), 0.0
        self._counters: Counter[str] = Counter(
            jobs_total=0, aborts_total=0, failed_steps_total=0, steps_after_abort_total=0, steps_saved_total=0
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Starts loading the model; `status` tells when it is done."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Ends the loop after the current step; live jobs fail with Unavailable.

        Returns:
            Whether the thread has ended within the time.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def submit(self, task: DiffusionTask | TensorTask, publish: Callable[[JobEvent], None]) -> None:
        """Hands a task to the backend before its next step.

        Raises:
            Unavailable: The model is not ready.
            AlreadyExists: A live job has this id.
            ResourceExhausted: Too many submits wait.
            AtelierError: The backend refuses it.
        """
        with self._condition:
            backend = self._check_submit(task.job_id)
            followed = self._followed[task.job_id] = FollowedJob(task)
            job = Job(task, lambda event: self._relay(job, publish, event), time.monotonic(), followed.spans)
            self._live[job.job_id] = job
            self._pace.begins(task)
        try:
            backend.admit(job)  # without our lock: the backend publishes under its own
            with self._condition:
                self._check_ready()
                self._inbox.append(job)
                self._counters["jobs_total"] += 1
                self._condition.notify()
        except BaseException:  # also what is a fault of the backend: nobody would end the job
            with self._condition:
                if self._live.get(job.job_id) is job:
                    self._forget(job.job_id)
            raise

    def abort(self, job_id: str) -> None:
        """Lets the backend forget a job before its next step; nothing of it is published from now on.

        A job that has ended, or that was never there, is left alone.
        """
        with self._condition:
            if job_id in self._live:
                self._inbox.append(job_id)
                self._counters["aborts_total"] += 1
                self._counters["steps_saved_total"] += self._forget(job_id).aborted()
                self._condition.notify()

    def status(self) -> EngineStatus:
        """How it is now; never waits for the backend."""
        with self._condition:
            began = self._call_began
            stalled = time.monotonic() - began if began and self._state is EngineState.READY else 0.0
            return EngineStatus(
                self._state, self._reason, stalled, self._usual_seconds, self._backend_status, dict(self._counters)
            )

    def _forget(self, job_id: str, *, done: bool = False) -> FollowedJob:
        """Takes a job out that is live; the lock is held."""
        self._pace.ends(self._live.pop(job_id).task, done=done)
        return self._followed.pop(job_id)

    def _check_submit(self, job_id: str) -> Backend:
        backend = self._check_ready()
        if job_id in self._live:
            raise AlreadyExists(f"A job with the id {job_id} is already running.")
        if len(self._inbox) >= self._capacity:
            message = "Too many calls wait for this model; try again later."
            raise ResourceExhausted(message, reason="QUEUE_FULL", retry_after_seconds=1.0)
        return backend

    def _check_ready(self) -> Backend:
        if self._state is EngineState.LOADING:
            raise Unavailable("The model is still loading; try again soon.", reason="MODEL_LOADING")
        if self._state is EngineState.UNAVAILABLE or self._stopping or self._backend is None:
            raise Unavailable("The model is not available; look at Health for the reason.", reason="MODEL_UNAVAILABLE")
        return self._backend

    def _relay(self, job: Job, publish: Callable[[JobEvent], None], event: JobEvent) -> None:
        with self._condition:
            if self._live.get(job.job_id) is not job:
                self._counters["steps_after_abort_total"] += isinstance(event, JobStep)
                return
            self._followed[job.job_id].observe(event)
            if isinstance(event, JobDone | JobTensors | JobFailed):
                self._forget(job.job_id, done=not isinstance(event, JobFailed))
            if isinstance(event, JobDone | JobTensors):
                self._failures = 0
        publish(event)

    def _run(self) -> None:
        backend = self._load()
        if backend is None:
            return
        while not self._stopping and self._failures < MOST_FAILED_STEPS:
            try:
                wait = self._turn(backend)
            except Exception as error:  # whatever a backend does, the other jobs must hear of it
                if device_failed(error):
                    _log.exception("the device failed; a new process is needed")
                    self._set_state(EngineState.UNAVAILABLE, "its device failed; the log has the details")
                    break
                self._failures += 1
                wait = 0.0
                origins = {"request_ids": [job.task.origin.request_id for job in self._jobs()]}
                _log.exception("a step failed (%d of %d in a row)", self._failures, MOST_FAILED_STEPS, extra=origins)
                self._fail_all(backend)
            self._wait(wait)
        if self._failures >= MOST_FAILED_STEPS:
            reason = f"{self._failures} steps in a row failed; the log has the details"
            self._set_state(EngineState.UNAVAILABLE, reason)
        self._end(backend)

    def _load(self) -> Backend | None:
        try:
            backend = self._create()
            backend.load()
            self._backend_status = backend.status()
        except AtelierError as error:
            _log.error("the model cannot be loaded: %s", error.message)
            self._set_state(EngineState.UNAVAILABLE, error.message)
        except Exception as error:  # the process must live on to tell why
            _log.exception("the model cannot be loaded")
            self._set_state(
                EngineState.UNAVAILABLE, f"loading failed with {type(error).__name__}; the log has the details"
            )
        else:
            self._backend = backend
            self._set_state(EngineState.READY, "")
            return backend
        return None

    def _set_state(self, state: EngineState, reason: str) -> None:
        with self._condition:
            self._state, self._reason = state, reason

    def _turn(self, backend: Backend) -> float | None:
        self._call_began = time.monotonic()
        try:
            changed = self._take_inbox(backend)
            with self._condition:
                self._usual_seconds = self._pace.call_begins()
            wait = backend.step()
            if changed or wait != 0 or time.monotonic() - self._status_from >= _STATUS_SECONDS:
                self._backend_status, self._status_from = backend.status(), time.monotonic()
            return wait
        finally:
            with self._condition:
                self._pace.call_took(time.monotonic() - self._call_began)
                self._call_began = self._usual_seconds = 0.0

    def _take_inbox(self, backend: Backend) -> bool:
        """Hands over what came since the last call. Returns whether anything did."""
        changed = False
        while True:
            with self._condition:
                if not self._inbox:
                    return changed
                changed = True
                entry = self._inbox.popleft()
                gone = isinstance(entry, Job) and self._live.get(entry.job_id) is not entry
            if isinstance(entry, str):
                backend.abort(entry)
            elif not gone:
                self._submit(backend, entry)

    def _submit(self, backend: Backend, job: Job) -> None:
        with working_for(job.task.origin):
            try:
                backend.submit(job)
            except AtelierError as error:
                job.publish(JobFailed(error))
            except Exception:  # one bad job is no reason to fail the others
                _log.exception("job %s could not be taken in", job.job_id)
                failure = Internal("The model could not take the job in; the server's log has the details.")
                job.publish(JobFailed(failure))

    def _jobs(self) -> list[Job]:
        with self._condition:
            return list(self._live.values())

    def _fail_all(self, backend: Backend) -> None:
        with self._condition:
            self._counters["failed_steps_total"] += 1
        for job in self._jobs():
            job.publish(JobFailed(Internal("The model failed at this job; the server's log has the details.")))
            try:
                backend.abort(job.job_id)
            except Exception:  # the next step will tell whether the backend still works
                _log.exception("job %s could not be aborted", job.job_id)

    def _wait(self, seconds: float | None) -> None:
        if seconds is not None and seconds <= 0:
            return
        with self._condition:
            if not self._inbox and not self._stopping:
                self._condition.wait(seconds)

    def _end(self, backend: Backend) -> None:
        self._set_state(EngineState.UNAVAILABLE, self._reason or "the runner is stopping")
        for job in self._jobs():
            error = Unavailable("The model was stopped during the job; try again.", reason="RUNNER_LOST")
            job.publish(JobFailed(error))
        try:
            backend.close()
        except Exception:  # it is ending anyway
            _log.exception("the backend did not close properly")
