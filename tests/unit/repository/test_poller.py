"""The poller: the registry follows what happens on disk."""

import asyncio
import os
import shutil
from collections.abc import Callable

import pytest

from atelier_server.errors import FailedPrecondition
from atelier_server.repository.poller import Poller
from atelier_server.repository.registry import Registry
from atelier_server.repository.repository import ModelEntry
from tests.unit.repository.conftest import AddModel, Factory, FakeInstance
from tests.unit.repository.test_registry import until

MakeRegistry = Callable[..., Registry[FakeInstance]]


async def polled(make_registry: MakeRegistry) -> tuple[Poller, Registry[FakeInstance]]:
    """A registry that is started, and its poller."""
    registry = make_registry(control_mode="poll", retire_timeout_seconds=0)
    poller = Poller(registry)
    await poller.begin()
    await registry.start_all()
    return poller, registry


async def test_appearing_changing_and_vanishing_models_are_followed(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    folder = add_model("a")
    poller, registry = await polled(make_registry)
    await poller.look()
    assert len(factory.made) == 1, "nothing changed"

    add_model("b")
    add_model("a", (1, 2))
    await poller.look()
    assert [state.name for state in registry.models()] == ["a", "b"]
    assert registry.get("a").spec.version == "2"

    weights = folder / "2" / "weights"
    weights.write_bytes(b"12")
    await poller.look()
    made = len(factory.made)
    os.utime(weights, (1, 1))
    await poller.look()
    assert len(factory.made) == made + 1, "a new time is a new file"

    shutil.rmtree(folder)
    await poller.look()
    assert [state.name for state in registry.models()] == ["b"]
    await registry.stop_all()
    assert all(one.stops for one in factory.made)


async def test_a_model_that_fails_is_tried_again_when_its_files_change(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    folder = add_model("a")
    factory.failures = {"a": FailedPrecondition("cut short")}
    poller, registry = await polled(make_registry)
    await poller.look()
    assert len(factory.made) == 1
    factory.failures = {}
    (folder / "1" / "weights").write_bytes(b"whole")
    await poller.look()
    assert registry.state("a").state == "READY"
    await registry.stop_all()


async def test_what_changes_while_the_models_are_loaded_is_loaded_anew(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    weights = add_model("a") / "1" / "weights"
    weights.write_bytes(b"old")
    factory.held = {"a"}
    starting = asyncio.create_task(polled(make_registry))
    await until(lambda: bool(factory.made))
    weights.write_bytes(b"newer")
    factory.held = set()
    factory.made[0].may_start.set()
    poller, registry = await starting
    await poller.look()
    assert len(factory.made) == 2
    await poller.look()
    assert len(factory.made) == 2
    await registry.stop_all()


async def test_a_model_that_vanishes_while_it_is_read_does_not_stop_the_others(
    make_registry: MakeRegistry, add_model: AddModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller, registry = await polled(make_registry)
    ghost = add_model("ghost")
    scan = registry.repository.scan

    def vanishing() -> list[ModelEntry]:
        found = scan()
        shutil.rmtree(ghost, ignore_errors=True)
        return found

    monkeypatch.setattr(registry.repository, "scan", vanishing)
    await poller.look()
    add_model("b")
    await poller.look()
    assert [state.name for state in registry.models()] == ["b"]
    await registry.stop_all()


async def test_a_look_that_fails_is_not_the_last(
    make_registry: MakeRegistry, add_model: AddModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poller, registry = await polled(make_registry)
    with monkeypatch.context() as patched:
        patched.setattr(registry.repository, "scan", lambda: 1 // 0)
        polling = asyncio.create_task(poller.run(0.01))
        await until(lambda: "a look at the model repository failed" in caplog.text)
    add_model("late")
    await until(lambda: [state.state for state in registry.models()] == ["READY"])
    polling.cancel()
    await asyncio.wait({polling})
    await registry.stop_all()


async def test_it_runs_until_it_is_cancelled(make_registry: MakeRegistry, add_model: AddModel) -> None:
    poller, registry = await polled(make_registry)
    polling = asyncio.create_task(poller.run(0.01))
    add_model("late")
    async with asyncio.timeout(20):
        while [state.state for state in registry.models()] != ["READY"]:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    polling.cancel()
    await asyncio.wait({polling})
    assert polling.cancelled()
    await registry.stop_all()
