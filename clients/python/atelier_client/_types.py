"""What comes back from a server, as immutable values. Names and meanings are those of atelier.v1's messages.

None stands for what the server left unset. Durations are seconds, times are aware datetimes in UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Size in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class NearestReference:
    """A reference picture of a brand and the cosine to it."""

    reference_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What the scorers say of a picture; None: could not be computed, `missing_reasons` says why."""

    aesthetic_score: float | None
    sub_scores: Mapping[str, float]
    aesthetic_method: str
    brand_consistency_score: float | None
    brand_reference_missing: bool
    on_brand_probability: float | None
    palette_distance: float | None
    nearest_references: tuple[NearestReference, ...]
    brand_centroid_similarity: float | None
    prompt_alignment: float | None
    aesthetic_threshold: float
    brand_threshold: float
    aesthetic_passed: bool | None
    brand_passed: bool | None
    passed: bool
    missing_reasons: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelsAvailable:
    """What can be asked for now."""

    stable_diffusion_xl: bool
    dalle_3: bool
    clip_scoring: bool
    brand_embedding: bool


@dataclass(frozen=True, slots=True)
class ModelInstance:
    """One instance of a model; memory in bytes, pid 0 when it has no process.

    `execution` is what computes, where there is a choice: torch, compiled or openvino.
    """

    model: str
    version: str
    state: str
    reason: str
    device: str
    memory_bytes: int
    device_memory_bytes: int
    queue_depth: int
    running: int
    restarts: int
    pid: int
    backend: str
    dtype: str
    execution: str


@dataclass(frozen=True, slots=True)
class Health:
    """How the server is: status healthy, degraded, critical or unhealthy. None: nothing in the window yet."""

    status: str
    reasons: tuple[str, ...]
    initialized: bool
    device: str
    models_available: ModelsAvailable
    instances: tuple[ModelInstance, ...]
    total_generations: int
    avg_generation_time_ms: float | None
    p95_generation_time_ms: float | None
    avg_aesthetic_score: float | None
    avg_brand_consistency: float | None
    slo_met: bool | None
    quality_met: bool | None
    brand_consistency_met: bool | None
    success_rate: float | None
    server_version: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the server did in its rolling window. None: nothing in the window yet."""

    total_generations: int
    cache_hit_rate: float | None
    avg_generation_time_ms: float | None
    p50_generation_time_ms: float | None
    p95_generation_time_ms: float | None
    p99_generation_time_ms: float | None
    avg_aesthetic_score: float | None
    avg_brand_consistency: float | None
    generations_by_model: Mapping[str, int]
    failed_generations: int
    success_rate: float | None
    slo_met: bool | None
    quality_met: bool | None
    brand_consistency_met: bool | None
    window_seconds: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the repository; state UNKNOWN, LOADING, READY, UNLOADING or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str
    backend: str
    instances: tuple[ModelInstance, ...]


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """A reference picture of a brand; its id is the SHA-256 of the file."""

    reference_id: str
    size_bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand; `references` is filled by brands.get only."""

    brand_id: str
    name: str
    reference_count: int
    revision: int
    created_at: datetime | None
    dispersion: float | None
    palette: tuple[str, ...]
    pending_embeddings: int
    warnings: tuple[str, ...]
    references: tuple[ReferenceImage, ...]


@dataclass(frozen=True, slots=True)
class AddedReferences:
    """What became of reference pictures that were sent."""

    brand: Brand
    added_reference_ids: tuple[str, ...]
    duplicate_reference_ids: tuple[str, ...]
