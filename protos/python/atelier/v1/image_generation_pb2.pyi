from atelier.v1 import common_pb2 as _common_pb2
from atelier.v1 import health_pb2 as _health_pb2
from atelier.v1 import scoring_pb2 as _scoring_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "negative_prompt", "style", "aspect_ratio", "quality", "width", "height", "num_images", "seed", "model", "model_name", "num_inference_steps", "guidance_scale", "noise_schedule", "brand_id", "brand_consistency_check", "aesthetic_threshold", "brand_threshold", "gate", "max_attempts", "output_format", "output_quality", "preview", "cache", "priority", "reproducibility", "on_disconnect", "metadata", "request_id", "resume_after_sequence", "guidance_interval", "step_caching")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    ASPECT_RATIO_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    BRAND_ID_FIELD_NUMBER: _ClassVar[int]
    BRAND_CONSISTENCY_CHECK_FIELD_NUMBER: _ClassVar[int]
    AESTHETIC_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BRAND_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_QUALITY_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REPRODUCIBILITY_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    STEP_CACHING_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    negative_prompt: str
    style: _common_pb2.Style
    aspect_ratio: _common_pb2.AspectRatio
    quality: _common_pb2.Quality
    width: int
    height: int
    num_images: int
    seed: int
    model: _common_pb2.Model
    model_name: str
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: _common_pb2.NoiseSchedule
    brand_id: str
    brand_consistency_check: bool
    aesthetic_threshold: float
    brand_threshold: float
    gate: _common_pb2.Gate
    max_attempts: int
    output_format: _common_pb2.ImageFormat
    output_quality: int
    preview: PreviewOptions
    cache: _common_pb2.CachePolicy
    priority: _common_pb2.Priority
    reproducibility: _common_pb2.Reproducibility
    on_disconnect: _common_pb2.OnDisconnect
    metadata: _containers.ScalarMap[str, str]
    request_id: str
    resume_after_sequence: int
    guidance_interval: GuidanceInterval
    step_caching: int
    def __init__(self, prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., style: _Optional[_Union[_common_pb2.Style, str]] = ..., aspect_ratio: _Optional[_Union[_common_pb2.AspectRatio, str]] = ..., quality: _Optional[_Union[_common_pb2.Quality, str]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_images: _Optional[int] = ..., seed: _Optional[int] = ..., model: _Optional[_Union[_common_pb2.Model, str]] = ..., model_name: _Optional[str] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., noise_schedule: _Optional[_Union[_common_pb2.NoiseSchedule, str]] = ..., brand_id: _Optional[str] = ..., brand_consistency_check: bool = ..., aesthetic_threshold: _Optional[float] = ..., brand_threshold: _Optional[float] = ..., gate: _Optional[_Union[_common_pb2.Gate, str]] = ..., max_attempts: _Optional[int] = ..., output_format: _Optional[_Union[_common_pb2.ImageFormat, str]] = ..., output_quality: _Optional[int] = ..., preview: _Optional[_Union[PreviewOptions, _Mapping]] = ..., cache: _Optional[_Union[_common_pb2.CachePolicy, str]] = ..., priority: _Optional[_Union[_common_pb2.Priority, str]] = ..., reproducibility: _Optional[_Union[_common_pb2.Reproducibility, str]] = ..., on_disconnect: _Optional[_Union[_common_pb2.OnDisconnect, str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., resume_after_sequence: _Optional[int] = ..., guidance_interval: _Optional[_Union[GuidanceInterval, _Mapping]] = ..., step_caching: _Optional[int] = ...) -> None: ...

class GuidanceInterval(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: float
    end: float
    def __init__(self, start: _Optional[float] = ..., end: _Optional[float] = ...) -> None: ...

class PreviewOptions(_message.Message):
    __slots__ = ("every_n_steps", "max_side", "format")
    EVERY_N_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    every_n_steps: int
    max_side: int
    format: _common_pb2.ImageFormat
    def __init__(self, every_n_steps: _Optional[int] = ..., max_side: _Optional[int] = ..., format: _Optional[_Union[_common_pb2.ImageFormat, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("sequence", "request_id", "queued", "started", "progress", "image_chunk", "image_completed", "completed")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_CHUNK_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    request_id: str
    queued: Queued
    started: Started
    progress: Progress
    image_chunk: ImageChunk
    image_completed: ImageCompleted
    completed: Completed
    def __init__(self, sequence: _Optional[int] = ..., request_id: _Optional[str] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., image_chunk: _Optional[_Union[ImageChunk, _Mapping]] = ..., image_completed: _Optional[_Union[ImageCompleted, _Mapping]] = ..., completed: _Optional[_Union[Completed, _Mapping]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position", "estimated_wait", "estimated_completion")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_COMPLETION_FIELD_NUMBER: _ClassVar[int]
    position: int
    estimated_wait: _duration_pb2.Duration
    estimated_completion: _duration_pb2.Duration
    def __init__(self, position: _Optional[int] = ..., estimated_wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., estimated_completion: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("model", "model_version", "routing_reason", "prompt_used", "negative_prompt_used", "seeds", "dimensions", "native_dimensions", "num_inference_steps", "guidance_scale", "noise_schedule", "truncated_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_USED_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_USED_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    NATIVE_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    routing_reason: str
    prompt_used: str
    negative_prompt_used: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    dimensions: _common_pb2.Dimensions
    native_dimensions: _common_pb2.Dimensions
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str
    truncated_tokens: _containers.RepeatedCompositeFieldContainer[TruncatedTokens]
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., routing_reason: _Optional[str] = ..., prompt_used: _Optional[str] = ..., negative_prompt_used: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., dimensions: _Optional[_Union[_common_pb2.Dimensions, _Mapping]] = ..., native_dimensions: _Optional[_Union[_common_pb2.Dimensions, _Mapping]] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., noise_schedule: _Optional[str] = ..., truncated_tokens: _Optional[_Iterable[_Union[TruncatedTokens, _Mapping]]] = ...) -> None: ...

class TruncatedTokens(_message.Message):
    __slots__ = ("encoder", "prompt_tokens", "negative_prompt_tokens")
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    prompt_tokens: int
    negative_prompt_tokens: int
    def __init__(self, encoder: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., negative_prompt_tokens: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("image_index", "step", "total_steps", "estimated_remaining", "preview", "attempt")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_REMAINING_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    step: int
    total_steps: int
    estimated_remaining: _duration_pb2.Duration
    preview: Preview
    attempt: int
    def __init__(self, image_index: _Optional[int] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., estimated_remaining: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("data", "media_type", "dimensions")
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    media_type: str
    dimensions: _common_pb2.Dimensions
    def __init__(self, data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., dimensions: _Optional[_Union[_common_pb2.Dimensions, _Mapping]] = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("image_index", "offset", "total_size", "data", "last")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    offset: int
    total_size: int
    data: bytes
    last: bool
    def __init__(self, image_index: _Optional[int] = ..., offset: _Optional[int] = ..., total_size: _Optional[int] = ..., data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class ImageCompleted(_message.Message):
    __slots__ = ("image_index", "seed", "sha256", "media_type", "dimensions", "native_dimensions", "scores")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    NATIVE_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    seed: int
    sha256: str
    media_type: str
    dimensions: _common_pb2.Dimensions
    native_dimensions: _common_pb2.Dimensions
    scores: _scoring_pb2.Scores
    def __init__(self, image_index: _Optional[int] = ..., seed: _Optional[int] = ..., sha256: _Optional[str] = ..., media_type: _Optional[str] = ..., dimensions: _Optional[_Union[_common_pb2.Dimensions, _Mapping]] = ..., native_dimensions: _Optional[_Union[_common_pb2.Dimensions, _Mapping]] = ..., scores: _Optional[_Union[_scoring_pb2.Scores, _Mapping]] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("generation_time_ms", "timings_ms", "cached", "attempts", "restarts", "reproducibility", "model_used", "model_version", "ignored_fields", "timestamp", "metadata", "usage", "accelerations")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    REPRODUCIBILITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_USED_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ACCELERATIONS_FIELD_NUMBER: _ClassVar[int]
    generation_time_ms: float
    timings_ms: _containers.ScalarMap[str, float]
    cached: bool
    attempts: int
    restarts: int
    reproducibility: _common_pb2.Reproducibility
    model_used: str
    model_version: str
    ignored_fields: _containers.RepeatedScalarFieldContainer[str]
    timestamp: _timestamp_pb2.Timestamp
    metadata: _containers.ScalarMap[str, str]
    usage: Usage
    accelerations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation_time_ms: _Optional[float] = ..., timings_ms: _Optional[_Mapping[str, float]] = ..., cached: bool = ..., attempts: _Optional[int] = ..., restarts: _Optional[int] = ..., reproducibility: _Optional[_Union[_common_pb2.Reproducibility, str]] = ..., model_used: _Optional[str] = ..., model_version: _Optional[str] = ..., ignored_fields: _Optional[_Iterable[str]] = ..., timestamp: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., accelerations: _Optional[_Iterable[str]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "total_tokens", "estimated_cost_usd", "upstream_calls")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_COST_USD_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_CALLS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    total_tokens: int
    estimated_cost_usd: float
    upstream_calls: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., estimated_cost_usd: _Optional[float] = ..., upstream_calls: _Optional[int] = ...) -> None: ...
