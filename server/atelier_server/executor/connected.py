"""What all executors share that reach their runner by the private protocol: its state as last seen, and the calls."""

import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import DiffusionTask, JobDone, JobEvent, JobTensors, ModelSpec, Tensor, TensorTask
from atelier_server.errors import AtelierError, Unavailable
from atelier_server.executor.base import (
    LOADING,
    NOT_TAKEN,
    READY,
    RUNNER_LOST,
    UNAVAILABLE,
    Executor,
    InstanceStatus,
)
from atelier_server.executor.client import RunnerClient
from atelier_server.runner import messages

_log = logging.getLogger(__name__)

OnChange = Callable[[InstanceStatus], None]


class ConnectedExecutor(Executor):
    """Base of executors that hold a RunnerClient while their runner lives.

    Args:
        spec: The model.
        on_change: Called in the event loop whenever the state or its reason changes.
    """

    def __init__(self, spec: ModelSpec, on_change: OnChange | None = None) -> None:
        self.spec = spec
        self._on_change = on_change
        self._client: RunnerClient | None = None
        self._calls = self._calls_done = 0
        self._status = InstanceStatus(UNAVAILABLE, "not started")

    def status(self) -> InstanceStatus:
        """What is known of it now."""
        return self._status

    async def refresh(self) -> InstanceStatus:
        """Asks the runner itself; when it does not answer within 2 s, what was known before is given."""
        if self._client is not None and self._status.state == READY:
            try:
                self._learn(await self._client.get_status(timeout_seconds=2.0))
            except AtelierError as error:
                _log.warning("%s did not tell its status: %s", self.spec.name, error.message)
        return replace(self._status, calls=self._calls)

    async def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """See Executor. The consumer closes it (contextlib.aclosing), since that is what aborts the job."""
        client = self._ready_client()
        events = client.diffuse(task)
        try:
            with self._watched(client):
                async for event in events:
                    self._calls_done += isinstance(event, JobDone)  # before its reader turns away
                    yield event
        finally:
            await events.aclose()

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        """See Executor."""
        return (await self.run(task)).outputs

    async def run(self, task: TensorTask) -> JobTensors:
        """See Executor."""
        client = self._ready_client()
        with self._watched(client):
            tensors = await client.infer(task)
        self._calls_done += 1
        return tensors

    @contextmanager
    def _watched(self, client: RunnerClient) -> Iterator[None]:
        """Counts the call; what it learns of the runner's end is known here before its caller hears of it."""
        self._calls += 1
        try:
            yield
        except Unavailable as error:
            if error.reason in (RUNNER_LOST, *NOT_TAKEN) and client is self._client and self._status.state == READY:
                self._doubt()
            raise
        finally:
            self._calls -= 1

    def _doubt(self) -> None:
        """A call of the READY runner failed as if it were gone."""

    def _ready_client(self) -> RunnerClient:
        if self._client is not None and self._status.state == READY:
            return self._client
        name = self.spec.name
        if self._status.state == LOADING:
            message = f"Model {name} is loading; try again soon."
            wait = self._status.restart_seconds
            raise Unavailable(message, reason="MODEL_LOADING", retry_after_seconds=2.0 if wait is None else wait)
        message = f"Model {name} is not available; Health tells the reason."
        wait = self._status.restart_seconds
        raise Unavailable(message, reason="MODEL_UNAVAILABLE", retry_after_seconds=wait)

    def _learn(self, answer: pb.GetStatusResponse) -> None:
        """Takes over everything but the state, which is the executor's to decide."""
        self._status = replace(
            self._status,
            device=answer.device,
            dtype=answer.dtype,
            execution=answer.execution,
            memory_bytes=answer.memory_bytes,
            device_memory_bytes=answer.device_memory_bytes,
            waiting=answer.waiting,
            running=answer.running,
            facts=dict(answer.facts),
            counters=dict(answer.counters),
            warnings=tuple(answer.warnings),
            histograms={name: messages.spread(message) for name, message in answer.histograms.items()},
        )

    def _set_state(self, state: str, reason: str = "", restart_seconds: float | None = None) -> None:
        known = self._status.state, self._status.reason, self._status.restart_seconds
        if (state, reason, restart_seconds) == known:
            return
        self._status = replace(self._status, state=state, reason=reason, restart_seconds=restart_seconds)
        if state == UNAVAILABLE:
            self._status = replace(
                self._status, pid=0, memory_bytes=0, device_memory_bytes=0, waiting=0, running=0, warnings=()
            )
        _log.info("%s is %s%s", self.spec.name, state, f": {reason}" if reason else "")
        if self._on_change is not None:
            try:
                self._on_change(self._status)
            except Exception:  # a listener's fault must not end the supervision
                _log.exception("a listener failed at a change of %s", self.spec.name)
