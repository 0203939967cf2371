"""What a job of this backend is while it is being computed, and the checks before it is taken in."""

import math
from collections import deque
from dataclasses import InitVar, dataclass, field

from atelier_server.backends.base import DiffusionTask, Job, JobStarted
from atelier_server.backends.sdxl.accelerations import Accelerations, applied, computed
from atelier_server.backends.sdxl.batch import Denoising
from atelier_server.backends.sdxl.entries import BatchKey, Entry
from atelier_server.errors import InvalidArgument
from atelier_server.types import TruncatedTokens

REFINE_STRENGTH = 0.3
"""Share of the steps that a second pass repeats at the larger size: enough for new detail, too little to change the
composition."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can do; sizes in pixels. `guided_rows` is 1 for UNets distilled to read the guidance scale."""

    native_width: int
    native_height: int
    max_side: int
    size_multiple: int
    can_refine: bool
    guided_rows: int = 2


@dataclass(slots=True, eq=False)
class Running:
    """A job between submit and its last event. `pictures` and `truncated` are filled when its text is encoded.

    `computations` counts what the UNet still has to compute of each picture, both passes. `unaltered` ends when a
    shortage of memory touched the job: it was then not computed as it is elsewhere.
    """

    job: Job
    task: DiffusionTask
    noise_schedule: str
    limits: InitVar[Limits]
    accelerations: tuple[str, ...] = field(default=(), init=False)
    computations: list[int] = field(default_factory=list, init=False)
    pictures: list[Denoising] = field(default_factory=list)
    truncated: tuple[TruncatedTokens, ...] = ()
    started: float | None = None
    steps_done: list[int] = field(default_factory=list)
    images_left: int = 0
    unaltered: bool = True
    encode_seconds: float = 0.0
    denoise_seconds: float = 0.0
    decode_seconds: float = 0.0

    def __post_init__(self, limits: Limits) -> None:
        passes = [pass_rows(self.task, limits)]
        passes += [pass_rows(self.task, limits, refining=True)] if self.task.refine_width else []
        self.accelerations = tuple(applied(passes, rows_of(self.task, limits)))
        self.computations = [sum(rows > 0 for one in passes for rows in one)] * len(self.task.seeds)
        self.steps_done = [0] * len(self.task.seeds)
        self.images_left = len(self.task.seeds)

    @property
    def total_steps(self) -> int:
        """Of one picture, both passes."""
        return self.task.num_inference_steps + refine_steps(self.task)

    def begin(self, now: float) -> None:
        """Its first step is next; later ones change nothing."""
        if self.started is None:
            self.started = now
            self.job.publish(JobStarted(self.noise_schedule, self.truncated, accelerations=self.accelerations))

    def timings_ms(self) -> dict[str, float]:
        """By stage; queue is the time before the first step that was not spent on the job's own text."""
        waited = (self.started or self.job.arrived) - self.job.arrived - self.encode_seconds
        stages = {
            "queue": max(0.0, waited),
            "encode_text": self.encode_seconds,
            "denoise": self.denoise_seconds,
            "decode": self.decode_seconds,
        }
        return {stage: 1000 * seconds for stage, seconds in stages.items()}


@dataclass(frozen=True, slots=True)
class Finished:
    """A picture whose latents wait for the VAE: to be decoded, or after the first of two passes to be enlarged."""

    running: Running
    index: int
    enlarge: bool


class FinishedQueue:
    """Pictures that wait for the VAE, in order."""

    def __init__(self) -> None:
        self._items: deque[Finished] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Finished) -> None:
        """Appends one."""
        self._items.append(item)

    def take(self) -> Finished:
        """Removes the first."""
        return self._items.popleft()

    def forget(self, running: Running) -> None:
        """Removes those of a job."""
        self._items = deque(item for item in self._items if item.running is not running)


def refine_steps(task: DiffusionTask) -> int:
    """Steps of the second pass; 0 without one."""
    return max(1, int(task.num_inference_steps * REFINE_STRENGTH)) if task.refine_width else 0


def pass_rows(task: DiffusionTask, limits: Limits, *, refining: bool = False) -> tuple[int, ...]:
    """Rows of each step of a picture's first or second pass."""
    begin = task.num_inference_steps - refine_steps(task) if refining else 0
    return _accelerations(task).rows(task.num_inference_steps, begin, rows_of(task, limits))


def _accelerations(task: DiffusionTask) -> Accelerations:
    return Accelerations(task.guidance_start, task.guidance_end, task.step_caching)


def check_task(task: DiffusionTask, limits: Limits) -> None:
    """Refuses what this model cannot compute.

    Raises:
        InvalidArgument: `field` says what is wrong.
    """
    if not task.seeds:
        raise InvalidArgument("A job needs at least one seed.", field="seeds")
    if any(not 0 <= seed < 2**64 for seed in task.seeds):
        raise InvalidArgument("Seeds are whole numbers from 0 to 2**64 - 1.", field="seed")
    if task.num_inference_steps < 1:
        raise InvalidArgument("At least one step is needed.", field="num_inference_steps")
    if not math.isfinite(task.guidance_scale) or task.guidance_scale < 0:
        raise InvalidArgument("guidance_scale must be a number from 0 on.", field="guidance_scale")
    _accelerations(task).check()
    _check_side("width", task.width, limits)
    _check_side("height", task.height, limits)
    if task.refine_width or task.refine_height:
        if not limits.can_refine:
            raise InvalidArgument(
                "This model does not refine pictures; set its parameter allow_refine to on.", field="refine_width"
            )
        for name, side in (("refine_width", task.refine_width), ("refine_height", task.refine_height)):
            if side <= 0 or side % limits.size_multiple:
                raise InvalidArgument(f"{name} must be a multiple of {limits.size_multiple}.", field=name)


def make_entries(
    task: DiffusionTask, limits: Limits, dtype: str, arrived: float, tail_seconds: float, head_seconds: float = 0.0
) -> list[Entry]:
    """The scheduler's entries for a job's first pass, one a picture.

    Args:
        task: Checked.
        limits: Of the model.
        dtype: Part of the batch key.
        arrived: On the scheduler's clock.
        tail_seconds: Expected time of decoding a picture.
        head_seconds: Expected time of encoding the text.
    """
    deadline = arrived + task.timeout_seconds if task.timeout_seconds > 0 else math.inf
    objective = arrived + task.objective_seconds if task.objective_seconds > 0 else math.inf
    (steps, rows), *later = computed(pass_rows(task, limits))
    return [
        Entry(
            job_id=task.job_id,
            index=index,
            key=_key(task, index, task.width, task.height, dtype),
            rows=rows,
            steps_left=steps,
            later=tuple(later),
            priority=task.priority,
            added=arrived,
            deadline=deadline,
            objective=objective,
            head_seconds=0.0 if index else head_seconds,
            tail_seconds=tail_seconds,
            client=task.client,
            share=share_of(task),
        )
        for index in range(len(task.seeds))
    ]


def refine_entry(task: DiffusionTask, index: int, limits: Limits, dtype: str, added: float, arrived: float) -> Entry:
    """The scheduler's entry for the second pass of a picture."""
    (steps, rows), *later = computed(pass_rows(task, limits, refining=True))
    return Entry(
        job_id=task.job_id,
        index=index,
        key=_key(task, index, task.refine_width, task.refine_height, dtype),
        rows=rows,
        steps_left=steps,
        later=tuple(later),
        priority=task.priority,
        added=added,
        deadline=arrived + task.timeout_seconds if task.timeout_seconds > 0 else math.inf,
        client=task.client,
        share=share_of(task),
    )


def share_of(task: DiffusionTask) -> float:
    """How much of the device its client gets, against 1 of others; what makes no sense counts as 1."""
    return task.client_share if math.isfinite(task.client_share) and task.client_share > 0 else 1.0


def rows_of(task: DiffusionTask, limits: Limits) -> int:
    """Rows of each picture without accelerations: guidance needs a second, unconditional one."""
    return limits.guided_rows if task.guidance_scale > 1 else 1


def _key(task: DiffusionTask, index: int, width: int, height: int, dtype: str) -> BatchKey:
    exclusive = (task.job_id, index) if task.exact else None
    return BatchKey(height=height, width=width, dtype=dtype, exclusive=exclusive)


def _check_side(name: str, side: int, limits: Limits) -> None:
    if side <= 0 or side % limits.size_multiple or side > limits.max_side:
        raise InvalidArgument(
            f"{name} is {side}; this model makes multiples of {limits.size_multiple} up to {limits.max_side} pixels.",
            field=name,
        )
