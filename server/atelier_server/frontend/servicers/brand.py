"""BrandService: brands are learnt from their own pictures."""

from collections.abc import AsyncIterator

import grpc

from atelier.v1 import brand_pb2, brand_pb2_grpc
from atelier_server.errors import InvalidArgument
from atelier_server.frontend import converters
from atelier_server.pipeline.brands import Brands
from atelier_server.scoring.intake import MAX_BYTES

Context = grpc.aio.ServicerContext[object, object]


class BrandServicer(brand_pb2_grpc.BrandServiceServicer):
    """Converts calls for the brands."""

    def __init__(self, brands: Brands) -> None:
        self._brands = brands

    async def CreateBrand(
        self, request: brand_pb2.CreateBrandRequest, context: Context
    ) -> brand_pb2.CreateBrandResponse:
        """Makes a brand without pictures."""
        look = await self._brands.create(request.brand_id, request.name)
        return brand_pb2.CreateBrandResponse(brand=converters.brand(look))

    async def GetBrand(self, request: brand_pb2.GetBrandRequest, context: Context) -> brand_pb2.GetBrandResponse:
        """Tells about one brand and its pictures."""
        look = await self._brands.get(request.brand_id)
        return brand_pb2.GetBrandResponse(brand=converters.brand(look, with_references=True))

    async def ListBrands(self, request: brand_pb2.ListBrandsRequest, context: Context) -> brand_pb2.ListBrandsResponse:
        """Tells about all brands, page by page."""
        looks, token = await self._brands.page(request.page_token, request.page_size)
        return brand_pb2.ListBrandsResponse(brands=map(converters.brand, looks), next_page_token=token)

    async def DeleteBrand(
        self, request: brand_pb2.DeleteBrandRequest, context: Context
    ) -> brand_pb2.DeleteBrandResponse:
        """Removes a brand and its pictures."""
        await self._brands.delete(request.brand_id)
        return brand_pb2.DeleteBrandResponse()

    async def AddReferenceImages(
        self, request: AsyncIterator[brand_pb2.AddReferenceImagesRequest], context: Context
    ) -> brand_pb2.AddReferenceImagesResponse:
        """Takes pictures in."""
        pieces = aiter(request)
        first = await anext(pieces, None)
        if first is None:
            raise InvalidArgument("the stream has no message; the first one names the brand", field="brand_id")
        added = await self._brands.add(first.brand_id, _pictures(first, pieces))
        return brand_pb2.AddReferenceImagesResponse(
            brand=converters.brand(added.brand),
            added_reference_ids=added.added,
            duplicate_reference_ids=added.duplicates,
        )

    async def RemoveReferenceImage(
        self, request: brand_pb2.RemoveReferenceImageRequest, context: Context
    ) -> brand_pb2.RemoveReferenceImageResponse:
        """Removes one picture."""
        look = await self._brands.remove(request.brand_id, request.reference_id)
        return brand_pb2.RemoveReferenceImageResponse(brand=converters.brand(look))


async def _pictures(
    first: brand_pb2.AddReferenceImagesRequest, rest: AsyncIterator[brand_pb2.AddReferenceImagesRequest]
) -> AsyncIterator[bytes]:
    """Puts the pieces of pictures together, and stops at one that grows too large."""
    picture = bytearray()
    message: brand_pb2.AddReferenceImagesRequest | None = first
    index = 0
    while message is not None:
        if message.brand_id not in ("", first.brand_id):
            raise InvalidArgument("all pictures of a call go to one brand", field="brand_id")
        picture += message.data
        if message.last or len(picture) > MAX_BYTES:
            yield bytes(picture)  # one that is too large is refused by whoever takes it
            picture.clear()
            index += 1
        message = await anext(rest, None)
    if picture:
        raise InvalidArgument(
            f"the stream ended within images[{index}]; set `last` in its last piece", field=f"images[{index}]"
        )
