"""What a picture is judged by."""

import math
from dataclasses import dataclass

from atelier_server.errors import InvalidArgument
from atelier_server.types import GenerateRequest, ScoreRequest

MAX_PICTURES = 64
MAX_PROMPT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Criteria:
    """`prompt` None: no alignment; `brand_id` empty: the default brand; thresholds as in Scores."""

    prompt: str | None
    brand_id: str
    check_brand: bool
    aesthetic_threshold: float
    brand_threshold: float


def of_generation(request: GenerateRequest) -> Criteria:
    """A picture is judged by what was asked for it."""
    return Criteria(
        request.prompt,
        request.brand_id,
        request.brand_consistency_check,
        request.aesthetic_threshold,
        request.brand_threshold,
    )


def of_score_request(request: ScoreRequest) -> Criteria:
    """Checks the fields beside the pictures.

    Raises:
        InvalidArgument: One is out of its range.
    """
    if not 1 <= len(request.images) <= MAX_PICTURES:
        raise InvalidArgument(f"images: send 1 to {MAX_PICTURES}, not {len(request.images)}", field="images")
    if request.prompt is not None and not 1 <= len(request.prompt) <= MAX_PROMPT_CHARACTERS:
        raise InvalidArgument(f"prompt: 1 to {MAX_PROMPT_CHARACTERS} characters, or leave it out", field="prompt")
    _check_range("aesthetic_threshold", request.aesthetic_threshold, 10.0)
    _check_range("brand_threshold", request.brand_threshold, 1.0)
    return Criteria(request.prompt, request.brand_id, True, request.aesthetic_threshold, request.brand_threshold)


def _check_range(field: str, value: float, highest: float) -> None:
    if not math.isfinite(value) or not 0.0 <= value <= highest:
        raise InvalidArgument(f"{field} goes from 0 to {highest:g}, not {value}", field=field)
