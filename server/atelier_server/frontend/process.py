"""The life of a server process: start, say READY, serve, drain at a signal, end."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Protocol

logger = logging.getLogger(__name__)


class Startable(Protocol):
    """What has a life; the App."""

    address: str
    metrics_address: str

    async def start(self) -> None:
        """Returns when it is ready."""

    async def drain(self) -> None:
        """Returns when its work is done."""

    async def stop(self) -> None:
        """Ends it at once."""


async def run_until_signalled(app: Startable) -> None:
    """Runs it until SIGTERM or SIGINT, then drains it; a second signal cuts the drain short.

    When it is ready, stdout gets the one line that scripts wait for.
    """
    signals = _Signals()
    try:
        if await signals.outrun_by(app.start()):
            print(f"READY grpc={app.address} metrics={app.metrics_address}", flush=True)
            await signals.wait()
            logger.info("draining; a second signal ends at once")
            if not await signals.outrun_by(app.drain()):
                logger.warning("cut short; running calls are cancelled")
    finally:
        await app.stop()
    logger.info("stopped")


class _Signals:
    """SIGTERM and SIGINT as they come."""

    def __init__(self) -> None:
        self._pending = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pending.release)

    async def wait(self) -> None:
        """Waits for the next signal."""
        await self._pending.acquire()

    async def outrun_by(self, work: Coroutine[None, None, None]) -> bool:
        """Does the work unless a signal comes first, which cancels it. True when the work was done."""
        working, waiting = asyncio.create_task(work), asyncio.create_task(self.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (working, waiting):
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if working.cancelled():
            return False
        working.result()
        return True
