"""The runner's side of the private protocol: status by gRPC, jobs on the lane. It computes nothing."""

import asyncio
from pathlib import Path

import grpc
import psutil

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server._generated.atelier.runner.v1 import runner_pb2_grpc as rpc
from atelier_server.runner import messages
from atelier_server.runner.engine import Engine
from atelier_server.runner.lane import lane_beside
from atelier_server.runner.lane_server import LaneServer

StatusContext = grpc.aio.ServicerContext[pb.GetStatusRequest, pb.GetStatusResponse]


class RunnerServicer(rpc.RunnerServiceServicer):
    """Serves one engine. Made inside the event loop that serves it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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


class RunnerServer:
    """What serves one engine: gRPC, and the lane beside it."""

    def __init__(self, engine: Engine) -> None:
        self._lane = LaneServer(engine)
        self._grpc = grpc.aio.server()
        rpc.add_RunnerServiceServicer_to_server(RunnerServicer(engine), self._grpc)

    async def start(self, socket: Path) -> None:
        """Listens on the Unix socket, and on the lane's in the same folder.

        Raises:
            OSError: A socket cannot be bound.
        """
        await self._lane.start(lane_beside(socket))
        try:
            self._grpc.add_insecure_port(f"unix:{socket}")
            await self._grpc.start()
        except RuntimeError as error:
            self._lane.stop()
            raise OSError(f"The socket {socket} cannot be bound: {error}") from error
        except asyncio.CancelledError:
            self._lane.stop()
            raise

    async def stop(self) -> None:
        """Ends all calls at once."""
        self._lane.stop()
        await self._grpc.stop(grace=0)


async def serve(engine: Engine, socket: Path) -> RunnerServer:
    """Starts a server for the engine on a Unix socket; the caller stops it.

    Raises:
        OSError: The socket cannot be bound.
    """
    server = RunnerServer(engine)
    await server.start(socket)
    return server
