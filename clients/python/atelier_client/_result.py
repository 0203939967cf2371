"""A finished generation and its pictures."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_client._events import TruncatedTokens, Usage
from atelier_client._types import Dimensions, Scores

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A picture: its encoded file, checked against `sha256`, and what is known about it."""

    data: bytes = field(repr=False)
    seed: int
    sha256: str
    media_type: str
    dimensions: Dimensions
    native_dimensions: Dimensions
    scores: Scores

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.dimensions.width

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.dimensions.height

    @property
    def base64(self) -> str:
        """The encoded file as base64 text."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def extension(self) -> str:
        """The file name extension that fits, such as .png."""
        return {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}.get(self.media_type, ".bin")

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the encoded file as it is (an extension converts nothing) and returns its path."""
        target = Path(path)
        target.write_bytes(self.data)
        return target

    def to_pil(self) -> "PIL.Image.Image":
        """The decoded picture; needs Pillow (`pip install atelier-client[cli]`)."""
        try:
            import PIL.Image
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pil() needs Pillow: pip install pillow", name=error.name) from error
        with PIL.Image.open(io.BytesIO(self.data)) as picture:
            picture.load()
            return picture


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A finished generation. Scores of the result itself are those of its first picture."""

    request_id: str
    images: tuple[GeneratedImage, ...]
    model_used: str
    model_version: str
    routing_reason: str
    prompt_used: str
    negative_prompt_used: str | None
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str
    truncated_tokens: tuple[TruncatedTokens, ...]
    generation_time_ms: float
    timings_ms: Mapping[str, float]
    cached: bool
    attempts: int
    restarts: int
    reproducibility: str
    ignored_fields: tuple[str, ...]
    timestamp: datetime | None
    metadata: Mapping[str, str]
    usage: Usage | None = None
    accelerations: tuple[str, ...] = ()

    @property
    def aesthetic_score(self) -> float | None:
        """0 to 10; None when it could not be computed."""
        return self.images[0].scores.aesthetic_score

    @property
    def brand_consistency_score(self) -> float | None:
        """0 to 1; None when it could not be computed, 1.0 when `brand_reference_missing`."""
        return self.images[0].scores.brand_consistency_score

    @property
    def brand_reference_missing(self) -> bool:
        """Whether the brand score is the default pass, for want of references."""
        return self.images[0].scores.brand_reference_missing

    @property
    def prompt_alignment(self) -> float | None:
        """0 to 1; None when it could not be computed."""
        return self.images[0].scores.prompt_alignment

    @property
    def seed(self) -> int:
        """The first picture's seed."""
        return self.images[0].seed

    @property
    def dimensions(self) -> Dimensions:
        """The first picture's size."""
        return self.images[0].dimensions

    @property
    def passed(self) -> bool:
        """Whether every picture reaches its thresholds."""
        return all(image.scores.passed for image in self.images)
