"""What a backend is: code for a kind of model, driven by the engine thread of its runner.

A backend never sees gRPC, asyncio or another process. The engine thread alone calls it, so it needs no locks:

    load → (submit | abort | step)… → close

Only `admit` is called beside it, by the threads of callers.

`step` does one bounded unit of work (one UNet step of a batch, one VAE decode, one ONNX batch), so that new work is
admitted and cancelled work leaves between two units. Results go out through `Job.publish`, which any thread may call.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atelier_server.errors import AtelierError
from atelier_server.telemetry.histogram import Spread
from atelier_server.telemetry.origin import NO_ORIGIN, Origin
from atelier_server.telemetry.tracing import NO_JOB_SPANS, JobSpans
from atelier_server.types import TruncatedTokens, Usage

Pixels = NDArray[np.uint8]
"""A picture: uint8 [height, width, 3], RGB."""

Tensor = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class DiffusionTask:
    """Pictures to make at the model's own size; everything is resolved, nothing is optional in disguise.

    `negative_prompt` None means zero embeddings; `noise_schedule` "" means the checkpoint's own;
    `timeout_seconds` 0 means no limit; `refine_width` 0 means no second pass. `quality` and `style` are the request's
    words, for models that have such settings; the prompt holds their modifiers already. Steps from
    the share `guidance_start` to `guidance_end` have guidance; every `step_caching`-th step is computed, with 0 all.
    `client` names whose call it is: names share the model's time evenly, or by `client_share` where it is not 1.
    `origin` is the call, for the log. `objective_seconds` is within what time the operator wants it to be done, or else
    refused; 0: no matter.
    """

    job_id: str
    prompt: str
    negative_prompt: str | None
    seeds: tuple[int, ...]
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str = ""
    exact: bool = False
    priority: int = 0
    preview_every: int = 0
    timeout_seconds: float = 0.0
    refine_width: int = 0
    refine_height: int = 0
    quality: str = ""
    style: str = ""
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    step_caching: int = 0
    client: str = ""
    client_share: float = 1.0
    objective_seconds: float = 0.0
    origin: Origin = NO_ORIGIN


@dataclass(frozen=True, slots=True)
class TensorTask:
    """Tensors to run through a model once; `outputs` () means all, `priority` 0 the model's default (1 goes first)."""

    job_id: str
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...] = ()
    timeout_seconds: float = 0.0
    origin: Origin = NO_ORIGIN
    priority: int = 0


@dataclass(frozen=True, slots=True)
class JobQueued:
    """The job waits; seconds until its first step, and until its last picture (0: not known)."""

    position: int
    estimated_wait_seconds: float
    estimated_total_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The job's first step is next; `width` and `height` tell a size other than the task's, 0 the task's.

    `accelerations` names what was asked for of GenerateRequest's lossy accelerations and takes effect.
    """

    noise_schedule: str
    truncated: tuple[TruncatedTokens, ...] = ()
    width: int = 0
    height: int = 0
    accelerations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobStep:
    """A step of one picture is done; `rows` counts those of its whole batch, 0 where nobody knows."""

    image_index: int
    step: int
    total_steps: int
    estimated_remaining_seconds: float
    preview: Pixels | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class JobImage:
    """A picture is decoded."""

    image_index: int
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class JobDone:
    """The job is done; the last event of a diffusion job. `model_used` names a service's model that answered."""

    timings_ms: Mapping[str, float]
    exact: bool
    model_used: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What an execution cost that one or more jobs shared, in nanoseconds; `queue_ns` is the job's own waiting.

    `rows` counts the whole batch, 0 where nothing was measured; exactly one of its jobs `leads`, so that executions can
    be counted.
    """

    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    rows: int = 0
    leads: bool = True


@dataclass(frozen=True, slots=True)
class JobTensors:
    """The outputs and what they cost; the only event of a tensor job."""

    outputs: Mapping[str, Tensor]
    times: BatchTimes = BatchTimes()


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job failed; the last event."""

    error: AtelierError


JobEvent = JobQueued | JobStarted | JobStep | JobImage | JobDone | JobTensors | JobFailed


@dataclass(frozen=True, slots=True)
class Job:
    """A task and the way its events leave. `arrived` is time.monotonic() at the runner.

    `spans` is its trace. The engine follows the events that are published; a backend adds the stages that it alone
    knows of: `with job.spans.stage("encode_text"): …`.
    """

    task: DiffusionTask | TensorTask
    publish: Callable[[JobEvent], None]
    arrived: float
    spans: JobSpans = NO_JOB_SPANS

    @property
    def job_id(self) -> str:
        """Unique in the process."""
        return self.task.job_id


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a backend is told about its model: `parameters` are those of config.pbtxt, `settings` the server's.

    `folder` is the version's folder; `config` is config.pbtxt as JSON-like plain data (Triton's field names).
    `derived_folder` is where a backend may keep what it made of the weights, for its next start; empty: nowhere.
    `compile` is auto, on or off, over the model's own parameter; empty: that holds.
    """

    name: str
    version: str
    folder: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    derived_folder: str = ""
    compile: str = ""


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """How a backend is: where and in what it computes, its load, and what it knows of itself.

    `facts` are numbers that the pipeline plans with (a diffusion backend gives native_width, native_height,
    max_side, size_multiple, default_steps, max_rows, seconds_per_step, seconds_of_<rows>_rows, can_refine); `counters`
    only grow, as do `histograms` (step_seconds, batch_rows). `warnings` say why it works worse than it should; Health
    passes them on. `execution` is what computes, where there is a choice: torch, compiled or openvino.
    """

    device: str
    dtype: str
    waiting: int
    running: int
    device_memory_bytes: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    histograms: Mapping[str, Spread] = field(default_factory=dict)
    execution: str = ""


class Backend(ABC):
    """Base of all backends that run in a runner process. Every method but `admit` is called on the engine thread."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @abstractmethod
    def load(self) -> None:
        """Loads and warms up the model.

        Raises:
            AtelierError: The model cannot be loaded; the message says why and what to do.
        """

    def admit(self, job: Job) -> None:  # noqa: B027 - most backends decide in submit
        """Takes a job into the queue or refuses it: called before `submit`, on any thread, also during a `step`.

        So those who are refused hear it at once, however long a step takes. It must be quick.

        Raises:
            AtelierError: Why it is refused; `submit` is not called then.
        """

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Takes a job in, or publishes JobFailed at once when it cannot be done (a full queue, a wrong input)."""

    @abstractmethod
    def abort(self, job_id: str) -> None:
        """Forgets a job; nothing of it is computed from the next `step` on. Unknown ids are ignored."""

    @abstractmethod
    def step(self) -> float | None:
        """Does one unit of work.

        Returns:
            None when there is nothing to do until the next submit; otherwise the seconds after which it wants to be
            called again (0.0: at once).
        """

    @abstractmethod
    def status(self) -> BackendStatus:
        """Tells how it is. Cheap."""

    def close(self) -> None:  # noqa: B027 - most backends have nothing to release
        """Releases what the garbage collector would not."""


_DEVICE_FAILURES = ("CUDA error", "CUDA failure", "CUDNN_STATUS_", "CUBLAS_STATUS_", "device-side assert")
"""What torch, onnxruntime and the libraries below them say when a GPU's context is broken."""


def device_failed(error: BaseException) -> bool:
    """Whether an error says that the device cannot be used any more by this process, whatever is computed next."""
    return any(sign in str(error) for sign in _DEVICE_FAILURES)
