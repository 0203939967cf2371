"""Methods on brands and models, sync and async; each asks what _calls says."""

from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

from atelier_client import _calls
from atelier_client._calls import Call, ImageSource
from atelier_client._types import AddedReferences, Brand, ModelInfo

T = TypeVar("T")


class Ask(Protocol):
    """Makes a call and waits for its answer."""

    def __call__(self, call: Call[T], timeout: float | None, /) -> T: ...


class AskAsync(Protocol):
    """Makes a call; its answer can be awaited."""

    def __call__(self, call: Call[T], timeout: float | None, /) -> Awaitable[T]: ...


class Brands:
    """Brands and their reference pictures; reached as `atelier.brands`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def create(self, brand_id: str, *, name: str = "", timeout: float | None = 30.0) -> Brand:
        """Makes a brand without pictures."""
        return self._ask(_calls.create_brand(brand_id, name), timeout)

    def get(self, brand_id: str, *, timeout: float | None = 30.0) -> Brand:
        """One brand with its references."""
        return self._ask(_calls.get_brand(brand_id), timeout)

    def list(self, *, timeout: float | None = 30.0) -> tuple[Brand, ...]:
        """All brands, in the order of their ids."""
        brands, token = self._ask(_calls.list_brands(""), timeout)
        while token:
            more, token = self._ask(_calls.list_brands(token), timeout)
            brands += more
        return brands

    def delete(self, brand_id: str, *, timeout: float | None = 30.0) -> None:
        """Removes a brand and its pictures."""
        self._ask(_calls.delete_brand(brand_id), timeout)

    def add(self, brand_id: str, images: Sequence[ImageSource], *, timeout: float | None = 300.0) -> AddedReferences:
        """Adds reference pictures: paths, bytes of files, or Pillow pictures."""
        return self._ask(_calls.add_references(brand_id, images), timeout)

    def remove(self, brand_id: str, reference_id: str, *, timeout: float | None = 30.0) -> Brand:
        """Removes a reference picture; returns the brand afterwards."""
        return self._ask(_calls.remove_reference(brand_id, reference_id), timeout)


class Models:
    """Models of the server's repository; reached as `atelier.models`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def list(self, *, timeout: float | None = 30.0) -> tuple[ModelInfo, ...]:
        """All models, in the order of their names."""
        return self._ask(_calls.list_models(), timeout)

    def load(self, name: str, *, timeout: float | None = 600.0) -> ModelInfo:
        """Loads a model and waits until it is ready."""
        return self._ask(_calls.load_model(name), timeout)

    def unload(self, name: str, *, timeout: float | None = 60.0) -> ModelInfo:
        """Ends a model's processes."""
        return self._ask(_calls.unload_model(name), timeout)


class AsyncBrands:
    """As Brands, to be awaited."""

    def __init__(self, ask: AskAsync) -> None:
        self._ask = ask

    async def create(self, brand_id: str, *, name: str = "", timeout: float | None = 30.0) -> Brand:
        """See Brands.create."""
        return await self._ask(_calls.create_brand(brand_id, name), timeout)

    async def get(self, brand_id: str, *, timeout: float | None = 30.0) -> Brand:
        """See Brands.get."""
        return await self._ask(_calls.get_brand(brand_id), timeout)

    async def list(self, *, timeout: float | None = 30.0) -> tuple[Brand, ...]:
        """See Brands.list."""
        brands, token = await self._ask(_calls.list_brands(""), timeout)
        while token:
            more, token = await self._ask(_calls.list_brands(token), timeout)
            brands += more
        return brands

    async def delete(self, brand_id: str, *, timeout: float | None = 30.0) -> None:
        """See Brands.delete."""
        await self._ask(_calls.delete_brand(brand_id), timeout)

    async def add(
        self, brand_id: str, images: Sequence[ImageSource], *, timeout: float | None = 300.0
    ) -> AddedReferences:
        """See Brands.add."""
        return await self._ask(_calls.add_references(brand_id, images), timeout)

    async def remove(self, brand_id: str, reference_id: str, *, timeout: float | None = 30.0) -> Brand:
        """See Brands.remove."""
        return await self._ask(_calls.remove_reference(brand_id, reference_id), timeout)


class AsyncModels:
    """As Models, to be awaited."""

    def __init__(self, ask: AskAsync) -> None:
        self._ask = ask

    async def list(self, *, timeout: float | None = 30.0) -> tuple[ModelInfo, ...]:
        """See Models.list."""
        return await self._ask(_calls.list_models(), timeout)

    async def load(self, name: str, *, timeout: float | None = 600.0) -> ModelInfo:
        """See Models.load."""
        return await self._ask(_calls.load_model(name), timeout)

    async def unload(self, name: str, *, timeout: float | None = 60.0) -> ModelInfo:
        """See Models.unload."""
        return await self._ask(_calls.unload_model(name), timeout)
