"""A runner's gRPC server inside this process, on an event loop and a thread of its own.

Not in the caller's loop: asyncio.run ends by cancelling every task of it, and a grpc.aio server whose own tasks are
cancelled under it crashes the process (grpcio 1.85).
"""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from atelier_server.runner.engine import Engine
from atelier_server.runner.servicer import RunnerServer, serve


class ServedThread:
    """Made by `start`, ended by `stop`; both are called in the caller's event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runner's server", daemon=True)
        self._server: RunnerServer | None = None

    @classmethod
    async def start(cls, engine: Engine, socket: Path) -> Self:
        """Serves the engine on a Unix socket.

        Raises:
            OSError: The socket cannot be bound.
        """
        served = cls(engine)
        served._thread.start()
        serving = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(serve(engine, socket), served._loop))
        try:
            served._server = await asyncio.shield(serving)
        except BaseException:
            with suppress(OSError):
                served._server = await serving  # a start that is broken off half-way would leave its sockets open
            await served.stop()
            raise
        return served

    async def stop(self) -> None:
        """Ends the server and its thread."""
        if self._server is not None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()
