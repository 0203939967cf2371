"""How runners are reached, seen from the pipeline: one Executor a model instance, whatever carries it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from atelier_server.backends.base import DiffusionTask, JobEvent, JobTensors, ModelSpec, Tensor, TensorTask
from atelier_server.telemetry.histogram import Spread

LOADING, READY, UNLOADING, UNAVAILABLE = "LOADING", "READY", "UNLOADING", "UNAVAILABLE"
"""The states of an instance; Triton's words."""

RUNNER_LOST = "RUNNER_LOST"
"""Reason of Unavailable: the runner ended, hung or lost its device while it had the call."""
NOT_TAKEN = ("MODEL_LOADING", "MODEL_UNAVAILABLE")
"""Reasons of Unavailable: the runner is on its way down or up, and never began the call."""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """How an instance is; sizes in bytes, `pid` 0 where it has no process of its own.

    `warnings` say why a READY instance works worse than it should. `restart_seconds` is about how long it takes until
    an instance that is not READY will be; None when nobody is about to make it so. `calls` are those under way as this
    side knows them, which a runner may not have heard of yet; only `refresh` tells them.
    """

    state: str
    reason: str = ""
    device: str = ""
    dtype: str = ""
    execution: str = ""
    memory_bytes: int = 0
    device_memory_bytes: int = 0
    waiting: int = 0
    running: int = 0
    restarts: int = 0
    pid: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    histograms: Mapping[str, Spread] = field(default_factory=dict)
    restart_seconds: float | None = None
    calls: int = 0


class Executor(ABC):
    """One model instance that computes somewhere else."""

    spec: ModelSpec

    @abstractmethod
    async def start(self) -> None:
        """Starts the instance and waits until its model is loaded.

        Raises:
            AtelierError: It could not be loaded; `status().reason` tells the same.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Ends the instance; running jobs fail with Unavailable. Never raises."""

    @abstractmethod
    def status(self) -> InstanceStatus:
        """What is known of it now, without waiting; refreshed in the background."""

    @abstractmethod
    async def refresh(self) -> InstanceStatus:
        """Asks the instance itself."""

    @abstractmethod
    def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """Runs a diffusion job. Closing the generator aborts the job.

        Raises:
            AtelierError: The job failed, or its runner was lost (Unavailable, reason RUNNER_LOST).
        """

    @abstractmethod
    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        """Runs tensors through the model once. Cancelling aborts it.

        Raises:
            AtelierError: As for `diffuse`.
        """

    async def run(self, task: TensorTask) -> JobTensors:
        """As `infer`, and what it cost; an executor that cannot tell leaves `times` empty."""
        return JobTensors(await self.infer(task))
