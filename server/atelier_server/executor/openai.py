"""The executor of models that are elsewhere: it lives in the server's process, so no runner ever sees the key."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobQueued,
    ModelSpec,
    Tensor,
    TensorTask,
)
from atelier_server.backends.openai.breaker import CircuitBreaker
from atelier_server.backends.openai.dialect import dialect_of
from atelier_server.backends.openai.job import Job
from atelier_server.backends.openai.parameters import (
    KEY_REFUSED,
    Parameters,
    read_key,
    read_parameters,
)
from atelier_server.backends.openai.places import Places
from atelier_server.backends.openai.spending import Ledger
from atelier_server.errors import AtelierError, FailedPrecondition, InvalidArgument, ResourceExhausted
from atelier_server.executor.base import LOADING, READY, UNAVAILABLE, Executor, InstanceStatus
from atelier_server.types import Quality

if TYPE_CHECKING:
    from atelier_server.backends.openai.upstream import Upstream

_log = logging.getLogger(__name__)

_MICRODOLLARS = 1e6
_SIDES = {Quality.STANDARD: 512, Quality.HD: 1024, Quality.ULTRA_HD: 2048}
"""Of the square pictures whose prices routing compares, pixels."""


class OpenAIExecutor(Executor):
    """Runs diffusion jobs as requests to a service.

    Args:
        spec: The model.
        environment: Where the key is looked up; None: the process's own.
    """

    def __init__(self, spec: ModelSpec, environment: Mapping[str, str] | None = None) -> None:
        self.spec = spec
        self._environment = os.environ if environment is None else environment
        self._parameters = read_parameters(spec.parameters, self._environment)
        self._dialect = dialect_of(self._parameters.upstream_model)
        self._upstream: Upstream | None = None
        self._state, self._reason = UNAVAILABLE, "not started"
        limits = self._parameters
        self._places = Places(limits.max_concurrency)
        self._breaker = CircuitBreaker(limits.breaker_failures, limits.breaker_seconds)
        self._ledger = Ledger(limits.max_cost_per_call_usd, limits.max_cost_per_day_usd)
        self._fixed_facts = self._what_never_changes()

    async def start(self) -> None:
        """Takes the key and makes ready to send; nothing is sent yet.

        Raises:
            FailedPrecondition: There is no key.
        """
        self._state, self._reason = LOADING, ""
        try:
            key = await asyncio.to_thread(read_key, self._parameters, self._environment)
        except AtelierError as error:
            self._state, self._reason = UNAVAILABLE, error.message
            raise
        self._upstream = await asyncio.to_thread(_connect, key, self._parameters, self._breaker, self._ledger)
        self._state, self._reason = READY, ""

    async def stop(self) -> None:
        """See Executor."""
        upstream, self._upstream = self._upstream, None
        self._state, self._reason = UNAVAILABLE, "stopped"
        if upstream is not None:
            await upstream.close()

    def status(self) -> InstanceStatus:
        """See Executor. An open circuit breaker makes it UNAVAILABLE for a while."""
        state, reason = self._state, self._reason
        if state == READY and self._breaker.open_seconds > 0:
            state, reason = UNAVAILABLE, f"the service fails; it is tried again in {self._breaker.open_seconds:.0f} s"
        return InstanceStatus(
            state,
            reason,
            waiting=self._places.waiting,
            running=self._places.running,
            facts=self._facts(),
            counters=self._counters(),
        )

    async def refresh(self) -> InstanceStatus:
        """See Executor; it is always up to date."""
        return self.status()

    def cost(self, task: DiffusionTask) -> float:
        """US dollars that the task would cost, by the configured prices."""
        return self._dialect.task_cost(task, self._parameters) * len(task.seeds)

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        """Refuses: there are no tensors.

        Raises:
            InvalidArgument: Always.
        """
        raise InvalidArgument(f"model {self.spec.name} makes pictures only", field="model_name")

    async def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """See Executor. Closing it drops the requests; the service may bill them all the same."""
        upstream = self._ready_upstream()
        with self._ledger.hold(self.cost(task)) as held:
            if self._places.is_full(task.client, self._parameters.max_waiting):
                raise ResourceExhausted(
                    f"{self._places.waiting} pictures wait for the image service; try again later",
                    reason="QUEUE_FULL",
                    retry_after_seconds=self._places.wait_seconds,
                )
            job = Job(task, upstream, self._dialect, self._parameters, self._places, held)
            working = asyncio.create_task(job.run(), name=f"ask {self.spec.name}")
            try:
                yield JobQueued(self._places.waiting, self._places.wait_seconds)
                while True:
                    event = await job.events.get()
                    if isinstance(event, Exception):
                        raise self._noted(event)
                    yield event
                    if isinstance(event, JobDone):
                        return
            finally:
                working.cancel()
                await asyncio.wait([working])

    def _ready_upstream(self) -> "Upstream":
        if self._upstream is None or self._state != READY:
            message = f"model {self.spec.name} is not available: {self._reason}"
            raise FailedPrecondition(message, reason="MODEL_UNAVAILABLE", field="model")
        return self._upstream

    def _noted(self, error: Exception) -> Exception:
        """A refused key will be refused again: the model is out until it is loaded with another one."""
        if isinstance(error, AtelierError) and error.reason == KEY_REFUSED:
            self._state, self._reason = UNAVAILABLE, error.message
            _log.error("model %s: %s", self.spec.name, error.message)
        return error

    def _facts(self) -> dict[str, float]:
        facts = self._fixed_facts | {"seconds_per_picture": self._places.seconds_per_picture}
        return facts | ({"budget_left_usd": self._ledger.left_today} if self._parameters.max_cost_per_day_usd else {})

    def _what_never_changes(self) -> dict[str, float]:
        facts: dict[str, float] = {
            "native_width": 1024,
            "native_height": 1024,
            "max_side": 3840,
            "size_multiple": 16,
            "default_steps": 1,
            "partial_images": self._dialect.partial_images,
            "max_cost_per_call_usd": self._parameters.max_cost_per_call_usd,
        }
        for quality, side in _SIDES.items():
            facts[f"picture_usd_{quality}"] = self._dialect.cost(side, side, quality, 0, self._parameters)
        return facts

    def _counters(self) -> dict[str, int]:
        if self._upstream is None:
            return {}
        counted = self._upstream.counters
        return {
            "upstream_requests": counted.requests,
            "upstream_retries": counted.retries,
            "upstream_failures": counted.failures,
            "upstream_cost_microdollars": round(self._ledger.spent * _MICRODOLLARS),
        }


def _connect(key: str, parameters: Parameters, breaker: CircuitBreaker, ledger: Ledger) -> "Upstream":
    from atelier_server.backends.openai.upstream import Upstream  # loads the SDK: a second of imports, in a thread

    return Upstream(key, parameters, breaker, ledger)
