"""The engine's promises to the servicer, with a backend that does what each test tells it."""

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    DiffusionTask,
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobStep,
    ModelSpec,
    TensorTask,
)
from atelier_server.errors import (
    AlreadyExists,
    AtelierError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from atelier_server.runner.engine import Engine
from atelier_server.runner.engine_status import EngineState
from atelier_server.runner.loading import backend_factory

PATIENCE = 10.0


class GatedBackend(Backend):
    """Takes one step a ticket; notes the calls it gets and their thread."""

    def __init__(self) -> None:
        super().__init__(ModelSpec("gated", "1", None))  # type: ignore[arg-type]
        self.tickets: queue.Queue[Exception | None] = queue.Queue()
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.jobs: dict[str, Job] = {}
        self.in_step = threading.Event()
        self.load_error: Exception | None = None
        self.closed = False

    def load(self) -> None:
        self._note("load")
        if self.load_error:
            raise self.load_error

    def submit(self, job: Job) -> None:
        self._note(f"submit {job.job_id}")
        if isinstance(job.task, TensorTask):
            raise InvalidArgument("no tensors here", field="inputs")
        if job.task.prompt == "unforeseen":
            raise ZeroDivisionError
        self.jobs[job.job_id] = job

    def abort(self, job_id: str) -> None:
        self._note(f"abort {job_id}")
        job = self.jobs.pop(job_id, None)
        if job is not None and isinstance(job.task, DiffusionTask) and job.task.prompt == "clinging":
            raise ZeroDivisionError

    def step(self) -> float | None:
        if not self.jobs:
            return None
        self._note("step")
        self.in_step.set()
        error = self.tickets.get(timeout=PATIENCE)
        self.in_step.clear()
        for job in list(self.jobs.values()):
            job.publish(JobStep(0, 1, 1, 0.0))
            if error is None:
                del self.jobs[job.job_id]
                job.publish(JobDone({}, exact=False))
        if error is not None:
            raise error
        return 0.0

    def status(self) -> BackendStatus:
        return BackendStatus("cpu", "float32", 0, len(self.jobs))

    def close(self) -> None:
        self._note("close")
        self.closed = True
        raise RuntimeError("even closing may fail")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)


class Inbox:
    """Collects the events of a job."""

    def __init__(self) -> None:
        self._events: queue.Queue[JobEvent] = queue.Queue()

    def __call__(self, event: JobEvent) -> None:
        self._events.put(event)

    def next(self) -> JobEvent:
        return self._events.get(timeout=PATIENCE)

    def error(self) -> AtelierError:
        while True:
            event = self.next()
            if isinstance(event, JobFailed):
                return event.error
            assert isinstance(event, JobStep)

    @property
    def empty(self) -> bool:
        return self._events.empty()


def task(job_id: str, prompt: str = "a cup") -> DiffusionTask:
    return DiffusionTask(job_id, prompt, None, (1,), 64, 64, 1, 7.5)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        deadline.wait(0.005)
    raise AssertionError("it did not come true")


@pytest.fixture
def backend() -> GatedBackend:
    return GatedBackend()


@pytest.fixture
def engine(backend: GatedBackend) -> Iterator[Engine]:
    engine = Engine(lambda: backend, inbox_capacity=3)
    engine.start()
    wait_until(lambda: engine.status().state is not EngineState.LOADING)
    yield engine
    for _ in range(5):
        backend.tickets.put(None)
    assert engine.stop(PATIENCE)


def test_a_job_runs_and_all_calls_come_from_the_engine_thread(engine: Engine, backend: GatedBackend) -> None:
    inbox = Inbox()
    engine.submit(task("a"), inbox)
    backend.tickets.put(None)
    assert inbox.next() == JobStep(0, 1, 1, 0.0)
    assert inbox.next() == JobDone({}, exact=False)
    assert engine.stop(PATIENCE)
    assert backend.calls == ["load", "submit a", "step", "close"]
    assert backend.threads == {"engine"}


def test_an_abort_reaches_the_backend_before_its_next_step(engine: Engine, backend: GatedBackend) -> None:
    kept, dropped = Inbox(), Inbox()
    engine.submit(task("dropped"), dropped)
    assert backend.in_step.wait(PATIENCE)
    engine.submit(task("kept"), kept)
    engine.abort("dropped")
    backend.tickets.put(None)
    backend.tickets.put(None)
    kept.next()
    assert backend.calls == ["load", "submit dropped", "step", "submit kept", "abort dropped", "step"]
    assert dropped.empty
    assert engine.status().counters["steps_after_abort_total"] == 1  # the one that was under way
    assert engine.status().counters["aborts_total"] == 1


def test_a_job_that_is_aborted_while_it_waits_never_reaches_the_backend(engine: Engine, backend: GatedBackend) -> None:
    engine.submit(task("first"), Inbox())
    assert backend.in_step.wait(PATIENCE)
    engine.submit(task("second"), Inbox())
    engine.abort("second")
    third = Inbox()
    engine.submit(task("third"), third)
    backend.tickets.put(None)
    backend.tickets.put(None)
    third.next()
    assert "submit second" not in backend.calls


def test_the_inbox_is_bounded(engine: Engine, backend: GatedBackend) -> None:
    engine.submit(task("first"), Inbox())
    assert backend.in_step.wait(PATIENCE)
    for number in range(3):
        engine.submit(task(f"waits {number}"), Inbox())
    with pytest.raises(ResourceExhausted) as caught:
        engine.submit(task("one too many"), Inbox())
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_seconds


def test_an_id_names_one_live_job(engine: Engine, backend: GatedBackend) -> None:
    inbox = Inbox()
    engine.submit(task("a"), inbox)
    with pytest.raises(AlreadyExists):
        engine.submit(task("a"), Inbox())
    backend.tickets.put(None)
    inbox.next()
    inbox.next()
    engine.submit(task("a"), inbox)


def test_a_bad_job_fails_alone(engine: Engine, backend: GatedBackend) -> None:
    refused, unforeseen, good = Inbox(), Inbox(), Inbox()
    engine.submit(TensorTask("tensors", {"x": np.zeros(1)}), refused)
    engine.submit(task("odd", "unforeseen"), unforeseen)
    engine.submit(task("good"), good)
    backend.tickets.put(None)
    assert isinstance(refused.error(), InvalidArgument)
    assert isinstance(unforeseen.error(), Internal)
    assert isinstance(good.next(), JobStep)
    assert isinstance(good.next(), JobDone)


@pytest.mark.parametrize("prompt", ["a cup", "clinging"])
def test_a_failed_step_fails_all_live_jobs_and_the_next_job_works(
    engine: Engine, backend: GatedBackend, prompt: str
) -> None:
    first, second, later = Inbox(), Inbox(), Inbox()
    engine.submit(task("first", prompt), first)
    assert backend.in_step.wait(PATIENCE)
    engine.submit(task("second"), second)
    backend.tickets.put(ValueError("secret detail"))
    for inbox in (first, second):
        error = inbox.error()
        assert isinstance(error, Internal)
        assert "secret" not in error.message
    assert engine.status().state is EngineState.READY
    engine.submit(task("later"), later)
    backend.tickets.put(None)
    assert later.next() == JobStep(0, 1, 1, 0.0)
    assert engine.status().counters["failed_steps_total"] == 1


def test_three_failed_steps_in_a_row_end_the_engine(engine: Engine, backend: GatedBackend) -> None:
    for number in range(3):
        inbox = Inbox()
        engine.submit(task(str(number)), inbox)
        backend.tickets.put(ValueError("broken"))
        assert isinstance(inbox.error(), Internal)
    wait_until(lambda: engine.status().state is EngineState.UNAVAILABLE)
    wait_until(lambda: backend.closed)
    assert "3 steps in a row" in engine.status().reason
    with pytest.raises(Unavailable, match="not available"):
        engine.submit(task("late"), Inbox())


def test_failures_that_are_not_in_a_row_are_forgiven(engine: Engine, backend: GatedBackend) -> None:
    for number, ticket in enumerate([ValueError(), ValueError(), None, ValueError(), ValueError(), None]):
        inbox = Inbox()
        engine.submit(task(str(number)), inbox)
        backend.tickets.put(ticket)
        inbox.next()
        inbox.next()
    assert engine.status().state is EngineState.READY


def test_a_step_that_does_not_end_shows_in_the_status(engine: Engine, backend: GatedBackend) -> None:
    assert engine.status().stalled_seconds == 0
    engine.submit(task("a"), Inbox())
    assert backend.in_step.wait(PATIENCE)
    wait_until(lambda: engine.status().stalled_seconds > 0.05)
    backend.tickets.put(None)
    wait_until(lambda: engine.status().stalled_seconds == 0)


def test_stopping_fails_the_live_jobs(engine: Engine, backend: GatedBackend) -> None:
    running, waiting = Inbox(), Inbox()
    engine.submit(task("running"), running)
    assert backend.in_step.wait(PATIENCE)
    engine.submit(task("waiting"), waiting)
    assert not engine.stop(0.01)
    with pytest.raises(Unavailable):
        engine.submit(task("late"), Inbox())
    backend.tickets.put(None)
    assert engine.stop(PATIENCE)
    assert waiting.error().reason == "RUNNER_LOST"
    assert backend.closed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FailedPrecondition("unet/model.safetensors is truncated; fetch it again"), "unet/model.safetensors is trunc"),
        (OSError("/secret/path"), "OSError"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(backend: GatedBackend, error: Exception, reason: str) -> None:
    backend.load_error = error
    engine = Engine(lambda: backend)
    with pytest.raises(Unavailable, match="loading"):
        engine.submit(task("early"), Inbox())
    engine.start()
    wait_until(lambda: engine.status().state is EngineState.UNAVAILABLE)
    assert reason in engine.status().reason
    assert "secret" not in engine.status().reason
    assert engine.stop(PATIENCE)


def test_a_broken_device_ends_the_engine_at_once_and_its_jobs_are_lost_not_failed(backend: GatedBackend) -> None:
    engine, inbox = Engine(lambda: backend), Inbox()
    engine.start()
    wait_until(lambda: engine.status().state is EngineState.READY)
    engine.submit(task("one"), inbox)
    backend.tickets.put(RuntimeError("CUDA error: an illegal memory access was encountered"))
    wait_until(lambda: engine.status().state is EngineState.UNAVAILABLE)
    assert "device" in engine.status().reason
    wait_until(lambda: backend.closed)
    assert inbox.error().reason == "RUNNER_LOST"
    with pytest.raises(Unavailable):
        engine.submit(task("two"), inbox)
    assert engine.stop(PATIENCE)


def test_a_fault_in_admit_leaves_no_job_behind(backend: GatedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit(job: Job) -> None:
        raise ZeroDivisionError

    engine = Engine(lambda: backend)
    engine.start()
    wait_until(lambda: engine.status().state is EngineState.READY)
    with monkeypatch.context() as patched:
        patched.setattr(backend, "admit", admit)
        with pytest.raises(ZeroDivisionError):
            engine.submit(task("one"), Inbox())
    inbox = Inbox()
    engine.submit(task("one"), inbox)  # its id is free
    backend.tickets.put(None)
    assert inbox.next() == JobStep(0, 1, 1, 0.0)
    assert engine.stop(PATIENCE)


def test_what_admit_refuses_is_never_submitted(backend: GatedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit(job: Job) -> None:
        backend.threads.add(threading.current_thread().name)
        raise ResourceExhausted("full", reason="QUEUE_FULL")

    engine = Engine(lambda: backend)
    engine.start()
    wait_until(lambda: engine.status().state is EngineState.READY)
    engine.submit(task("first"), Inbox())
    assert backend.in_step.wait(PATIENCE)
    monkeypatch.setattr(backend, "admit", admit)
    with pytest.raises(ResourceExhausted):  # while the step goes on
        engine.submit(task("second"), Inbox())
    assert threading.current_thread().name in backend.threads
    monkeypatch.undo()
    engine.submit(task("second"), Inbox())  # its id is free
    backend.tickets.put(None)
    backend.tickets.put(None)
    assert engine.stop(PATIENCE)
    assert backend.calls.count("submit second") <= 1


@pytest.mark.parametrize("name", ["nonesuch", "base", "../x", "os", ""])
def test_an_unknown_backend_is_named(name: str) -> None:
    with pytest.raises(FailedPrecondition, match="no backend"):
        backend_factory(name, ModelSpec("m", "1", None))()  # type: ignore[arg-type]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_library(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", without_library)
    with pytest.raises(FailedPrecondition, match="torch"):
        backend_factory("sdxl", ModelSpec("m", "1", None))()  # type: ignore[arg-type]


def test_a_busy_backend_is_asked_how_it_is_now_and_then_and_at_every_change() -> None:
    class Counting(GatedBackend):
        asked = steps = 0

        def step(self) -> float | None:
            if not self.jobs:
                return None
            self.steps += 1
            return 0.0

        def status(self) -> BackendStatus:
            self.asked += 1
            return super().status()

    backend = Counting()
    engine = Engine(lambda: backend)
    engine.start()
    try:
        wait_until(lambda: engine.status().state is EngineState.READY)
        engine.submit(task("one"), Inbox())
        wait_until(lambda: engine.status().backend.running == 1)
        wait_until(lambda: backend.steps > 5_000)
        assert backend.asked < backend.steps / 50
        engine.abort("one")
        wait_until(lambda: engine.status().backend.running == 0)
    finally:
        engine.stop()
