"""The server's side of the private protocol: calls one runner on its Unix socket and gives back domain objects."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server._generated.atelier.runner.v1 import runner_pb2_grpc as rpc
from atelier_server.backends.base import DiffusionTask, JobEvent, JobTensors, TensorTask
from atelier_server.errors import AtelierError, DeadlineExceeded, Internal, Unavailable
from atelier_server.executor.lane import TensorLane
from atelier_server.runner import error_codec, messages
from atelier_server.runner.lane import lane_beside
from atelier_server.telemetry.tracing import span


class RunnerClient:
    """A connection to one runner; made and used in one event loop.

    Args:
        socket: The runner's Unix socket.
        model: The model's name, for messages.
        retry_after_seconds: What callers are told when the runner is lost during their call.
    """

    def __init__(self, socket: Path, model: str, retry_after_seconds: float = 2.0) -> None:
        self._model = model
        self.retry_after_seconds = retry_after_seconds
        options = (*messages.CHANNEL_OPTIONS, ("grpc.initial_reconnect_backoff_ms", 100))
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._stub = rpc.RunnerServiceStub(self._channel)
        self._lane = TensorLane(lane_beside(socket), self._lost)

    async def get_status(self, timeout_seconds: float) -> pb.GetStatusResponse:
        """Asks for the status.

        Raises:
            Unavailable: The runner is not there (RUNNER_LOST).
            DeadlineExceeded: No answer within the time.
        """
        with self._domain_errors():
            answer: pb.GetStatusResponse = await self._stub.GetStatus(pb.GetStatusRequest(), timeout=timeout_seconds)
            return answer

    async def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """Runs a diffusion job; closing the generator cancels the call, and with it the job.

        Raises:
            AtelierError: As the backend raised it, or RUNNER_LOST.
        """
        call = self._stub.Diffuse(messages.diffuse_request(task), timeout=task.timeout_seconds or None)
        try:
            with self._domain_errors():
                async for message in call:
                    yield messages.job_event(message)
        finally:
            call.cancel()

    async def infer(self, task: TensorTask) -> JobTensors:
        """Runs a tensor job; the arrays are read-only.

        Raises:
            AtelierError: As the backend raised it, or RUNNER_LOST.
        """
        try:
            with span("infer", kind="client", model=self._model):
                async with asyncio.timeout(task.timeout_seconds or None):
                    return await self._lane.infer(task)
        except TimeoutError:
            raise _too_late() from None

    async def close(self) -> None:
        """Closes the connection; calls in flight end with RUNNER_LOST."""
        self._lane.close()
        await self._channel.close()

    @contextmanager
    def _domain_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._lost() from None  # gRPC says "cancelled" to the calls of a channel that is closed

    def _translated(self, error: grpc.aio.AioRpcError) -> AtelierError:
        carried = error_codec.decode(error.trailing_metadata())
        if carried is not None:
            return carried
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return _too_late()
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return self._lost()
        return Internal(f"The runner of {self._model} answered with {error.code().name}; the log has the details.")

    def _lost(self) -> Unavailable:
        message = f"The process that runs {self._model} was lost during the call; try again."
        return Unavailable(message, reason="RUNNER_LOST", retry_after_seconds=self.retry_after_seconds)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The time given for this call is over; allow more, or ask for fewer steps.")
