"""Score stage: what the scorers say of a picture. A scorer that is missing or fails never loses the picture."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from PIL import Image

from atelier_server.backends.base import Tensor
from atelier_server.brand.palette import Swatch, picture_swatches
from atelier_server.errors import AtelierError, Unavailable
from atelier_server.pipeline.brand_embedder import Embedder
from atelier_server.pipeline.brand_look import BrandLook, BrandLooks, BrandVerdict
from atelier_server.pipeline.clip_scorer import Clip, ClipScorer, ClipScores
from atelier_server.pipeline.criteria import Criteria, of_generation
from atelier_server.pipeline.standard import Standard, Standards
from atelier_server.pipeline.verdict import assembled, without_scores
from atelier_server.scoring.preprocess import PixelFormat, pixel_values
from atelier_server.telemetry.tracing import span
from atelier_server.types import Gate, GenerateRequest, Scores

PATIENCE_SECONDS = 60.0
"""A generated picture leaves without scores when the scorers need longer than this."""

ADMISSION_SECONDS = 5.0
"""A call hears nothing before it is admitted: so long at most does it wait for a database, or for a brand model that is
being started again."""

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """Judges one picture by the thresholds, prompt and brand of a request."""

    async def admit(self, request: GenerateRequest) -> str:
        """Refuses a request that could not be judged as it asks.

        Returns:
            A text that changes when the scores of the request's pictures may.

        Raises:
            NotFound: Its brand is not there.
            Unavailable: Its gate needs a scorer that is not ready.
        """

    async def score(self, image: Image.Image, request: GenerateRequest) -> Scores:
        """Returns what could be said; never raises but for cancellation."""


@dataclass(frozen=True, slots=True)
class _Views:
    """What the models and the palette see of a picture."""

    clip: Tensor | None
    brand: Tensor | None
    swatches: tuple[Swatch, ...]


class ModelScorer:
    """Scores with the CLIP and the brand model that are ready.

    Args:
        clips: The CLIP.
        brands: The brands.
        pool: Threads for decoding and preprocessing.
        default_brand: The brand of requests that name none; may be empty.
    """

    def __init__(self, clips: ClipScorer, brands: BrandLooks, pool: ThreadPool, default_brand: str = "") -> None:
        self.standards = Standards(brands, default_brand)
        self._clips = clips
        self._brands = brands
        self._pool = pool

    async def admit(self, request: GenerateRequest) -> str:
        """See Scorer."""
        enforced = request.gate is Gate.ENFORCE
        if enforced and not self._clips.is_ready:
            raise scorer_missing("no CLIP model is ready")
        try:
            async with asyncio.timeout(ADMISSION_SECONDS):
                standard = await self.standards.of(of_generation(request))
                version = await self.standards.version(standard)
        except (Unavailable, TimeoutError) as error:
            if enforced:
                reason = error.message if isinstance(error, Unavailable) else "the brand cannot be looked up now"
                raise scorer_missing(reason) from error
            return uuid4().hex  # the brand is unknown now; what comes of this is nobody else's
        if enforced and standard.reason and request.brand_consistency_check:
            raise scorer_missing(standard.reason)
        return f"{self._clips.version()} {version}"

    async def score(self, image: Image.Image, request: GenerateRequest) -> Scores:
        """See Scorer."""
        criteria = of_generation(request)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.judge(lambda: image, criteria, await self.standards.or_reason(criteria))
        except TimeoutError:
            reason = f"the scorers did not answer within {PATIENCE_SECONDS:g} seconds"
        except Exception:  # whatever it is, the picture is worth more than its scores
            logger.exception("a picture could not be scored")
            reason = "the scorers failed; the server's log has the reason"
        return without_scores(criteria, reason)

    async def judge(self, source: Callable[[], Image.Image], criteria: Criteria, standard: Standard) -> Scores:
        """Scores a picture.

        Args:
            source: Gives the picture in RGB; called in a thread.
            criteria: What to judge by.
            standard: What its brand score is measured against.

        Raises:
            AtelierError: What `source` raises; failing scorers are told in the scores.
        """
        clip, clip_reason = await self._clip()
        compared = standard.look is not None and not standard.reason
        embedder = await self._brands.embedder() if compared else None
        wanted = (clip.calibration if clip else None, embedder.preprocessing if embedder else None)
        with_palette = standard.look is not None
        loop = asyncio.get_running_loop()
        views = await loop.run_in_executor(self._pool, lambda: _views(source(), *wanted, with_palette))
        (judged, clip_failure), (verdict, brand_failure) = await asyncio.gather(
            _judged(clip, views.clip, criteria.prompt), _compared(embedder, views.brand, standard.look)
        )
        return assembled(
            judged, verdict, standard, views.swatches, criteria, clip_reason or clip_failure, brand_failure
        )

    async def _clip(self) -> tuple[Clip | None, str]:
        try:
            return await self._clips.current(), ""
        except AtelierError as error:
            return None, error.message


def scorer_missing(reason: str) -> Unavailable:
    """The answer to ENFORCE without a scorer."""
    return Unavailable(
        f"the gate cannot judge: {reason}", reason="SCORER_MISSING", field="gate", retry_after_seconds=5.0
    )


def _views(image: Image.Image, clip: PixelFormat | None, brand: PixelFormat | None, with_palette: bool) -> _Views:
    return _Views(
        pixel_values(image, clip) if clip else None,
        pixel_values(image, brand) if brand else None,
        picture_swatches(image) if with_palette else (),
    )


async def _judged(clip: Clip | None, values: Tensor | None, prompt: str | None) -> tuple[ClipScores | None, str]:
    if clip is None or values is None:
        return None, ""
    try:
        with span("clip"):
            return await clip.judge(values, prompt), ""
    except AtelierError as error:
        return None, error.message


async def _compared(
    embedder: Embedder | None, values: Tensor | None, look: BrandLook | None
) -> tuple[BrandVerdict | None, str]:
    if embedder is None or values is None or look is None:
        return None, "no brand model is ready"
    if embedder.space != look.space:
        return None, "the brand model was replaced just now; try again"
    try:
        with span("brand"):
            return look.judge(await embedder.embed(values)), ""
    except AtelierError as error:
        return None, error.message
