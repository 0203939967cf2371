"""What a picture's brand score is measured against: the look of the brand that was asked for, or why there is none."""

from dataclasses import dataclass

from atelier_server.brand.records import checked_brand_id
from atelier_server.errors import AtelierError, NotFound
from atelier_server.pipeline.brand_look import BrandLook, BrandLooks
from atelier_server.pipeline.criteria import Criteria

UNCHECKED = "brand_consistency_check is off"


@dataclass(frozen=True, slots=True)
class Standard:
    """What pictures are compared with: `look` None means that there is no brand to compare with, and `warnings` why.

    `reason` tells why there is no brand score, where there should be one.
    """

    look: BrandLook | None = None
    warnings: tuple[str, ...] = ()
    reason: str = ""


class Standards:
    """Finds what pictures are compared with.

    Args:
        brands: The brands.
        default_brand: The brand of requests that name none; may be empty.
    """

    def __init__(self, brands: BrandLooks, default_brand: str = "") -> None:
        self._brands = brands
        self._default_brand = default_brand

    async def of(self, criteria: Criteria) -> Standard:
        """Finds what pictures are to be compared with.

        Raises:
            InvalidArgument: The brand's id is none.
            NotFound: There is no such brand. A default brand that is missing is a warning only.
            Unavailable: The brands' database cannot be reached.
        """
        if not criteria.check_brand:
            return Standard(reason=UNCHECKED)
        brand_id = criteria.brand_id or self._default_brand
        if not brand_id:
            return Standard()
        try:
            look = await self._brands.of(checked_brand_id(brand_id))
        except NotFound as error:
            if criteria.brand_id:
                raise
            return Standard(warnings=(f"default_brand: {error.message}",))
        if not look.references:
            warning = f"brand {brand_id} has no reference pictures: every picture passes until it has some"
            return Standard(warnings=(warning,))
        if not look.embedded.reference_ids:
            return Standard(look, look.warnings, await self._why_not_embedded(brand_id))
        return Standard(look, look.warnings)

    async def or_reason(self, criteria: Criteria) -> Standard:
        """As `of`; what went wrong becomes the reason that there is no score."""
        try:
            return await self.of(criteria)
        except AtelierError as error:  # the brand went, or its database did, while the picture was made
            return Standard(reason=error.message)

    async def version(self, standard: Standard) -> str:
        """Changes when the brand scores that come of it may."""
        if standard.look is None:
            return " ".join(standard.warnings)
        record, embedder = standard.look.record, await self._brands.embedder()
        parts = (record.uid, record.revision, record.embedded_count, embedder.space if embedder else "")
        return " ".join(map(str, parts))

    async def _why_not_embedded(self, brand_id: str) -> str:
        if await self._brands.embedder() is None:
            return "no brand model is ready"
        return f"the reference pictures of brand {brand_id} are being embedded; try again soon"
