"""The runner's end of the lane: what is no job, models that answer wrongly, and a server that reads nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import (
    Backend,
    BackendStatus,
    DiffusionTask,
    Job,
    JobDone,
    JobImage,
    JobStep,
    JobTensors,
    ModelSpec,
    TensorTask,
)
from atelier_server.errors import AtelierError, Internal
from atelier_server.runner import error_codec, messages, tensor_messages
from atelier_server.runner.engine import Engine
from atelier_server.runner.engine_status import EngineState
from atelier_server.runner.lane import Frame, FrameProtocol, Kind
from atelier_server.runner.lane_server import LaneServer
from tests.integration.executor_kit import wait_until

DONE = JobDone({}, exact=False)
PIXELS = np.zeros((4, 4, 3), np.uint8)


class Answering(Backend):
    """Answers a job by what `answer` does with it, and remembers whom it should forget."""

    def __init__(self) -> None:
        super().__init__(ModelSpec("answering", "1", Path()))
        self.answer: Callable[[Job], None] = lambda job: None
        self.aborted: list[str] = []

    def load(self) -> None:
        """There is nothing to load."""

    def submit(self, job: Job) -> None:
        """Answers."""
        self.answer(job)

    def abort(self, job_id: str) -> None:
        """Remembers."""
        self.aborted.append(job_id)

    def step(self) -> float | None:
        """Never computes."""
        return None

    def status(self) -> BackendStatus:
        """Idle."""
        return BackendStatus("cpu", "", 0, 0)


class Caller:
    """Sends frames and keeps what comes back."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.protocol = FrameProtocol(self.frames.append, lambda: None)

    async def receive(self, count: int) -> list[Frame]:
        """Waits for so many frames in all."""
        await wait_until(lambda: len(self.frames) >= count)
        return self.frames

    async def error(self) -> AtelierError:
        """The one frame that came, which is an error."""
        [frame] = await self.receive(1)
        assert frame.kind == Kind.ERROR
        return error_codec.decode(frame.header)


@pytest.fixture
def backend() -> Answering:
    return Answering()


@pytest.fixture
async def caller(backend: Answering, tmp_path: Path) -> AsyncIterator[Caller]:
    engine = Engine(lambda: backend)
    engine.start()
    server = LaneServer(engine)
    await server.start(tmp_path / "lane.sock")
    await wait_until(lambda: engine.status().state is EngineState.READY)
    made = Caller()
    await asyncio.get_running_loop().create_unix_connection(lambda: made.protocol, str(tmp_path / "lane.sock"))
    yield made
    made.protocol.close()
    server.stop()
    assert engine.stop()


def diffuse(caller: Caller, call: int = 1, job_id: str = "a") -> None:
    task = DiffusionTask(job_id, "a vase", "", (1,), 64, 64, 2, 1.0)
    caller.protocol.send(Kind.DIFFUSE, call, messages.diffuse_request(task).SerializeToString())


def infer(caller: Caller, call: int = 1) -> None:
    header, parts = tensor_messages.infer_request(TensorTask("", {"x": np.ones(3)}))
    caller.protocol.send(Kind.INFER, call, header.SerializeToString(), parts)


@pytest.mark.parametrize("kind", [Kind.DIFFUSE, Kind.INFER, Kind.RESPONSE, 99])
async def test_what_is_no_job_is_refused(caller: Caller, kind: Kind) -> None:
    caller.protocol.send(kind, 1, b"\xff no message")
    assert isinstance(await caller.error(), Internal)


async def test_a_diffusion_that_is_answered_with_tensors_fails(caller: Caller, backend: Answering) -> None:
    backend.answer = lambda job: job.publish(JobTensors({}))
    diffuse(caller)
    assert "JobTensors" in (await caller.error()).message


async def test_tensors_that_are_answered_with_a_picture_fail(caller: Caller, backend: Answering) -> None:
    def answer(job: Job) -> None:
        job.publish(JobImage(0, PIXELS))
        job.publish(DONE)

    backend.answer = answer
    infer(caller)
    assert "does not answer tensors" in (await caller.error()).message


async def test_a_picture_that_is_none_fails_the_job_and_frees_its_rows(caller: Caller, backend: Answering) -> None:
    backend.answer = lambda job: job.publish(JobImage(0, PIXELS.astype(np.float32)))
    diffuse(caller)
    assert "uint8" in (await caller.error()).message
    await wait_until(lambda: backend.aborted == ["a"])


async def test_a_backend_that_publishes_nonsense_fails_the_job_alone(caller: Caller, backend: Answering) -> None:
    backend.answer = lambda job: job.publish(JobStep(-1, 1, 2, 0.0))
    diffuse(caller)
    assert "log has the details" in (await caller.error()).message
    backend.answer = lambda job: job.publish(DONE)
    diffuse(caller, call=2, job_id="b")
    assert (await caller.receive(2))[1].kind == Kind.EVENT


async def test_a_second_job_of_one_id_is_refused_and_the_first_goes_on(caller: Caller, backend: Answering) -> None:
    jobs: list[Job] = []
    backend.answer = jobs.append
    diffuse(caller, call=1)
    diffuse(caller, call=2)
    assert (await caller.error()).reason == "ALREADY_EXISTS"
    await wait_until(lambda: len(jobs) == 1)
    jobs[0].publish(DONE)
    assert [(frame.kind, frame.call) for frame in await caller.receive(2)] == [(Kind.ERROR, 2), (Kind.EVENT, 1)]
    assert backend.aborted == []


async def test_cancelling_and_leaving_free_rows(caller: Caller, backend: Answering) -> None:
    for number in (1, 2, 3):
        diffuse(caller, call=number, job_id=f"job-{number}")
    caller.protocol.send(Kind.CANCEL, 2)
    await wait_until(lambda: backend.aborted == ["job-2"])
    caller.protocol.close()
    await wait_until(lambda: sorted(backend.aborted) == ["job-1", "job-2", "job-3"])
    assert caller.frames == []


async def test_steps_that_a_server_does_not_read_are_left_out_and_pictures_are_not(
    caller: Caller, backend: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier_server.runner.lane.UNREAD_BYTES", 2**20)
    picture = np.zeros((1024, 1024, 3), np.uint8)
    told = threading.Event()

    def answer(job: Job) -> None:
        for number in range(3):
            job.publish(JobImage(number, picture))
        for number in range(1, 101):
            job.publish(JobStep(0, number, 100, 0.0))
        job.publish(DONE)
        told.set()

    backend.answer = answer
    caller.protocol._transport.pause_reading()  # type: ignore[union-attr]
    diffuse(caller)
    await asyncio.to_thread(told.wait, 10)
    caller.protocol._transport.resume_reading()  # type: ignore[union-attr]
    frames = await caller.receive(4)
    kinds = [pb.DiffuseResponse.FromString(frame.header).WhichOneof("event") for frame in frames]
    assert kinds == ["image", "image", "image", "done"]
