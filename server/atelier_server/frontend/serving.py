"""grpc.health.v1 for load balancers and probes: "" , each service, and `model/<name>`, as the registry changes."""

import asyncio
import contextlib
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health_aio

from atelier_server.executor.base import READY, Executor
from atelier_server.frontend.health import HealthMonitor
from atelier_server.repository.registry import Registry

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ServingStatus:
    """Keeps the health service's answers at the registry's state.

    Args:
        registry: Whose changes are followed.
        monitor: Decides about "" and the services that make pictures.
        generating: Names that serve only while pictures can be made.
        others: Names that serve as long as the server runs.
    """

    def __init__(
        self, registry: Registry[Executor], monitor: HealthMonitor, generating: Sequence[str], others: Sequence[str]
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._generating = generating
        self._others = others
        self._servicer = grpc_health_aio.HealthServicer()
        self._published: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.ready = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Publishes the present state, and every change from now on."""
        await self.publish()
        self._registry.on_change(lambda _: self._changed.set())
        self._task = asyncio.create_task(self._follow())

    async def publish(self) -> None:
        """Brings the answers up to date."""
        self.ready = self._monitor.serving()
        wanted = dict.fromkeys(self._published, _NOT_SERVING)
        wanted |= dict.fromkeys(self._others, _SERVING)
        wanted |= dict.fromkeys(["", *self._generating], _SERVING if self.ready else _NOT_SERVING)
        for state in self._registry.models():
            wanted[f"model/{state.name}"] = _SERVING if state.state == READY else _NOT_SERVING
        for name, status in wanted.items():
            if self._published.get(name) != status:
                self._published[name] = status
                await self._servicer.set(name, status)

    async def stop(self) -> None:
        """Says NOT_SERVING to everyone, for good."""
        self.ready = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._servicer.enter_graceful_shutdown()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.publish()
