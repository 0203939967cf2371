"""The executor without a process: the runner's servicer and engine inside this one, reached in the same way.

For tests and for models that cannot crash. A backend that hangs or aborts takes the server with it.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from atelier_server.backends.base import Backend, ModelSpec
from atelier_server.errors import Unavailable
from atelier_server.executor.base import LOADING, READY, UNAVAILABLE, UNLOADING
from atelier_server.executor.client import RunnerClient
from atelier_server.executor.connected import ConnectedExecutor, OnChange
from atelier_server.executor.limits import Limits
from atelier_server.executor.served import ServedThread
from atelier_server.executor.socket_folder import SocketFolder
from atelier_server.runner.engine import Engine
from atelier_server.runner.loading import backend_factory

_POLL_SECONDS = 0.02
_log = logging.getLogger(__name__)


class InProcessExecutor(ConnectedExecutor):
    """Runs a model on a thread of this process.

    Args:
        spec: The model.
        backend: The name of the backend's module, or a function that makes the backend.
        limits: How patient it is; only loading and stopping are watched.
        on_change: Called in the event loop whenever the state or its reason changes.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backend: str | Callable[[], Backend],
        *,
        limits: Limits | None = None,
        on_change: OnChange | None = None,
    ) -> None:
        super().__init__(spec, on_change)
        self._create = backend_factory(backend, spec) if isinstance(backend, str) else backend
        self._limits = limits or Limits()
        self._folder: SocketFolder | None = None
        self._server: ServedThread | None = None
        self._engine: Engine | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See Executor. May be called again after a failure.

        Raises:
            Unavailable: It could not be loaded (LOAD_FAILED).
            RuntimeError: It is running.
        """
        if self._engine is not None:
            raise RuntimeError(f"{self.spec.name} is started already")
        self._set_state(LOADING)
        self._engine = Engine(self._create)
        try:
            refusal = await self._load(self._engine)
        except OSError as error:
            refusal = f"its socket cannot be made: {error.strerror or error}"
        except asyncio.CancelledError:
            await self.stop()
            raise
        if refusal:
            await self._release()
            self._set_state(UNAVAILABLE, refusal)
            message = f"Model {self.spec.name} could not be loaded: {refusal}"
            raise Unavailable(message, reason="LOAD_FAILED")
        self._heartbeat = asyncio.create_task(self._follow(), name=f"follow {self.spec.name}")

    async def stop(self) -> None:
        """See Executor."""
        if self._engine is not None:
            self._set_state(UNLOADING)
            await self._release()
        self._set_state(UNAVAILABLE, "stopped")

    async def _load(self, engine: Engine) -> str:
        """Serves the engine and waits until it is READY; gives back why it is not going to be."""
        self._folder = SocketFolder()
        self._server = await ServedThread.start(engine, self._folder.socket)
        self._client = RunnerClient(self._folder.socket, self.spec.name)
        engine.start()
        deadline = time.monotonic() + self._limits.load_seconds
        while engine.status().state == LOADING:
            if time.monotonic() > deadline:
                return f"it did not load within {self._limits.load_seconds:g} s"
            await asyncio.sleep(_POLL_SECONDS)
        if engine.status().state == READY:
            self._set_state(READY)
            await self.refresh()
        return engine.status().reason

    async def _follow(self) -> None:
        while self._engine is not None and self._engine.status().state == READY:
            await asyncio.sleep(self._limits.heartbeat_seconds)
            await self.refresh()
        if self._engine is not None:
            self._set_state(UNAVAILABLE, self._engine.status().reason)

    async def _release(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait([self._heartbeat])
        if self._server is not None:
            await self._server.stop()
        if self._client is not None:
            await self._client.close()
        if self._engine is not None and not await asyncio.to_thread(self._engine.stop, self._limits.stop_seconds):
            _log.error("the thread of %s is stuck in a step and is left behind", self.spec.name)
        if self._folder is not None:
            self._folder.remove()
        self._heartbeat = self._server = self._client = self._engine = self._folder = None
