"""Embeds references that the present embedder does not know yet: after it changed, or after it was not there."""

import asyncio
import logging
from concurrent.futures import Executor as ThreadPool
from functools import partial

from atelier_server.backends.base import Tensor
from atelier_server.brand.store import BrandStore
from atelier_server.errors import AtelierError
from atelier_server.pipeline.brand_embedder import Embedder, Embedders
from atelier_server.scoring.intake import decode
from atelier_server.scoring.preprocess import PixelFormat, pixel_values

LOOK_SECONDS = 30.0
"""Time between two looks that nobody asked for; another server on the same database may have taken pictures in."""
TOLD_EVERY = 50

logger = logging.getLogger(__name__)


class Reembedder:
    """Works in the background while the server runs.

    Args:
        store: Where the brands are.
        embedders: What embeds pictures.
        pool: Threads for the store and for decoding.
        look_seconds: See LOOK_SECONDS.
    """

    def __init__(
        self, store: BrandStore, embedders: Embedders, pool: ThreadPool, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._pool = pool
        self._look_seconds = look_seconds
        self._wanted = asyncio.Event()
        self._absent: set[str] = set()

    def nudge(self) -> None:
        """Something changed: look now. Call it on the event loop."""
        self._wanted.set()

    async def run(self) -> None:
        """Looks for work until it is cancelled."""
        while True:
            self._wanted.clear()
            try:
                if self._embedders.is_ready:
                    await self._embed_pending(await self._embedders.current())
            except AtelierError as error:
                logger.info("references are embedded later: %s", error.message)
            except Exception:  # a fault at one look must not end all later ones
                logger.exception("references could not be embedded")
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _embed_pending(self, embedder: Embedder) -> None:
        loop = asyncio.get_running_loop()
        everything = await loop.run_in_executor(self._pool, self._store.pending, embedder.space)
        pending = [pair for pair in everything if pair[1] not in self._absent]
        if not pending:
            return
        logger.info("%d reference pictures are to be embedded by %s", len(pending), embedder.space.model)
        for done, (brand_id, reference_id) in enumerate(pending, start=1):
            values = await loop.run_in_executor(self._pool, self._read, reference_id, embedder.preprocessing)
            if values is not None:
                vector = (await embedder.embed(values))[0]
                keep = partial(self._store.put_embedding, brand_id, reference_id, embedder.space, vector)
                await loop.run_in_executor(self._pool, keep)
            if done % TOLD_EVERY == 0 or done == len(pending):
                logger.info("%d of %d reference pictures are embedded", done, len(pending))

    def _read(self, reference_id: str, wanted: PixelFormat) -> Tensor | None:
        try:
            return pixel_values(decode(self._store.picture(reference_id), reference_id), wanted)
        except (OSError, AtelierError) as error:  # the file may lie with another server, or be gone by now
            logger.warning("reference picture %s cannot be embedded here: %s", reference_id, error)
            self._absent.add(reference_id)
            return None
