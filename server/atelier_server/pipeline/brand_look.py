"""What a brand looks like: everything that pictures are compared with, computed once for each revision."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from atelier_server.brand.measure import (
    Logistic,
    dispersion,
    fit_probability,
    impostor_scores,
    leave_one_out,
    nearness,
    warnings_of,
)
from atelier_server.brand.palette import Swatch, brand_swatches, palette_distance
from atelier_server.brand.records import BrandRecord, Embedded, Reference, Space, Vectors
from atelier_server.brand.store import BrandStore
from atelier_server.errors import AtelierError
from atelier_server.pipeline.brand_embedder import Embedder, Embedders
from atelier_server.types import NearestReference

T = TypeVar("T")

KNOWN_LOOKS = 128


@dataclass(frozen=True, slots=True)
class BrandVerdict:
    """How a picture stands to a brand; the fields of Scores."""

    score: float
    probability: float | None
    nearest: tuple[NearestReference, ...]
    centroid_similarity: float


@dataclass(frozen=True, slots=True)
class BrandLook:
    """A brand at one revision. `embedded` and what follows from it is of one `space`; None: there is no embedder."""

    record: BrandRecord
    references: tuple[Reference, ...]
    palette: tuple[Swatch, ...]
    space: Space | None
    embedded: Embedded
    dispersion: float | None
    probability: Logistic | None
    warnings: tuple[str, ...]

    def judge(self, picture: Vectors) -> BrandVerdict:
        """Compares an embedding [1, width] of length 1; the brand has embedded references."""
        near = nearness(picture, self.embedded)
        probability = self.probability(near.score) if self.probability else None
        nearest = tuple(NearestReference(*pair) for pair in near.nearest)
        return BrandVerdict(near.score, probability, nearest, near.centroid)

    def palette_distance(self, swatches: tuple[Swatch, ...]) -> float:
        """CIEDE2000 of a picture's colours to the brand's; the brand has references."""
        return palette_distance(swatches, self.palette)


class BrandLooks:
    """Looks of brands, kept while their references stay the same.

    Args:
        store: Where the brands are.
        embedders: What embeds pictures.
        pool: Threads for the store and the arithmetic.
    """

    def __init__(self, store: BrandStore, embedders: Embedders, pool: ThreadPool) -> None:
        self._store = store
        self._embedders = embedders
        self._pool = pool
        self._looks: OrderedDict[tuple[object, ...], BrandLook] = OrderedDict()

    async def record(self, brand_id: str) -> BrandRecord:
        """What the store keeps of a brand; pending embeddings are counted for the present embedder.

        Raises:
            NotFound: There is none of this id.
            Unavailable: The database cannot be reached.
        """
        embedder = await self.embedder()
        return await self._run(lambda: self._store.get(brand_id, embedder.space if embedder else None))

    async def of(self, brand_id: str) -> BrandLook:
        """The look of a brand.

        Raises:
            NotFound: There is none of this id.
            Unavailable: The database cannot be reached.
        """
        return await self.of_record(await self.record(brand_id))

    async def of_record(self, record: BrandRecord) -> BrandLook:
        """The look of a brand that was just read."""
        embedder = await self.embedder()
        key = (record, embedder.space if embedder else None)
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = await self._run(lambda: _made(self._store, record, embedder))
        self._looks.move_to_end(key)
        if len(self._looks) > KNOWN_LOOKS:
            self._looks.popitem(last=False)
        return look

    async def embedder(self) -> Embedder | None:
        """The present embedder; None without one that can be used."""
        try:
            return await self._embedders.current()
        except AtelierError:
            return None

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)


def _made(store: BrandStore, record: BrandRecord, embedder: Embedder | None) -> BrandLook:
    references = tuple(store.references(record.brand_id))
    space = embedder.space if embedder else None
    embedded = store.embedded(record.brand_id, space) if space else Embedded((), np.zeros((0, 1), np.float32))
    vectors = embedded.vectors
    probability = None
    if embedder is not None and embedder.impostors is not None and len(vectors) >= 2:
        genuine = leave_one_out(vectors)
        probability = fit_probability(genuine, impostor_scores(embedder.impostors, vectors))
    return BrandLook(
        record=record,
        references=references,
        palette=brand_swatches([reference.swatches for reference in references]),
        space=space,
        embedded=embedded,
        dispersion=dispersion(vectors),
        probability=probability,
        warnings=warnings_of(len(references), vectors, len(references) - len(vectors)),
    )
