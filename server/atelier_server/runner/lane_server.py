"""The runner's end of the lane: hands jobs to the engine and sends back what becomes of them."""

import asyncio
import itertools
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from google.protobuf.message import DecodeError

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobFailed,
    JobStep,
    JobTensors,
    TensorTask,
)
from atelier_server.errors import AtelierError, Internal
from atelier_server.runner import error_codec, messages, tensor_messages
from atelier_server.runner.engine import Engine
from atelier_server.runner.lane import Frame, FrameProtocol, Kind, check_size

_log = logging.getLogger(__name__)


class LaneServer:
    """Serves the jobs of one engine on a Unix socket. Made inside the event loop that serves it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ids = itertools.count(1)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listens.

        Raises:
            OSError: The socket cannot be bound.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_unix_server(lambda: self._connected().protocol, str(socket))
        except OSError as error:
            raise OSError(f"The socket {socket} cannot be bound: {error}") from error

    def stop(self) -> None:
        """Ends every connection, and with them their jobs."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.protocol.close()

    def _connected(self) -> "_Connection":
        connection = _Connection(self)
        self._connections.add(connection)
        return connection

    def disconnected(self, connection: "_Connection") -> None:
        """Forgets a connection that is gone."""
        self._connections.discard(connection)


@dataclass(frozen=True, slots=True)
class _Call:
    kind: Kind
    job_id: str


class _Connection:
    """One server that calls; its calls end with it."""

    def __init__(self, server: LaneServer) -> None:
        self._server = server
        self._calls: dict[int, _Call] = {}
        self.protocol = FrameProtocol(self._receive, self._lost)

    def _receive(self, frame: Frame) -> None:
        if frame.kind == Kind.CANCEL:
            self._abort(frame.call)
            return
        try:
            task = self._task(frame)
            self._calls[frame.call] = _Call(Kind(frame.kind), task.job_id)
            self._server.engine.submit(task, partial(self._tell, frame.call))
        except AtelierError as error:
            self._fail(frame.call, error)
        except Exception:
            _log.exception("a job could not be taken in")
            self._fail(frame.call, Internal("The model could not take the job in; the server's log has the details."))

    def _task(self, frame: Frame) -> DiffusionTask | TensorTask:
        try:
            if frame.kind == Kind.DIFFUSE:
                return messages.diffusion_task(pb.DiffuseRequest.FromString(frame.header))
            if frame.kind == Kind.INFER:
                request = pb.InferRequest.FromString(frame.header)
                return tensor_messages.tensor_task(request, frame.body, f"infer-{next(self._server.ids)}")
        except DecodeError:
            pass
        raise Internal("The server sent no job.")

    def _tell(self, number: int, event: JobEvent) -> None:
        """Sends an event of a job, from whatever thread it comes."""
        call = self._calls.get(number)
        if call is None or (isinstance(event, JobStep) and self.protocol.unread):
            return
        try:
            if isinstance(event, JobFailed):
                self._fail(number, event.error)
            elif call.kind == Kind.DIFFUSE:
                self._send(Kind.EVENT, number, *messages.diffuse_response(event))
            elif isinstance(event, JobTensors):
                self._send(Kind.RESPONSE, number, *tensor_messages.infer_response(event))
            elif isinstance(event, JobDone):
                raise Internal("The model does not answer tensors.")
        except AtelierError as error:
            self._abort(number)
            self._fail(number, error)
        except Exception:
            _log.exception("an answer could not be sent")
            self._abort(number)
            self._fail(number, Internal("The model failed at this job; the server's log has the details."))
        if isinstance(event, JobDone | JobTensors):
            self._calls.pop(number, None)

    def _send(
        self, kind: Kind, number: int, message: pb.DiffuseResponse | pb.InferResponse, parts: messages.Parts
    ) -> None:
        header = message.SerializeToString()
        check_size("outputs", header, parts)
        self.protocol.send(kind, number, header, parts)

    def _fail(self, number: int, error: AtelierError) -> None:
        self._calls.pop(number, None)
        self.protocol.send(Kind.ERROR, number, error_codec.encode(error))

    def _abort(self, number: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            self._server.engine.abort(call.job_id)

    def _lost(self) -> None:
        for number in list(self._calls):
            self._abort(number)
        self._server.disconnected(self)
