"""The runner's end of the lane: hands tensors to the engine and sends back what becomes of them."""

import asyncio
import itertools
import logging
from pathlib import Path

from google.protobuf.message import DecodeError

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import JobFailed, JobTensors
from atelier_server.errors import AtelierError, Internal
from atelier_server.runner import error_codec, tensor_messages
from atelier_server.runner.engine import Engine
from atelier_server.runner.lane import Frame, FrameProtocol, Kind, check_size
from atelier_server.runner.outbox import Outbox

_log = logging.getLogger(__name__)


class TensorServer:
    """Serves tensor jobs of one engine on a Unix socket. Made inside the event loop that serves it."""

    def __init__(self, engine: Engine, outbox: Outbox) -> None:
        self._engine = engine
        self._outbox = outbox
        self._ids = itertools.count(1)
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

    async def infer(self, frame: Frame) -> tuple[pb.InferResponse, tensor_messages.Parts]:
        """Runs a tensor job; cancelling aborts it.

        Raises:
            AtelierError: It failed.
        """
        job_id = f"infer-{next(self._ids)}"
        stream = self._outbox.stream()
        try:
            try:
                request = pb.InferRequest.FromString(frame.header)
            except DecodeError:
                raise Internal("The server sent no tensor request.") from None
            self._engine.submit(tensor_messages.tensor_task(request, frame.body, job_id), stream.publish)
            async for event in stream.events():
                if isinstance(event, JobFailed):
                    raise event.error
                if isinstance(event, JobTensors):
                    return tensor_messages.infer_response(event)
            raise Internal("The model does not answer tensors.")
        finally:
            self._engine.abort(job_id)

    def _connected(self) -> "_Connection":
        connection = _Connection(self)
        self._connections.add(connection)
        return connection

    def disconnected(self, connection: "_Connection") -> None:
        """Forgets a connection that is gone."""
        self._connections.discard(connection)


class _Connection:
    """One server that calls; its calls end with it."""

    def __init__(self, server: TensorServer) -> None:
        self._server = server
        self._calls: dict[int, asyncio.Task[None]] = {}
        self.protocol = FrameProtocol(self._receive, self._lost)

    def _receive(self, frame: Frame) -> None:
        if frame.kind == Kind.REQUEST:
            self._calls[frame.call] = asyncio.create_task(self._answer(frame))
        elif frame.kind == Kind.CANCEL and frame.call in self._calls:
            self._calls[frame.call].cancel()

    async def _answer(self, frame: Frame) -> None:
        try:
            response, parts = await self._server.infer(frame)
            header = response.SerializeToString()
            check_size("outputs", header, parts)
            self.protocol.send(Kind.RESPONSE, frame.call, header, parts)
        except AtelierError as error:
            self.protocol.send(Kind.ERROR, frame.call, error_codec.encode(error))
        except Exception:
            _log.exception("a tensor job failed")
            failure = Internal("The model failed at these tensors; the server's log has the details.")
            self.protocol.send(Kind.ERROR, frame.call, error_codec.encode(failure))
        finally:
            del self._calls[frame.call]

    def _lost(self) -> None:
        for task in self._calls.values():
            task.cancel()
        self._server.disconnected(self)
