"""Puts together everything about brands: the store, the embedder, the looks, and the work beside the calls."""

import asyncio
import contextlib
import logging
from concurrent.futures import Executor as ThreadPool
from pathlib import Path

from atelier_server.brand.store import BrandStore
from atelier_server.errors import Unavailable
from atelier_server.pipeline.brand_embedder import Embedders
from atelier_server.pipeline.brand_look import BrandLooks
from atelier_server.pipeline.brands import Brands
from atelier_server.pipeline.reembed import Reembedder
from atelier_server.pipeline.route import Models

logger = logging.getLogger(__name__)


class BrandParts:
    """The parts, which others use, and their beginning and end.

    Args:
        models: What is loaded.
        pool: Threads for the store, decoding and arithmetic.
        folder: Where pictures, and SQLite's file, lie.
        database_url: SQLAlchemy's; empty for SQLite.

    Raises:
        InvalidArgument: The URL cannot be used.
    """

    def __init__(self, models: Models, pool: ThreadPool, folder: Path, database_url: str) -> None:
        self._pool = pool
        self._store = BrandStore(database_url, folder)
        embedders = Embedders(models, pool)
        self.looks = BrandLooks(self._store, embedders, pool)
        self.reembedder = Reembedder(self._store, embedders, pool)
        self.brands = Brands(self._store, self.looks, pool, self.reembedder.nudge)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the store and begins to look for references to embed. A database that is not there is tried again."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._store.open)
        except Unavailable as error:
            logger.error("%s", error.message)
        self._task = asyncio.create_task(self.reembedder.run(), name="embed references anew")

    async def stop(self) -> None:
        """Ends the work beside the calls and the connections."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._store.close)
