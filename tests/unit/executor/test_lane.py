"""The server's end of the lane against a runner that answers late, wrongly, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import DiffusionTask, JobDone, JobEvent, JobStep, TensorTask
from atelier_server.errors import AtelierError, DeadlineExceeded, Internal, Unavailable
from atelier_server.executor.lane import Lane
from atelier_server.runner.lane import Frame, FrameProtocol, Kind
from tests.integration.executor_kit import wait_until

DONE = pb.DiffuseResponse(done=pb.JobDone()).SerializeToString()
STEP = pb.DiffuseResponse(step=pb.JobStep(step=1, total_steps=2)).SerializeToString()


class FakeRunner:
    """Answers as `answer` says."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.answer: Callable[[FrameProtocol, Frame], None] = lambda protocol, frame: None
        self.protocols: list[FrameProtocol] = []

    def connected(self) -> FrameProtocol:
        """A new connection."""

        def receive(frame: Frame) -> None:
            self.frames.append(frame)
            self.answer(protocol, frame)

        protocol = FrameProtocol(receive, lambda: None)
        self.protocols.append(protocol)
        return protocol

    async def heard(self, *kinds: Kind) -> None:
        """Waits until it has heard frames of just these kinds."""
        await wait_until(lambda: [frame.kind for frame in self.frames] == list(kinds))


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[FakeRunner]:
    fake = FakeRunner()
    server = await asyncio.get_running_loop().create_unix_server(fake.connected, str(tmp_path / "lane.sock"))
    yield fake
    server.close()
    for protocol in fake.protocols:
        protocol.close()


@pytest.fixture
async def lane(runner: FakeRunner, tmp_path: Path) -> AsyncIterator[Lane]:
    made = Lane(tmp_path / "lane.sock", lambda: Unavailable("lost", reason="RUNNER_LOST"))
    yield made
    made.close()


def task(timeout_seconds: float = 0.0) -> DiffusionTask:
    return DiffusionTask("a", "a vase", "", (1,), 64, 64, 2, 1.0, timeout_seconds=timeout_seconds)


async def collect(lane: Lane, asked: DiffusionTask) -> list[JobEvent]:
    return [event async for event in lane.diffuse(asked)]


async def test_the_deadline_ends_a_call_of_a_runner_that_is_silent(lane: Lane, runner: FakeRunner) -> None:
    with pytest.raises(DeadlineExceeded):
        await collect(lane, task(timeout_seconds=0.05))
    with pytest.raises(DeadlineExceeded):
        await lane.infer(TensorTask("b", {}, timeout_seconds=0.05))
    await runner.heard(Kind.DIFFUSE, Kind.CANCEL, Kind.INFER, Kind.CANCEL)


async def test_a_reader_who_leaves_cancels_and_one_who_heard_the_end_does_not(lane: Lane, runner: FakeRunner) -> None:
    def answer(protocol: FrameProtocol, frame: Frame) -> None:
        protocol.send(Kind.EVENT, frame.call, STEP)
        if frame.call > 1:
            protocol.send(Kind.EVENT, frame.call, DONE)

    runner.answer = answer
    async with aclosing(lane.diffuse(task())) as events:
        assert isinstance(await anext(events), JobStep)
    await runner.heard(Kind.DIFFUSE, Kind.CANCEL)
    runner.frames.clear()
    assert [type(event) for event in await collect(lane, task())] == [JobStep, JobDone]
    await asyncio.sleep(0.02)
    await runner.heard(Kind.DIFFUSE)


async def test_a_runner_that_is_gone_loses_its_calls_and_the_next_one_connects_anew(
    lane: Lane, runner: FakeRunner
) -> None:
    runner.answer = lambda protocol, frame: protocol.close()
    with pytest.raises(Unavailable, match="lost"):
        await collect(lane, task())
    runner.answer = lambda protocol, frame: protocol.send(Kind.EVENT, frame.call, DONE)
    assert len(await collect(lane, task())) == 1
    assert len(runner.protocols) == 2


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        (Kind.EVENT, b"\xff no message"),
        (Kind.EVENT, b""),
        (Kind.RESPONSE, b"\xff no message"),
        (Kind.ERROR, b"no error"),
        (Kind.ERROR, b'{"class": "Unheard"}'),
        (Kind.ERROR, b"[]"),
        (Kind.CANCEL, b""),
        (77, b"x"),
    ],
)
async def test_what_is_no_answer_fails_its_call_alone(
    lane: Lane, runner: FakeRunner, kind: Kind, header: bytes
) -> None:
    runner.answer = lambda protocol, frame: protocol.send(kind, frame.call, header)
    with pytest.raises(Internal, match="no answer"):
        await collect(lane, task())
    with pytest.raises(Internal, match="no answer"):
        await lane.infer(TensorTask("b", {}))
    runner.answer = lambda protocol, frame: protocol.send(Kind.EVENT, frame.call, DONE)
    assert len(await collect(lane, task())) == 1
    assert len(runner.protocols) == 1


async def test_events_of_calls_that_are_over_are_left_out(lane: Lane, runner: FakeRunner) -> None:
    def answer(protocol: FrameProtocol, frame: Frame) -> None:
        protocol.send(Kind.EVENT, frame.call - 1, STEP)
        protocol.send(Kind.EVENT, frame.call, DONE)
        protocol.send(Kind.EVENT, frame.call, STEP)

    runner.answer = answer
    for _ in range(3):
        assert [type(event) for event in await collect(lane, task())] == [JobDone]


async def test_without_a_runner_and_after_closing_calls_are_lost(tmp_path: Path, lane: Lane) -> None:
    def lost() -> AtelierError:
        return Unavailable("lost")

    with pytest.raises(Unavailable):
        await collect(Lane(tmp_path / "nobody.sock", lost), task())
    lane.close()
    with pytest.raises(Unavailable):
        await collect(lane, task())
