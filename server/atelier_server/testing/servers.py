"""Real servers on free ports, inside this process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from atelier_server.backends.base import ModelSpec
from atelier_server.config import ServerConfig
from atelier_server.core import ExecutorFactory
from atelier_server.executor.base import Executor
from atelier_server.executor.inprocess import InProcessExecutor
from atelier_server.executor.limits import Limits
from atelier_server.executor.openai import OpenAIExecutor
from atelier_server.frontend.app import App, build
from atelier_server.testing.echo_models import write_echo_model

_FREE_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers; `channel` is an open grpc.aio channel to it."""

    app: App
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        """HOST:PORT of the gRPC services."""
        return self.app.address

    @property
    def metrics_url(self) -> str:
        """URL of the HTTP server, without a path."""
        return f"http://{self.app.metrics_address}"


def in_process_executor(spec: ModelSpec) -> Executor:
    """An executor on a thread of this process, with frequent looks at its state."""
    if spec.config["backend"] == "openai":
        return OpenAIExecutor(spec)
    return InProcessExecutor(spec, str(spec.config["backend"]), limits=Limits(heartbeat_seconds=0.05))


@asynccontextmanager
async def echo_server(
    folder: Path, *, executor_factory: ExecutorFactory = in_process_executor, **config: Any
) -> AsyncIterator[RunningServer]:
    """Runs a server for the time of the block.

    Args:
        folder: An empty folder for its files, or one that holds a model repository `models`, which is then used.
            Without one, a model named echo is made.
        executor_factory: Makes the executors.
        config: Further fields of ServerConfig.
    """
    app = await build(server_config(folder, **config), executor_factory)
    try:
        await app.start()
        async with grpc.aio.insecure_channel(app.address) as channel:
            yield RunningServer(app, channel)
    finally:
        await app.stop()


@contextmanager
def echo_server_in_thread(folder: Path, **config: Any) -> Iterator[str]:
    """As `echo_server`, on an event loop of its own in a thread; gives HOST:PORT."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="echo-server", daemon=True)
    thread.start()
    server = echo_server(folder, **config)
    try:
        running = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            yield running.address
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def server_config(folder: Path, **given: Any) -> ServerConfig:
    """Free ports, all files in a folder, and a model named echo unless the folder holds a repository `models`."""
    models = folder / "models"
    if not models.is_dir():
        write_echo_model(models)
    defaults: dict[str, Any] = {
        "listen": _FREE_PORT,
        "metrics_listen": _FREE_PORT,
        "model_repository": models,
        "state_dir": folder / "state",
        "drain_delay_seconds": 0.0,
        "compile": "off",  # a test is over before its model is compiled
    }
    return ServerConfig(**(defaults | given))
