from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("status", "reasons", "initialized", "device", "models_available", "instances", "total_generations", "avg_generation_time_ms", "p95_generation_time_ms", "avg_aesthetic_score", "avg_brand_consistency", "slo_met", "quality_met", "brand_consistency_met", "success_rate", "server_version")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    INITIALIZED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    AVG_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    P95_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AVG_AESTHETIC_SCORE_FIELD_NUMBER: _ClassVar[int]
    AVG_BRAND_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SLO_MET_FIELD_NUMBER: _ClassVar[int]
    QUALITY_MET_FIELD_NUMBER: _ClassVar[int]
    BRAND_CONSISTENCY_MET_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    status: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    initialized: bool
    device: str
    models_available: ModelsAvailable
    instances: _containers.RepeatedCompositeFieldContainer[ModelInstance]
    total_generations: int
    avg_generation_time_ms: float
    p95_generation_time_ms: float
    avg_aesthetic_score: float
    avg_brand_consistency: float
    slo_met: bool
    quality_met: bool
    brand_consistency_met: bool
    success_rate: float
    server_version: str
    def __init__(self, status: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., initialized: bool = ..., device: _Optional[str] = ..., models_available: _Optional[_Union[ModelsAvailable, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[ModelInstance, _Mapping]]] = ..., total_generations: _Optional[int] = ..., avg_generation_time_ms: _Optional[float] = ..., p95_generation_time_ms: _Optional[float] = ..., avg_aesthetic_score: _Optional[float] = ..., avg_brand_consistency: _Optional[float] = ..., slo_met: bool = ..., quality_met: bool = ..., brand_consistency_met: bool = ..., success_rate: _Optional[float] = ..., server_version: _Optional[str] = ...) -> None: ...

class ModelsAvailable(_message.Message):
    __slots__ = ("stable_diffusion_xl", "dalle_3", "clip_scoring", "brand_embedding")
    STABLE_DIFFUSION_XL_FIELD_NUMBER: _ClassVar[int]
    DALLE_3_FIELD_NUMBER: _ClassVar[int]
    CLIP_SCORING_FIELD_NUMBER: _ClassVar[int]
    BRAND_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    stable_diffusion_xl: bool
    dalle_3: bool
    clip_scoring: bool
    brand_embedding: bool
    def __init__(self, stable_diffusion_xl: bool = ..., dalle_3: bool = ..., clip_scoring: bool = ..., brand_embedding: bool = ...) -> None: ...

class ModelInstance(_message.Message):
    __slots__ = ("model", "version", "state", "reason", "device", "memory_bytes", "device_memory_bytes", "queue_depth", "running", "restarts", "pid", "backend", "dtype", "execution")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
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
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., device: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., device_memory_bytes: _Optional[int] = ..., queue_depth: _Optional[int] = ..., running: _Optional[int] = ..., restarts: _Optional[int] = ..., pid: _Optional[int] = ..., backend: _Optional[str] = ..., dtype: _Optional[str] = ..., execution: _Optional[str] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("total_generations", "cache_hit_rate", "avg_generation_time_ms", "p50_generation_time_ms", "p95_generation_time_ms", "p99_generation_time_ms", "avg_aesthetic_score", "avg_brand_consistency", "generations_by_model", "failed_generations", "success_rate", "slo_met", "quality_met", "brand_consistency_met", "window_seconds")
    class GenerationsByModelEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TOTAL_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    CACHE_HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    AVG_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    P50_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    P95_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    P99_GENERATION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AVG_AESTHETIC_SCORE_FIELD_NUMBER: _ClassVar[int]
    AVG_BRAND_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_BY_MODEL_FIELD_NUMBER: _ClassVar[int]
    FAILED_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    SLO_MET_FIELD_NUMBER: _ClassVar[int]
    QUALITY_MET_FIELD_NUMBER: _ClassVar[int]
    BRAND_CONSISTENCY_MET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    total_generations: int
    cache_hit_rate: float
    avg_generation_time_ms: float
    p50_generation_time_ms: float
    p95_generation_time_ms: float
    p99_generation_time_ms: float
    avg_aesthetic_score: float
    avg_brand_consistency: float
    generations_by_model: _containers.ScalarMap[str, int]
    failed_generations: int
    success_rate: float
    slo_met: bool
    quality_met: bool
    brand_consistency_met: bool
    window_seconds: float
    def __init__(self, total_generations: _Optional[int] = ..., cache_hit_rate: _Optional[float] = ..., avg_generation_time_ms: _Optional[float] = ..., p50_generation_time_ms: _Optional[float] = ..., p95_generation_time_ms: _Optional[float] = ..., p99_generation_time_ms: _Optional[float] = ..., avg_aesthetic_score: _Optional[float] = ..., avg_brand_consistency: _Optional[float] = ..., generations_by_model: _Optional[_Mapping[str, int]] = ..., failed_generations: _Optional[int] = ..., success_rate: _Optional[float] = ..., slo_met: bool = ..., quality_met: bool = ..., brand_consistency_met: bool = ..., window_seconds: _Optional[float] = ...) -> None: ...
