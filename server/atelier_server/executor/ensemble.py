"""The executor of an ensemble: it runs the models of its steps, and its tensors never leave the server's process.

Which instance runs a step is chosen when the step begins, so a model of the chain can be replaced under it.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from google.protobuf.json_format import ParseDict

from atelier_server._generated.atelier.kserve.model_config_pb2 import ModelConfig
from atelier_server.backends.base import BatchTimes, DiffusionTask, JobEvent, JobTensors, ModelSpec, Tensor, TensorTask
from atelier_server.errors import AtelierError, DeadlineExceeded, InvalidArgument, Unavailable
from atelier_server.executor.base import READY, UNAVAILABLE, Executor, InstanceStatus
from atelier_server.repository.ensemble import Step, in_order, steps_of
from atelier_server.repository.state import ModelState
from atelier_server.telemetry.inference import InferenceStatistics


class Models(Protocol):
    """Where the models of the steps are found: the registry."""

    def get(self, name: str, version: str = "") -> Executor:
        """An instance that is ready, or an AtelierError."""

    def state(self, name: str) -> ModelState[Executor]:
        """How a model is."""


class EnsembleExecutor(Executor):
    """Runs a chain of models.

    Args:
        spec: The ensemble; its configuration was checked.
        models: Where its parts are found.
        statistics: Counts what each part computes, as if it had been asked by itself.
    """

    def __init__(self, spec: ModelSpec, models: Models, statistics: InferenceStatistics) -> None:
        self.spec = spec
        self._models = models
        self._statistics = statistics
        self._steps = in_order(steps_of(ParseDict(dict(spec.config), ModelConfig())))
        self._started = False
        self._running: set[asyncio.Task[JobTensors]] = set()

    async def start(self) -> None:
        """Nothing of its own is loaded; whether it is ready is for its parts to say."""
        self._started = True

    async def stop(self) -> None:
        """See Executor."""
        self._started = False
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def status(self) -> InstanceStatus:
        """READY while all its parts are; the reason names the step that is not."""
        if not self._started:
            return InstanceStatus(UNAVAILABLE, "stopped")
        reasons = [reason for reason in map(self._lack, self._steps) if reason]
        state = UNAVAILABLE if reasons else READY
        return InstanceStatus(state, "; ".join(reasons), running=len(self._running))

    async def refresh(self) -> InstanceStatus:
        """See Executor."""
        return self.status()

    def diffuse(self, task: DiffusionTask) -> AsyncGenerator[JobEvent, None]:
        """See Executor; an ensemble makes no pictures."""
        raise InvalidArgument(f"{self.spec.name} makes no pictures", field="model_name")

    async def infer(self, task: TensorTask) -> Mapping[str, Tensor]:
        """See Executor."""
        return (await self.run(task)).outputs

    async def run(self, task: TensorTask) -> JobTensors:
        """Runs every step as soon as its inputs are there. The first step that fails ends the others.

        Raises:
            AtelierError: A step failed; the message names it.
        """
        running = asyncio.create_task(self._run(task))
        self._running.add(running)
        try:
            return await running
        except asyncio.CancelledError:
            task_of_caller = asyncio.current_task()
            if task_of_caller is not None and task_of_caller.cancelling():
                raise
            raise Unavailable(f"{self.spec.name} was unloaded during the call", reason="RUNNER_LOST") from None
        finally:
            self._running.discard(running)
            running.cancel()

    async def _run(self, task: TensorTask) -> JobTensors:
        call = _Call(task, self._models, self._statistics)
        steps: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for step in self._steps:
                    before = [steps[index] for index in step.after]
                    steps[step.index] = group.create_task(call.run(step, before))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        wanted = task.outputs or tuple(self._written())
        return JobTensors({name: call.tensors[name] for name in wanted}, _sum(call.times))

    def _written(self) -> list[str]:
        """The ensemble's own outputs."""
        outputs = self.spec.config.get("output", [])
        assert isinstance(outputs, list)
        return [str(one["name"]) for one in outputs]

    def _lack(self, step: Step) -> str:
        """Why a step cannot run now; empty when it can."""
        try:
            state = self._models.state(step.model)
        except AtelierError as error:
            return f"{step.label}: {error.message}"
        if state.state != READY:
            return f"{step.label} is {state.state}{f': {state.reason}' if state.reason else ''}"
        if step.version and step.version not in state.versions:
            return f"{step.label}: version {step.version} is not loaded"
        return ""


class _Call:
    """One request on its way through the chain; `tensors` are those that are there by now."""

    def __init__(self, task: TensorTask, models: Models, statistics: InferenceStatistics) -> None:
        self._task = task
        self._models = models
        self._statistics = statistics
        self._ends = time.monotonic() + task.timeout_seconds if task.timeout_seconds > 0 else 0.0
        self.tensors = dict(task.inputs)
        self.times: list[BatchTimes] = []

    async def run(self, step: Step, before: list[asyncio.Task[None]]) -> None:
        """Runs one step when those before it are done."""
        for one in before:
            await one
        with _named(step):
            instance = self._models.get(step.model, step.version)
            task = self._task_of(step)
            with self._statistics.follow(step.model, instance.spec.version) as record:
                result = await instance.run(task)
                record.ran(result.times, _rows(task.inputs) if instance.spec.config.get("max_batch_size") else 1)
        self.times.append(result.times)
        self.tensors.update({step.outputs[name]: tensor for name, tensor in result.outputs.items()})

    def _task_of(self, step: Step) -> TensorTask:
        left = self._ends - time.monotonic() if self._ends else 0.0
        if left < 0:
            raise DeadlineExceeded("the deadline passed before it began")
        return dataclasses.replace(
            self._task,
            job_id=f"{self._task.job_id}-{step.index}",
            inputs={name: self.tensors[tensor] for name, tensor in step.inputs.items()},
            outputs=tuple(step.outputs),
            timeout_seconds=left,
        )


@contextmanager
def _named(step: Step) -> Iterator[None]:
    """Errors from inside the block name the step."""
    try:
        yield
    except AtelierError as error:
        raise type(error)(
            f"{step.label}: {error.message}",
            reason=error.reason,
            field=error.field,
            retry_after_seconds=error.retry_after_seconds,
            metadata=error.metadata,
        ) from error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; steps that waited for it tell the same."""
    return next((one for one in errors.exceptions if isinstance(one, AtelierError)), errors.exceptions[0])


def _rows(inputs: Mapping[str, Tensor]) -> int:
    shape = next(iter(inputs.values())).shape
    return shape[0] if shape else 1


def _sum(times: list[BatchTimes]) -> BatchTimes:
    """What the chain cost: the sums over its steps. Its rows are the request's own, so `rows` is 0."""
    total = {
        field: sum(getattr(one, field) for one in times) for field in ("queue_ns", "input_ns", "infer_ns", "output_ns")
    }
    return dataclasses.replace(BatchTimes(), **total)
