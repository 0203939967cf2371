"""The executor of an ensemble, over models that do as they are told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atelier_server.backends.base import BatchTimes, JobTensors, ModelSpec, TensorTask
from atelier_server.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from atelier_server.executor.ensemble import EnsembleExecutor
from atelier_server.repository.model_config import as_plain_data, parse_model_config
from atelier_server.repository.repository import ModelEntry
from atelier_server.repository.state import READY, ModelState
from atelier_server.telemetry.inference import InferenceStatistics
from tests.integration.kserve_kit import step, write_ensemble

X = np.array([[1.0, 2.0]], np.float32)
Run = Callable[[TensorTask], Awaitable[JobTensors]]


@dataclass
class FakeModels:
    """Instances by name; each is a function of a task."""

    runs: dict[str, Run]
    asked: list[TensorTask] = field(default_factory=list)

    def get(self, name: str, version: str = "") -> Any:
        if name not in self.runs:
            raise Unavailable(f"model {name} is down", reason="MODEL_DOWN")
        return FakeInstance(name, self)

    def state(self, name: str) -> Any:
        if name not in self.runs:
            raise NotFound(f"there is no model {name}")
        return ModelState(ModelEntry(name, Path(), None), READY, "", ("1",))


class FakeInstance:
    def __init__(self, name: str, models: FakeModels) -> None:
        self.spec = ModelSpec(name, "1", Path())
        self._models = models

    async def run(self, task: TensorTask) -> JobTensors:
        self._models.asked.append(task)
        return await self._models.runs[self.spec.name](task)


def times(factor: float) -> Run:
    """A model that multiplies."""

    async def run(task: TensorTask) -> JobTensors:
        return JobTensors({"y": task.inputs["x"] * factor}, BatchTimes(queue_ns=1, infer_ns=10, rows=1))

    return run


SIDE_BY_SIDE = (step("left", {"x": "x"}, {"y": "p"}), step("right", {"x": "x"}, {"y": "q"}))


@pytest.fixture
async def make(tmp_path: Path) -> Callable[..., Awaitable[EnsembleExecutor]]:
    """Makes a started ensemble of steps over models."""

    async def made(runs: dict[str, Run], *steps: str, outputs: tuple[str, ...] = ("y",)) -> EnsembleExecutor:
        text = (write_ensemble(tmp_path, "chain", *steps, outputs=outputs) / "config.pbtxt").read_text()
        spec = ModelSpec("chain", "1", tmp_path, config=as_plain_data(parse_model_config(text, "chain")))
        ensemble = EnsembleExecutor(spec, FakeModels(runs), InferenceStatistics())
        await ensemble.start()
        return ensemble

    return made


Make = Callable[..., Awaitable[EnsembleExecutor]]


def task(timeout_seconds: float = 0.0, outputs: tuple[str, ...] = ()) -> TensorTask:
    return TensorTask("job", {"x": X}, outputs, timeout_seconds)


async def test_steps_run_in_the_order_of_their_data_and_costs_add_up(make: Make) -> None:
    steps = (step("b", {"x": "z"}, {"y": "y"}), step("a", {"x": "x"}, {"y": "z"}))
    ensemble = await make({"a": times(2), "b": times(5)}, *steps)
    result = await ensemble.run(task())
    np.testing.assert_array_equal(result.outputs["y"], X * 10)
    assert (result.times.queue_ns, result.times.infer_ns, result.times.rows) == (2, 20, 0)


async def test_independent_steps_run_side_by_side(make: Make) -> None:
    """Each waits until the other has begun, so one after the other would never end."""
    begun = asyncio.Barrier(2)

    async def run(one: TensorTask) -> JobTensors:
        await begun.wait()
        return JobTensors({"y": one.inputs["x"]})

    ensemble = await make({"left": run, "right": run}, *SIDE_BY_SIDE, outputs=("p", "q"))
    async with asyncio.timeout(20):
        result = await ensemble.run(task())
    assert result.outputs.keys() == {"p", "q"}


async def test_the_first_failure_ends_the_others_and_is_told_with_its_step(make: Make) -> None:
    ended = asyncio.Event()

    async def fails(_: TensorTask) -> JobTensors:
        raise InvalidArgument("no such values", field="x", reason="BAD_VALUES")

    async def never_ends(_: TensorTask) -> JobTensors:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    ensemble = await make(
        {"left": fails, "right": never_ends, "b": times(1)},
        *SIDE_BY_SIDE,
        step("b", {"x": "p"}, {"y": "y"}),
        outputs=("q", "y"),
    )
    with pytest.raises(InvalidArgument) as caught:
        await ensemble.run(task())
    assert caught.value.message == "step 0 ('left'): no such values"
    assert (caught.value.field, caught.value.reason) == ("x", "BAD_VALUES")
    assert ended.is_set()
    assert ensemble.status().running == 0


async def test_what_is_left_of_the_time_goes_with_each_step(make: Make) -> None:
    async def slow(one: TensorTask) -> JobTensors:
        await asyncio.sleep(0.2)
        return JobTensors({"y": one.inputs["x"]})

    models = {"a": slow, "b": times(1)}
    ensemble = await make(models, step("a", {"x": "x"}, {"y": "z"}), step("b", {"x": "z"}, {"y": "y"}))
    await ensemble.run(task(timeout_seconds=100.0))
    first, second = ensemble._models.asked  # type: ignore[attr-defined]
    assert 0 < second.timeout_seconds <= first.timeout_seconds - 0.19
    with pytest.raises(DeadlineExceeded, match=r"step 1 \('b'\)"):
        await ensemble.run(task(timeout_seconds=0.1))


async def test_unloading_ends_a_call_with_a_reason_and_leaving_cancels_it(make: Make) -> None:
    begun = asyncio.Event()

    async def never_ends(_: TensorTask) -> JobTensors:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    ensemble = await make({"a": never_ends}, step("a", {"x": "x"}, {"y": "y"}))
    left = asyncio.create_task(ensemble.run(task()))
    await begun.wait()
    assert ensemble.status().running == 1
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert ensemble.status().running == 0
    begun.clear()
    lost = asyncio.create_task(ensemble.run(task()))
    await begun.wait()
    await ensemble.stop()
    with pytest.raises(Unavailable, match="unloaded"):
        await lost
    assert ensemble.status().state == "UNAVAILABLE"


async def test_it_is_as_ready_as_its_parts(make: Make) -> None:
    models = {"left": times(1), "right": times(1)}
    ensemble = await make(models, *SIDE_BY_SIDE, outputs=("p", "q"))
    assert ensemble.status().state == READY
    del models["right"]
    assert (ensemble.status().state, ensemble.status().reason) == (
        "UNAVAILABLE",
        "step 1 ('right'): there is no model right",
    )
    with pytest.raises(Unavailable, match=r"step 1 \('right'\): model right is down"):
        await ensemble.run(task())
