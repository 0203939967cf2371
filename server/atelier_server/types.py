"""The domain's words: what is asked, what happens, what comes out. No gRPC, no torch.

A request is immutable; None means that the caller left a field out. Stages of the pipeline resolve it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Style(StrEnum):
    """A look: words added to both prompts."""

    NONE = "none"
    LUXURY = "luxury"
    CASUAL = "casual"
    MINIMALIST = "minimalist"
    BOLD = "bold"
    ELEGANT = "elegant"
    MODERN = "modern"
    VINTAGE = "vintage"
    PROFESSIONAL = "professional"


class Quality(StrEnum):
    """The base size."""

    STANDARD = "standard"
    HD = "hd"
    ULTRA_HD = "ultra_hd"


class AspectRatio(StrEnum):
    """The shape, width to height."""

    SQUARE = "square"
    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    ULTRA_WIDE = "ultra_wide"
    INSTAGRAM = "instagram"
    TWITTER = "twitter"


class ModelChoice(StrEnum):
    """A kind of model."""

    AUTO = "auto"
    STABLE_DIFFUSION_XL = "stable_diffusion_xl"
    DALL_E_3 = "dall_e_3"


class NoiseSchedule(StrEnum):
    """How noise is removed."""

    EULER = "euler"
    EULER_ANCESTRAL = "euler_ancestral"
    DDIM = "ddim"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_2M_KARRAS = "dpmpp_2m_karras"
    UNIPC = "unipc"
    LCM = "lcm"


class Gate(StrEnum):
    """What happens to pictures that miss a threshold."""

    REPORT = "report"
    RETRY = "retry"
    ENFORCE = "enforce"


class ImageFormat(StrEnum):
    """A picture's file format."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """Such as image/png."""
        return f"image/{self.value}"


class CachePolicy(StrEnum):
    """Whether an earlier answer may be given."""

    USE = "use"
    REUSE = "reuse"
    BYPASS = "bypass"


class Priority(StrEnum):
    """Which call goes first when calls wait."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def weight(self) -> int:
        """Higher goes first."""
        return {Priority.LOW: -1, Priority.NORMAL: 0, Priority.HIGH: 1}[self]


class Reproducibility(StrEnum):
    """Whether bytes may depend on what else is running."""

    BATCHED = "batched"
    EXACT = "exact"


class OnDisconnect(StrEnum):
    """What happens to the work when its stream is dropped."""

    CANCEL = "cancel"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Size in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """Small pictures of the unfinished work: every so many steps, 0 for none; the longest side in pixels."""

    every_n_steps: int = 0
    max_side: int = 256
    format: ImageFormat = ImageFormat.JPEG


@dataclass(frozen=True, slots=True)
class GuidanceInterval:
    """Shares of the denoising steps, 0 to 1: those from `start` on until `end` have guidance."""

    start: float = 0.0
    end: float = 1.0


DEFAULT_STEPS = 50
"""Of models that have no number of their own."""
DEFAULT_GUIDANCE_SCALE = 7.5


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to make; ranges and defaults are those of atelier.v1.GenerateRequest.

    Two fields are not the public message's: `model_version` "" is the newest, and `score` False leaves the scorers out.
    """

    prompt: str
    negative_prompt: str | None = None
    style: Style = Style.PROFESSIONAL
    aspect_ratio: AspectRatio = AspectRatio.SQUARE
    quality: Quality = Quality.HD
    width: int | None = None
    height: int | None = None
    num_images: int = 1
    seed: int | None = None
    model: ModelChoice = ModelChoice.AUTO
    model_name: str = ""
    model_version: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    noise_schedule: NoiseSchedule | None = None
    brand_id: str = ""
    brand_consistency_check: bool = True
    aesthetic_threshold: float = 7.5
    brand_threshold: float = 0.85
    gate: Gate = Gate.REPORT
    max_attempts: int = 3
    output_format: ImageFormat = ImageFormat.PNG
    output_quality: int = 92
    preview: PreviewOptions = PreviewOptions()
    cache: CachePolicy = CachePolicy.USE
    priority: Priority = Priority.NORMAL
    reproducibility: Reproducibility = Reproducibility.BATCHED
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    resume_after_sequence: int = 0
    guidance_interval: GuidanceInterval | None = None
    step_caching: int | None = None
    score: bool = True


@dataclass(frozen=True, slots=True)
class TruncatedTokens:
    """Tokens that a text encoder could not read."""

    encoder: str
    prompt_tokens: int
    negative_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class NearestReference:
    """A reference picture of a brand and the cosine to it."""

    reference_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Encoded pictures to judge by one prompt and brand; ranges and defaults are those of atelier.v1.ScoreRequest."""

    images: tuple[bytes, ...]
    prompt: str | None = None
    brand_id: str = ""
    aesthetic_threshold: float = 7.5
    brand_threshold: float = 0.85


@dataclass(frozen=True, slots=True)
class Scores:
    """What the scorers say of a picture; None: could not be computed, `missing_reasons` says why."""

    aesthetic_score: float | None = None
    sub_scores: Mapping[str, float] = field(default_factory=dict)
    aesthetic_method: str = ""
    brand_consistency_score: float | None = None
    brand_reference_missing: bool = False
    on_brand_probability: float | None = None
    palette_distance: float | None = None
    nearest_references: tuple[NearestReference, ...] = ()
    brand_centroid_similarity: float | None = None
    prompt_alignment: float | None = None
    aesthetic_threshold: float = 7.5
    brand_threshold: float = 0.85
    missing_reasons: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def aesthetic_passed(self) -> bool | None:
        """Whether the aesthetic score reaches its threshold; None without a score."""
        return None if self.aesthetic_score is None else self.aesthetic_score >= self.aesthetic_threshold

    @property
    def brand_passed(self) -> bool | None:
        """Whether the brand consistency reaches its threshold; None without a score."""
        return None if self.brand_consistency_score is None else self.brand_consistency_score >= self.brand_threshold

    @property
    def passed(self) -> bool:
        """Whether every score that exists reaches its threshold."""
        return self.aesthetic_passed is not False and self.brand_passed is not False


@dataclass(frozen=True, slots=True)
class Queued:
    """The call is accepted and waits; seconds until its first step, and until the model has made its last picture."""

    position: int
    estimated_wait_seconds: float | None = None
    estimated_completion_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
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
    truncated_tokens: tuple[TruncatedTokens, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """A small encoded picture."""

    data: bytes
    media_type: str
    dimensions: Dimensions


@dataclass(frozen=True, slots=True)
class Progress:
    """A denoising step is done."""

    image_index: int
    step: int
    total_steps: int
    estimated_remaining_seconds: float | None = None
    preview: Preview | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """A piece of an encoded picture."""

    image_index: int
    offset: int
    total_size: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class ImageCompleted:
    """All pieces of a picture are sent."""

    image_index: int
    seed: int
    sha256: str
    media_type: str
    dimensions: Dimensions
    native_dimensions: Dimensions
    scores: Scores


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used of a service that is paid for; the cost in US dollars is an estimate by configured prices."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    estimated_cost_usd: float = 0.0
    upstream_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            self.estimated_cost_usd + other.estimated_cost_usd,
            self.upstream_calls + other.upstream_calls,
        )


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event; `timestamp` is seconds since the epoch."""

    generation_time_ms: float
    timings_ms: Mapping[str, float]
    cached: bool
    attempts: int
    restarts: int
    reproducibility: Reproducibility
    model_used: str
    model_version: str
    ignored_fields: tuple[str, ...]
    timestamp: float
    metadata: Mapping[str, str]
    usage: Usage | None = None
    accelerations: tuple[str, ...] = ()


Event = Queued | Started | Progress | ImageChunk | ImageCompleted | Completed
