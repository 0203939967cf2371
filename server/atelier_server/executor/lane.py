"""The server's end of the lane: jobs of one runner, any number at once on one connection."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import DiffusionTask, JobEvent, JobFailed, JobTensors, TensorTask
from atelier_server.errors import AtelierError, DeadlineExceeded, Internal
from atelier_server.executor.job_stream import JobStream, is_last
from atelier_server.runner import error_codec, messages, tensor_messages
from atelier_server.runner.lane import Frame, FrameProtocol, Kind, check_size

_log = logging.getLogger(__name__)


class Lane:
    """Connects at its first call; made and used in one event loop.

    Args:
        socket: The lane's socket.
        lost: Makes the error of calls whose runner is gone.
    """

    def __init__(self, socket: Path, lost: Callable[[], AtelierError]) -> None:
        self._socket = socket
        self._lost = lost
        self._calls: dict[int, JobStream] = {}
        self._ids = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._protocol: FrameProtocol | None = None
        self._closed = False

    def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """Runs a diffusion job; closing the generator aborts it. The pictures are read-only.

        Raises:
            AtelierError: As the backend raised it, that its time is over, or that the runner is lost.
        """
        header = messages.diffuse_request(task).SerializeToString()
        return self._call(Kind.DIFFUSE, header, [], task.timeout_seconds)

    async def infer(self, task: TensorTask) -> JobTensors:
        """Runs a tensor job; cancelling it aborts the job. The arrays are read-only.

        Raises:
            AtelierError: As the backend raised it, that its time is over, or that the runner is lost.
        """
        request, parts = tensor_messages.infer_request(task)
        header = request.SerializeToString()
        check_size("inputs", header, parts)
        async with aclosing(self._call(Kind.INFER, header, parts, task.timeout_seconds)) as events:
            async for event in events:
                if isinstance(event, JobTensors):
                    return event
        raise _no_answer()

    def close(self) -> None:
        """Ends the connection; calls in flight end as lost."""
        self._closed = True
        if self._protocol is not None:
            self._protocol.close()

    async def _call(
        self, kind: Kind, header: bytes, parts: messages.Parts, timeout_seconds: float
    ) -> AsyncGenerator[JobEvent, None]:
        protocol = await self._connected()
        call, stream = next(self._ids), JobStream()
        self._calls[call] = stream
        loop, timer = asyncio.get_running_loop(), None
        if timeout_seconds:
            timer = loop.call_later(timeout_seconds, stream.put, JobFailed(_too_late()))
        protocol.send(kind, call, header, parts)
        try:
            async for event in stream.events():
                yield event
        finally:
            if timer is not None:
                timer.cancel()
            if self._calls.pop(call, None) is not None:  # its last frame has not come
                protocol.send(Kind.CANCEL, call)

    async def _connected(self) -> FrameProtocol:
        async with self._connecting:
            if self._closed:
                raise self._lost()
            if self._protocol is None or not self._protocol.open:
                loop = asyncio.get_running_loop()
                try:
                    _, self._protocol = await loop.create_unix_connection(
                        lambda: FrameProtocol(self._receive, self._disconnected), str(self._socket)
                    )
                except OSError:
                    raise self._lost() from None
                self._close_if_asked(self._protocol)
            return self._protocol

    def _close_if_asked(self, protocol: FrameProtocol) -> None:
        """Somebody may have closed the lane while it was being connected."""
        if self._closed:
            protocol.close()
            raise self._lost()

    def _receive(self, frame: Frame) -> None:
        stream = self._calls.get(frame.call)
        if stream is None:  # the caller left meanwhile
            return
        event = _event(frame)
        if is_last(event):
            del self._calls[frame.call]
        stream.put(event)

    def _disconnected(self) -> None:
        streams, self._calls = self._calls, {}
        for stream in streams.values():
            stream.put(JobFailed(self._lost()))


def _event(frame: Frame) -> JobEvent:
    try:
        if frame.kind == Kind.EVENT:
            return messages.job_event(pb.DiffuseResponse.FromString(frame.header), frame.body)
        if frame.kind == Kind.RESPONSE:
            return tensor_messages.job_tensors(pb.InferResponse.FromString(frame.header), frame.body)
        if frame.kind == Kind.ERROR:
            return JobFailed(error_codec.decode(frame.header))
    except Exception:  # whatever it is: other calls share the connection
        _log.exception("a runner's frame cannot be read")
    return JobFailed(_no_answer())


def _no_answer() -> Internal:
    return Internal("The runner sent a frame that is no answer.")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The time given for this call is over; allow more, or ask for fewer steps.")
