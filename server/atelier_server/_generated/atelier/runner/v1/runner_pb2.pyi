from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("state", "reason", "device", "dtype", "memory_bytes", "device_memory_bytes", "waiting", "running", "facts", "counters", "warnings", "histograms", "execution")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class HistogramsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Histogram
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAMS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    state: str
    reason: str
    device: str
    dtype: str
    memory_bytes: int
    device_memory_bytes: int
    waiting: int
    running: int
    facts: _containers.ScalarMap[str, float]
    counters: _containers.ScalarMap[str, int]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    histograms: _containers.MessageMap[str, Histogram]
    execution: str
    def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., device_memory_bytes: _Optional[int] = ..., waiting: _Optional[int] = ..., running: _Optional[int] = ..., facts: _Optional[_Mapping[str, float]] = ..., counters: _Optional[_Mapping[str, int]] = ..., warnings: _Optional[_Iterable[str]] = ..., histograms: _Optional[_Mapping[str, Histogram]] = ..., execution: _Optional[str] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("edges", "counts", "sum")
    EDGES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum: float
    def __init__(self, edges: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., sum: _Optional[float] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("request_id", "traceparent", "tracestate")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    traceparent: str
    tracestate: str
    def __init__(self, request_id: _Optional[str] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class DiffuseRequest(_message.Message):
    __slots__ = ("job_id", "prompt", "negative_prompt", "seeds", "width", "height", "num_inference_steps", "guidance_scale", "noise_schedule", "exact", "priority", "preview_every", "timeout_seconds", "refine_width", "refine_height", "quality", "style", "client", "client_share", "origin", "objective_seconds", "guidance_start", "guidance_end", "step_caching")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REFINE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    REFINE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SHARE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_END_FIELD_NUMBER: _ClassVar[int]
    STEP_CACHING_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    prompt: str
    negative_prompt: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str
    exact: bool
    priority: int
    preview_every: int
    timeout_seconds: float
    refine_width: int
    refine_height: int
    quality: str
    style: str
    client: str
    client_share: float
    origin: Origin
    objective_seconds: float
    guidance_start: float
    guidance_end: float
    step_caching: int
    def __init__(self, job_id: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., noise_schedule: _Optional[str] = ..., exact: bool = ..., priority: _Optional[int] = ..., preview_every: _Optional[int] = ..., timeout_seconds: _Optional[float] = ..., refine_width: _Optional[int] = ..., refine_height: _Optional[int] = ..., quality: _Optional[str] = ..., style: _Optional[str] = ..., client: _Optional[str] = ..., client_share: _Optional[float] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ..., objective_seconds: _Optional[float] = ..., guidance_start: _Optional[float] = ..., guidance_end: _Optional[float] = ..., step_caching: _Optional[int] = ...) -> None: ...

class DiffuseResponse(_message.Message):
    __slots__ = ("queued", "started", "step", "image", "done")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    queued: JobQueued
    started: JobStarted
    step: JobStep
    image: JobImage
    done: JobDone
    def __init__(self, queued: _Optional[_Union[JobQueued, _Mapping]] = ..., started: _Optional[_Union[JobStarted, _Mapping]] = ..., step: _Optional[_Union[JobStep, _Mapping]] = ..., image: _Optional[_Union[JobImage, _Mapping]] = ..., done: _Optional[_Union[JobDone, _Mapping]] = ...) -> None: ...

class JobQueued(_message.Message):
    __slots__ = ("position", "estimated_wait_seconds", "estimated_total_seconds")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    position: int
    estimated_wait_seconds: float
    estimated_total_seconds: float
    def __init__(self, position: _Optional[int] = ..., estimated_wait_seconds: _Optional[float] = ..., estimated_total_seconds: _Optional[float] = ...) -> None: ...

class JobStarted(_message.Message):
    __slots__ = ("noise_schedule", "truncated", "accelerations")
    NOISE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    ACCELERATIONS_FIELD_NUMBER: _ClassVar[int]
    noise_schedule: str
    truncated: _containers.RepeatedCompositeFieldContainer[TokenCut]
    accelerations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, noise_schedule: _Optional[str] = ..., truncated: _Optional[_Iterable[_Union[TokenCut, _Mapping]]] = ..., accelerations: _Optional[_Iterable[str]] = ...) -> None: ...

class TokenCut(_message.Message):
    __slots__ = ("encoder", "prompt_tokens", "negative_prompt_tokens")
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    prompt_tokens: int
    negative_prompt_tokens: int
    def __init__(self, encoder: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., negative_prompt_tokens: _Optional[int] = ...) -> None: ...

class JobStep(_message.Message):
    __slots__ = ("image_index", "step", "total_steps", "estimated_remaining_seconds", "preview")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    step: int
    total_steps: int
    estimated_remaining_seconds: float
    preview: RawImage
    def __init__(self, image_index: _Optional[int] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., estimated_remaining_seconds: _Optional[float] = ..., preview: _Optional[_Union[RawImage, _Mapping]] = ...) -> None: ...

class JobImage(_message.Message):
    __slots__ = ("image_index", "image")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    image: RawImage
    def __init__(self, image_index: _Optional[int] = ..., image: _Optional[_Union[RawImage, _Mapping]] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("width", "height", "pixels")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    pixels: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class JobDone(_message.Message):
    __slots__ = ("timings_ms", "exact")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    timings_ms: _containers.ScalarMap[str, float]
    exact: bool
    def __init__(self, timings_ms: _Optional[_Mapping[str, float]] = ..., exact: bool = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("inputs", "outputs", "timeout_seconds", "origin", "priority")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    timeout_seconds: float
    origin: Origin
    priority: int
    def __init__(self, inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ..., timeout_seconds: _Optional[float] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("outputs", "times")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    times: BatchTimes
    def __init__(self, outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., times: _Optional[_Union[BatchTimes, _Mapping]] = ...) -> None: ...

class BatchTimes(_message.Message):
    __slots__ = ("queue_ns", "input_ns", "infer_ns", "output_ns", "rows", "leads")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    INPUT_NS_FIELD_NUMBER: _ClassVar[int]
    INFER_NS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LEADS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    rows: int
    leads: bool
    def __init__(self, queue_ns: _Optional[int] = ..., input_ns: _Optional[int] = ..., infer_ns: _Optional[int] = ..., output_ns: _Optional[int] = ..., rows: _Optional[int] = ..., leads: bool = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...
