"""The runner's side of the private protocol: moves messages between gRPC and the engine, and computes nothing."""

import asyncio
from pathlib import Path
from typing import NoReturn

import grpc
import psutil

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server._generated.atelier.runner.v1 import runner_pb2_grpc as rpc
from atelier_server.backends.base import JobFailed
from atelier_server.errors import AtelierError
from atelier_server.runner import error_codec, messages
from atelier_server.runner.engine import Engine
from atelier_server.runner.lane import lane_beside
from atelier_server.runner.outbox import Outbox
from atelier_server.runner.tensor_server import TensorServer

DiffuseContext = grpc.aio.ServicerContext[pb.DiffuseRequest, pb.DiffuseResponse]
StatusContext = grpc.aio.ServicerContext[pb.GetStatusRequest, pb.GetStatusResponse]


class RunnerServicer(rpc.RunnerServiceServicer):
    """Serves one engine. Made inside the event loop that serves it."""

    def __init__(self, engine: Engine, outbox: Outbox) -> None:
        self._engine = engine
        self._outbox = outbox
        self._process = psutil.Process()

    async def GetStatus(self, request: pb.GetStatusRequest, context: StatusContext) -> pb.GetStatusResponse:
        """How the instance is; answered by the event loop, whatever the engine does."""
        status = self._engine.status()
        backend = status.backend
        return pb.GetStatusResponse(
            state=status.state,
            reason=status.reason,
            device=backend.device,
            dtype=backend.dtype,
            execution=backend.execution,
            memory_bytes=self._process.memory_info().rss,
            device_memory_bytes=backend.device_memory_bytes,
            waiting=backend.waiting,
            running=backend.running,
            facts={
                **backend.facts,
                "stalled_seconds": status.stalled_seconds,
                "usual_seconds": status.usual_seconds,
            },
            counters={**backend.counters, **status.counters},
            warnings=backend.warnings,
            histograms={name: messages.histogram(spread) for name, spread in backend.histograms.items()},
        )

    async def Diffuse(self, request: pb.DiffuseRequest, context: DiffuseContext) -> None:
        """Streams a diffusion job; when the call ends early, for whatever reason, the job is aborted."""
        task = messages.diffusion_task(request)
        stream = self._outbox.stream()
        try:
            self._engine.submit(task, stream.publish)
        except AtelierError as error:  # before the try below: another job of the same id must not be aborted
            await _abort(context, error)
        try:
            async for event in stream.events():
                if isinstance(event, JobFailed):
                    raise event.error
                await context.write(messages.diffuse_response(event))
        except AtelierError as error:
            await _abort(context, error)
        finally:
            self._engine.abort(task.job_id)


class RunnerServer:
    """What serves one engine: gRPC, and the lane of tensors beside it."""

    def __init__(self, engine: Engine) -> None:
        outbox = Outbox(asyncio.get_running_loop())
        self._tensors = TensorServer(engine, outbox)
        self._grpc = grpc.aio.server(options=messages.CHANNEL_OPTIONS)
        rpc.add_RunnerServiceServicer_to_server(RunnerServicer(engine, outbox), self._grpc)

    async def start(self, socket: Path) -> None:
        """Listens on the Unix socket, and on the lane's in the same folder.

        Raises:
            OSError: A socket cannot be bound.
        """
        await self._tensors.start(lane_beside(socket))
        try:
            self._grpc.add_insecure_port(f"unix:{socket}")
            await self._grpc.start()
        except RuntimeError as error:
            self._tensors.stop()
            raise OSError(f"The socket {socket} cannot be bound: {error}") from error
        except asyncio.CancelledError:
            self._tensors.stop()
            raise

    async def stop(self) -> None:
        """Ends all calls at once."""
        self._tensors.stop()
        await self._grpc.stop(grace=0)


async def serve(engine: Engine, socket: Path) -> RunnerServer:
    """Starts a server for the engine on a Unix socket; the caller stops it.

    Raises:
        OSError: The socket cannot be bound.
    """
    server = RunnerServer(engine)
    await server.start(socket)
    return server


async def _abort(context: DiffuseContext, error: AtelierError) -> NoReturn:
    trailers = ((error_codec.TRAILER, error_codec.encode(error)),)
    await context.abort(error_codec.status_code(error), error.message[:200], trailing_metadata=trailers)
    raise AssertionError("abort always raises")
