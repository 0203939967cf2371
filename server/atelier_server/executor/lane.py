"""The server's end of the lane: tensor calls to one runner, any number at once on one connection."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import JobTensors, TensorTask
from atelier_server.errors import AtelierError, Internal
from atelier_server.runner import error_codec, tensor_messages
from atelier_server.runner.lane import Frame, FrameProtocol, Kind, check_size


class TensorLane:
    """Connects at its first call; made and used in one event loop.

    Args:
        socket: The lane's socket.
        lost: Makes the error of calls whose runner is gone.
    """

    def __init__(self, socket: Path, lost: Callable[[], AtelierError]) -> None:
        self._socket = socket
        self._lost = lost
        self._calls: dict[int, asyncio.Future[Frame]] = {}
        self._ids = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._protocol: FrameProtocol | None = None
        self._closed = False

    async def infer(self, task: TensorTask) -> JobTensors:
        """Runs a tensor job; cancelling it aborts the job. The arrays are read-only.

        Raises:
            AtelierError: As the backend raised it, or that the runner is lost.
        """
        request, parts = tensor_messages.infer_request(task)
        header = request.SerializeToString()
        check_size("inputs", header, parts)
        protocol = await self._connected()
        call = next(self._ids)
        answer = self._calls[call] = asyncio.get_running_loop().create_future()
        protocol.send(Kind.REQUEST, call, header, parts)
        try:
            frame = await answer
        except asyncio.CancelledError:
            protocol.send(Kind.CANCEL, call)
            raise
        finally:
            self._calls.pop(call, None)
        return _result(frame)

    def close(self) -> None:
        """Ends the connection; calls in flight end as lost."""
        self._closed = True
        if self._protocol is not None:
            self._protocol.close()

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
        answer = self._calls.get(frame.call)  # none: the caller left meanwhile
        if answer is not None and not answer.done():
            answer.set_result(frame)

    def _disconnected(self) -> None:
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(self._lost())


def _result(frame: Frame) -> JobTensors:
    if frame.kind == Kind.RESPONSE:
        return tensor_messages.job_tensors(pb.InferResponse.FromString(frame.header), frame.body)
    error = error_codec.decode([(error_codec.TRAILER, frame.header)]) if frame.kind == Kind.ERROR else None
    raise error or Internal("The runner sent a frame that is no answer.")
