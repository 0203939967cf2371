"""What the in-process engine is asked and what it answers."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from atelier_server.types import (
    AspectRatio,
    Completed,
    Event,
    GenerateRequest,
    ImageChunk,
    ImageCompleted,
    ModelChoice,
    Quality,
    Started,
    Style,
)


@dataclass
class ImageGenerationRequest:
    """One picture to make; ranges are those of atelier.v1.GenerateRequest.

    `num_inference_steps` None takes the model's own default. `metadata` comes back in the result.
    """

    prompt: str
    negative_prompt: str | None = None
    style: Style = Style.PROFESSIONAL
    aspect_ratio: AspectRatio = AspectRatio.SQUARE
    quality: Quality = Quality.HD
    brand_consistency_check: bool = True
    seed: int | None = None
    model: ModelChoice | None = None
    num_inference_steps: int | None = 50
    guidance_scale: float = 7.5
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class ImageGenerationResult:
    """A finished picture. `image_url` stays None: pictures are bytes here, wherever they were made.

    `aesthetic_score` is 0 to 10 and `brand_consistency_score` 0 to 1; 0.0 where a score could not be computed, and
    `metadata["missing_scores"]` then says why.
    """

    image_data: bytes | None = None
    image_base64: str | None = None
    image_url: str | None = None
    prompt_used: str = ""
    negative_prompt_used: str | None = None
    model_used: str = ""
    generation_time_ms: float = 0.0
    aesthetic_score: float = 0.0
    brand_consistency_score: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    seed_used: int | None = None
    dimensions: tuple[int, int] = (1024, 1024)

    def save_to_file(self, path: str | Path) -> None:
        """Writes the encoded picture.

        Raises:
            ValueError: There is no picture.
        """
        Path(path).write_bytes(self._data())

    def to_pil(self) -> Image.Image:
        """The picture, decoded.

        Raises:
            ValueError: There is no picture.
        """
        image = Image.open(io.BytesIO(self._data()))
        image.load()
        return image

    def _data(self) -> bytes:
        if self.image_data is None:
            raise ValueError("this result has no picture")
        return self.image_data


def to_domain(request: ImageGenerationRequest) -> GenerateRequest:
    """The pipeline's request. Enum fields may be given as their words."""
    return GenerateRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        style=Style(request.style),
        aspect_ratio=AspectRatio(request.aspect_ratio),
        quality=Quality(request.quality),
        brand_consistency_check=request.brand_consistency_check,
        seed=request.seed,
        model=ModelChoice(request.model) if request.model is not None else ModelChoice.AUTO,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        metadata={str(key): str(value) for key, value in request.metadata.items()},
    )


def to_result(events: Sequence[Event], metadata: Mapping[str, Any]) -> ImageGenerationResult:
    """Puts the events of a finished generation of one picture together; `metadata` is the request's own."""
    result = ImageGenerationResult(metadata=dict(metadata))
    pieces: list[bytes] = []
    for event in events:
        match event:
            case Started():
                result.prompt_used = event.prompt_used
                result.negative_prompt_used = event.negative_prompt_used
            case ImageChunk():
                pieces.append(event.data)
            case ImageCompleted():
                _take_picture(result, event)
            case Completed():
                result.model_used = event.model_used
                result.generation_time_ms = event.generation_time_ms
                result.timestamp = datetime.fromtimestamp(event.timestamp, UTC)
    result.image_data = b"".join(pieces)
    result.image_base64 = base64.b64encode(result.image_data).decode("ascii")
    return result


def _take_picture(result: ImageGenerationResult, event: ImageCompleted) -> None:
    result.seed_used = event.seed
    result.dimensions = (event.dimensions.width, event.dimensions.height)
    result.aesthetic_score = event.scores.aesthetic_score or 0.0
    result.brand_consistency_score = event.scores.brand_consistency_score or 0.0
    if event.scores.missing_reasons:
        result.metadata["missing_scores"] = dict(event.scores.missing_reasons)
    if event.scores.brand_reference_missing:
        result.metadata["brand_reference_missing"] = True
