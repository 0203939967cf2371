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
from atelier_server.executor.lane import Lane
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
        options = (("grpc.initial_reconnect_backoff_ms", 100),)
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._stub = rpc.RunnerServiceStub(self._channel)
        self._lane = Lane(lane_beside(socket), self._lost)

    async def get_status(self, timeout_seconds: float) -> pb.GetStatusResponse:
        """Asks for the status.

        Raises:
            Unavailable: The runner is not there (RUNNER_LOST).
            DeadlineExceeded: No answer within the time.
        """
        with self._domain_errors():
            answer: pb.GetStatusResponse = await self._stub.GetStatus(pb.GetStatusRequest(), timeout=timeout_seconds)
            return answer

    def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """Runs a diffusion job; closing the generator aborts it.

        Raises:
            AtelierError: As the backend raised it, or RUNNER_LOST.
        """
        return self._lane.diffuse(task)

    async def infer(self, task: TensorTask) -> JobTensors:
        """Runs a tensor job; the arrays are read-only.

        Raises:
            AtelierError: As the backend raised it, or RUNNER_LOST.
        """
        with span("infer", kind="client", model=self._model):
            return await self._lane.infer(task)

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
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"The runner of {self._model} did not answer in time.")
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return self._lost()
        return Internal(f"The runner of {self._model} answered with {error.code().name}; the log has the details.")

    def _lost(self) -> Unavailable:
        message = f"The process that runs {self._model} was lost during the call; try again."
        return Unavailable(message, reason="RUNNER_LOST", retry_after_seconds=self.retry_after_seconds)
