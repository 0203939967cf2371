"""The events of a generation, one a message. `sequence` counts from 1; a gap means dropped Progress events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from atelier_client._types import Dimensions, Scores


@dataclass(frozen=True, slots=True)
class _Numbered:
    sequence: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Queued(_Numbered):
    """The call is accepted and waits behind `position` others."""

    position: int
    estimated_wait_seconds: float | None
    estimated_completion_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TruncatedTokens:
    """Tokens that a text encoder could not read."""

    encoder: str
    prompt_tokens: int
    negative_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Started(_Numbered):
    """The call is being computed, with everything that was decided for it."""

    model: str
    model_version: str
    routing_reason: str
    prompt_used: str
    negative_prompt_used: str | None
    seeds: tuple[int, ...]
    dimensions: Dimensions
    native_dimensions: Dimensions
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str
    truncated_tokens: tuple[TruncatedTokens, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A small encoded picture of the unfinished work."""

    data: bytes
    media_type: str
    dimensions: Dimensions


@dataclass(frozen=True, slots=True)
class Progress(_Numbered):
    """A denoising step is done. `step` starts over when the call had to be run again."""

    image_index: int
    step: int
    total_steps: int
    estimated_remaining_seconds: float | None
    preview: Preview | None
    attempt: int


@dataclass(frozen=True, slots=True)
class ImageChunk(_Numbered):
    """A piece of an encoded picture. Pieces of one picture come in order."""

    image_index: int
    offset: int
    total_size: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class ImageCompleted(_Numbered):
    """All pieces of a picture were sent."""

    image_index: int
    seed: int
    sha256: str
    media_type: str
    dimensions: Dimensions
    native_dimensions: Dimensions
    scores: Scores


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used of a service that is paid for; the cost in US dollars is the server's estimate."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    estimated_cost_usd: float
    upstream_calls: int


@dataclass(frozen=True, slots=True)
class Completed(_Numbered):
    """The last event of a generation that succeeded."""

    generation_time_ms: float
    timings_ms: Mapping[str, float]
    cached: bool
    attempts: int
    restarts: int
    reproducibility: str
    model_used: str
    model_version: str
    ignored_fields: tuple[str, ...]
    timestamp: datetime | None
    metadata: Mapping[str, str]
    usage: Usage | None = None
    accelerations: tuple[str, ...] = ()


Event = Queued | Started | Progress | ImageChunk | ImageCompleted | Completed
