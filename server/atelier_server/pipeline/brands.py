"""Brands, for their service: made, told about, learnt from pictures, removed."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from atelier_server.backends.base import Tensor
from atelier_server.brand.palette import picture_swatches
from atelier_server.brand.records import Reference, checked_brand_id, checked_name, checked_reference_id
from atelier_server.brand.store import BrandStore
from atelier_server.errors import AtelierError, InvalidArgument, Unavailable
from atelier_server.pipeline.brand_embedder import Embedder
from atelier_server.pipeline.brand_look import BrandLook, BrandLooks
from atelier_server.scoring.intake import decode
from atelier_server.scoring.preprocess import PixelFormat, pixel_values

T = TypeVar("T")

MAX_PAGE = 1000
DEFAULT_PAGE = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AddedReferences:
    """The brand after the call, the pictures that are new, and those that it had already."""

    brand: BrandLook
    added: tuple[str, ...]
    duplicates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Intake:
    """A picture that was taken in, as the store and the embedder want it."""

    reference: Reference
    pixel_values: Tensor | None


class Brands:
    """What BrandService does.

    Args:
        store: Where the brands are.
        looks: What they look like.
        pool: Threads for the store and for decoding.
        pending: Called when references were kept that could not be embedded at once.
    """

    def __init__(self, store: BrandStore, looks: BrandLooks, pool: ThreadPool, pending: Callable[[], None]) -> None:
        self._store = store
        self._looks = looks
        self._pool = pool
        self._pending = pending

    async def create(self, brand_id: str, name: str) -> BrandLook:
        """Makes a brand without pictures.

        Raises:
            InvalidArgument: The id or name is none.
            AlreadyExists: There is one of this id.
        """
        brand_id, name = checked_brand_id(brand_id), checked_name(name) or brand_id
        await self._run(lambda: self._store.create(brand_id, name))
        return await self._looks.of(brand_id)

    async def get(self, brand_id: str) -> BrandLook:
        """One brand.

        Raises:
            NotFound: There is none of this id.
        """
        return await self._looks.of(checked_brand_id(brand_id))

    async def page(self, after: str, size: int) -> tuple[list[BrandLook], str]:
        """Brands in the order of their ids.

        Args:
            after: The token of the page before, empty for the first.
            size: 1 to 1000, 0 for 100.

        Returns:
            The brands and the token of the next page, empty at the end.
        """
        if size > MAX_PAGE:
            raise InvalidArgument(f"page_size goes from 1 to {MAX_PAGE}, not {size}", field="page_size")
        if after:
            try:
                checked_brand_id(after)
            except InvalidArgument:
                raise InvalidArgument("page_token is none of an earlier reply", field="page_token") from None
        size = size or DEFAULT_PAGE
        embedder = await self._looks.embedder()
        space = embedder.space if embedder else None
        records = await self._run(lambda: self._store.page(after, size + 1, space))
        looks = [await self._looks.of_record(record) for record in records[:size]]
        return looks, records[size - 1].brand_id if len(records) > size else ""

    async def delete(self, brand_id: str) -> None:
        """Removes a brand and its pictures.

        Raises:
            NotFound: There is none of this id.
        """
        checked_brand_id(brand_id)
        await self._run(lambda: self._store.delete(brand_id))

    async def remove(self, brand_id: str, reference_id: str) -> BrandLook:
        """Removes a picture of a brand.

        Raises:
            NotFound: There is no such brand, or it has no such picture.
        """
        checked_brand_id(brand_id)
        checked_reference_id(reference_id)
        await self._run(lambda: self._store.remove_reference(brand_id, reference_id))
        return await self._looks.of(brand_id)

    async def add(self, brand_id: str, pictures: AsyncIterator[bytes]) -> AddedReferences:
        """Takes pictures in, one after another. Each is kept as soon as it is there, so a failure at one leaves those
        before it; sent again, they are duplicates.

        Raises:
            InvalidArgument: A picture is wrong; its number is named.
            NotFound: There is no such brand.
        """
        checked_brand_id(brand_id)
        await self._run(lambda: self._store.get(brand_id, None))
        embedder = await self._looks.embedder()
        added: list[str] = []
        duplicates: list[str] = []
        index = 0
        async for data in pictures:
            taken, known = await self._run(partial(self._take_in, brand_id, data, f"images[{index}]", embedder))
            index += 1
            if known is not None:
                duplicates.append(known)
                continue
            added.append(taken.reference.reference_id)
            await self._embed(brand_id, taken, embedder)
        return AddedReferences(await self._looks.of(brand_id), tuple(added), tuple(duplicates))

    def _take_in(self, brand_id: str, data: bytes, field: str, embedder: Embedder | None) -> tuple[_Intake, str | None]:
        """Decodes and keeps a picture; the second value is the id of an equal one that the brand has already."""
        taken = _intake(data, field, embedder.preprocessing if embedder else None)
        return taken, self._store.add_reference(brand_id, taken.reference, data)

    async def _embed(self, brand_id: str, taken: _Intake, embedder: Embedder | None) -> None:
        """Embeds a kept picture; when that fails, it is tried again in the background."""
        try:
            if embedder is None or taken.pixel_values is None:
                raise Unavailable("no brand model is ready")
            vector = (await embedder.embed(taken.pixel_values))[0]
            reference_id, space = taken.reference.reference_id, embedder.space
            await self._run(lambda: self._store.put_embedding(brand_id, reference_id, space, vector))
        except AtelierError as error:
            logger.info("a reference picture of brand %s is embedded later: %s", brand_id, error.message)
            self._pending()

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)


def _intake(data: bytes, field: str, wanted: PixelFormat | None) -> _Intake:
    image = decode(data, field)
    pixels = hashlib.sha256(f"{image.width}x{image.height}".encode())
    pixels.update(image.tobytes())
    reference = Reference(
        reference_id=hashlib.sha256(data).hexdigest(),
        pixels_id=pixels.hexdigest(),
        size_bytes=len(data),
        width=image.width,
        height=image.height,
        swatches=picture_swatches(image),
    )
    return _Intake(reference, pixel_values(image, wanted) if wanted else None)
