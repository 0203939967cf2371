"""The registry: what is loaded, by whose wish, and what callers hear when it is not."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atelier_server.errors import (
    AtelierError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from atelier_server.repository.overrides import Override, Overrides
from atelier_server.repository.registry import Registry
from tests.unit.repository.conftest import AddModel, Factory, FakeInstance

MakeRegistry = Callable[..., Registry[FakeInstance]]


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until the condition holds; the test's own time limit ends a wait in vain."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the registry has no event for every inner state
            await asyncio.sleep(0.01)


def states(registry: Registry[FakeInstance]) -> dict[str, str]:
    return {state.name: state.state for state in registry.models()}


async def test_all_models_start_side_by_side_and_a_failure_stops_nobody(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    for name in ("good", "slow", "bad", "broken"):
        add_model(name)
    add_model("unprovided", (1,), 'backend: "sdxl" parameters { key: "source_repo" value { string_value: "a/b" } }')
    add_model("misspelt", (1,), "backendd: 1")
    factory.failures = {"bad": FailedPrecondition("its weights are cut short"), "broken": RuntimeError("secret detail")}
    factory.held = {"slow", "good"}
    registry = make_registry()
    starting = asyncio.create_task(registry.start_all())
    await until(lambda: sum(one.starts for one in factory.made) == 4)
    assert states(registry)["slow"] == "LOADING"
    assert not registry.initialized
    for one in factory.made:
        one.may_start.set()
    await starting
    assert registry.initialized
    assert states(registry) == {
        "bad": "UNAVAILABLE",
        "broken": "UNAVAILABLE",
        "good": "READY",
        "misspelt": "UNAVAILABLE",
        "slow": "READY",
        "unprovided": "UNAVAILABLE",
    }
    assert registry.state("bad").reason == "its weights are cut short"
    assert "secret detail" not in registry.state("broken").reason
    assert "misspelt/config.pbtxt:1:1" in registry.state("misspelt").reason
    await registry.stop_all()
    assert all(one.stops for one in factory.made)


async def test_callers_hear_why_a_model_is_not_ready(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("failed")
    add_model("unprovided", (), 'backend: "sdxl" parameters { key: "source_repo" value { string_value: "a/b" } }')
    add_model("loading")
    factory.failures = {"failed": FailedPrecondition("its weights are cut short")}
    factory.held = {"loading"}
    registry = make_registry()
    starting = asyncio.create_task(registry.start_all())
    await until(
        lambda: states(registry) == {"failed": "UNAVAILABLE", "unprovided": "UNAVAILABLE", "loading": "LOADING"}
    )

    with pytest.raises(NotFound, match="there is no model 'nobody'"):
        registry.get("nobody")
    with pytest.raises(FailedPrecondition, match="cut short"):
        registry.get("failed")
    with pytest.raises(FailedPrecondition, match="atelier-server models fetch unprovided") as unprovided:
        registry.get("unprovided")
    assert unprovided.value.reason == "MODEL_NOT_PROVIDED"
    with pytest.raises(Unavailable, match="is loading") as loading:
        registry.get("loading")
    assert loading.value.retry_after_seconds
    assert loading.value.field == "model_name"

    held = next(one for one in factory.made if one.spec.name == "loading")  # made in any order: threads read the files
    held.may_start.set()
    await starting
    ready = registry.get("loading")
    ready.become(state="LOADING")
    with pytest.raises(Unavailable, match="is loading"):
        registry.get("loading")
    ready.become(state="UNAVAILABLE", reason="it crashed 5 times")
    with pytest.raises(Unavailable, match="it crashed 5 times") as down:
        registry.get("loading")
    assert down.value.retry_after_seconds
    assert registry.state("loading").was_ready
    await registry.stop_all()


async def test_the_least_loaded_instance_is_taken_and_equals_take_turns(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("m", (1,), 'backend: "echo" instance_group [ { count: 3 } ]')
    registry = make_registry()
    await registry.start_all()
    first, second, third = factory.made
    assert {id(registry.get("m")) for _ in range(3)} == {id(first), id(second), id(third)}
    first.become(running=2)
    third.become(waiting=1)
    assert all(registry.get("m") is second for _ in range(3))
    second.become(state="LOADING")
    assert registry.get("m") is third
    assert registry.state("m").state == "READY"
    await registry.stop_all()


async def test_versions_are_found_by_name_and_the_newest_answers(
    make_registry: MakeRegistry, add_model: AddModel
) -> None:
    add_model("m", (1, 2, 10), 'backend: "echo" version_policy { latest { num_versions: 2 } }')
    registry = make_registry()
    await registry.start_all()
    assert registry.state("m").versions == ("2", "10")
    assert registry.get("m").spec.version == registry.state("m").version == "10"
    assert registry.get("m", "2").spec.version == "2"
    with pytest.raises(NotFound, match="version 1 ") as caught:
        registry.get("m", "1")
    assert caught.value.field == "model_version"
    await registry.stop_all()


async def test_ready_lists_one_instance_of_each_model_with_the_role(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    for name, role in (("b", "clip"), ("a", "clip"), ("c", "brand"), ("d", "clip")):
        add_model(name, (1,), f'backend: "echo" parameters {{ key: "role" value {{ string_value: "{role}" }} }}')
    factory.failures = {"d": FailedPrecondition("broken")}
    registry = make_registry()
    await registry.start_all()
    assert [one.spec.name for one in registry.ready("clip")] == ["a", "b"]
    await registry.stop_all()


async def test_explicit_control_loads_what_is_named(make_registry: MakeRegistry, add_model: AddModel) -> None:
    for name in ("a", "b", "c"):
        add_model(name)
    registry = make_registry(control_mode="explicit", load_model=["b", "b"])
    await registry.start_all()
    assert states(registry) == {"a": "UNKNOWN", "b": "READY", "c": "UNKNOWN"}
    with pytest.raises(FailedPrecondition, match="not loaded"):
        registry.get("a")
    assert (await registry.load("a")).state == "READY"
    unloaded = await registry.unload("b")
    assert (unloaded.state, unloaded.reason, unloaded.was_ready) == ("UNAVAILABLE", "unloaded", False)
    with pytest.raises(FailedPrecondition, match="unloaded"):
        registry.get("b")
    add_model("d")
    assert (await registry.load("d")).state == "READY"
    for attempt in (registry.load, registry.unload):
        with pytest.raises(NotFound):
            await attempt("nobody")
    await registry.stop_all()


async def test_a_star_loads_all_and_an_unknown_name_stops_the_start(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("a")
    everything = make_registry(control_mode="explicit", load_model=["*"])
    await everything.start_all()
    assert states(everything) == {"a": "READY"}
    await everything.stop_all()
    factory.made.clear()
    with pytest.raises(InvalidArgument, match="typo") as caught:
        await make_registry(control_mode="explicit", load_model=["a", "typo"]).start_all()
    assert caught.value.field == "load_model"
    assert factory.made == []


@pytest.mark.parametrize("mode", ["none", "poll"])
async def test_requests_change_nothing_under_the_other_modes(
    make_registry: MakeRegistry, add_model: AddModel, mode: str
) -> None:
    add_model("a")
    registry = make_registry(control_mode=mode)
    await registry.start_all()
    for attempt in (registry.load, registry.unload):
        with pytest.raises(FailedPrecondition, match="--model-control-mode"):
            await attempt("a")
    assert states(registry) == {"a": "READY"}
    await registry.stop_all()


@pytest.mark.parametrize("busy", ["running", "calls"])
async def test_a_load_replaces_a_running_version_after_its_calls(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory, busy: str
) -> None:
    """A call that its process has not heard of yet is one too."""
    add_model("m", (1,))
    registry = make_registry(control_mode="explicit", load_model=["m"])
    await registry.start_all()
    (old,) = factory.made
    old.become(**{busy: 1})
    add_model("m", (1, 2))
    factory.held = {"m"}
    loading = asyncio.create_task(registry.load("m"))
    await until(lambda: len(factory.made) == 2 and factory.made[1].starts == 1)
    assert registry.get("m") is old
    factory.made[1].may_start.set()
    assert (await loading).version == "2"
    assert registry.get("m").spec.version == "2"
    await asyncio.sleep(0.5)
    assert old.stops == 0, "a call still runs there"
    old.become(**{busy: 0})
    await until(lambda: old.stops == 1)
    await registry.stop_all()


async def test_a_load_that_fails_keeps_the_old_version(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("m", (1,))
    registry = make_registry(control_mode="explicit", load_model=["m"])
    await registry.start_all()
    (old,) = factory.made
    add_model("m", (1, 2), 'backend: "echo" instance_group [ { count: 2 } ]')
    factory.failures = {"m": FailedPrecondition("its weights are cut short")}
    with pytest.raises(FailedPrecondition, match="cut short"):
        await registry.load("m")
    assert [one.stops for one in factory.made] == [0, 1, 1]
    add_model("m", (1,), "backendd: 1")
    with pytest.raises(FailedPrecondition, match="backendd"):
        await registry.load("m")
    assert registry.get("m") is old
    assert registry.state("m").version == "1"
    await registry.stop_all()


@pytest.mark.parametrize("failure", [FailedPrecondition("no such backend", reason="NO_SUCH_BACKEND"), KeyError("x")])
async def test_a_failing_factory_or_a_bug_becomes_the_reason(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory, failure: Exception
) -> None:
    add_model("m")
    factory.failures = {"m": failure}
    registry = make_registry(control_mode="explicit")
    await registry.start_all()
    with pytest.raises(AtelierError) as caught:
        await registry.load("m")
    assert registry.state("m").reason == caught.value.message
    assert isinstance(caught.value, Internal) == isinstance(failure, KeyError)
    await registry.stop_all()


async def test_a_cancelled_load_leaves_nothing_behind(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("m")
    factory.held = {"m"}
    registry = make_registry(control_mode="explicit")
    await registry.start_all()
    loading = asyncio.create_task(registry.load("m"))
    await until(lambda: bool(factory.made) and factory.made[0].starts == 1)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert factory.made[0].stops == 1
    assert registry.state("m").state == "UNAVAILABLE"
    factory.held = set()
    assert (await registry.load("m")).state == "READY"
    await registry.stop_all()


async def test_unload_waits_for_running_calls_but_not_for_ever(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("m")
    registry = make_registry(control_mode="explicit", load_model=["m"], retire_timeout_seconds=0.3)
    await registry.start_all()
    factory.made[0].become(running=1)
    unloading = asyncio.create_task(registry.unload("m"))
    await until(lambda: states(registry) == {"m": "UNLOADING"})
    with pytest.raises(FailedPrecondition, match="being unloaded"):
        registry.get("m")
    await unloading
    assert factory.made[0].stops == 1
    await registry.stop_all()


GUEST = Override('{"backend": "echo"}', {"1/weights": b"x"})
"""A model that comes with its load request, and is none of the repository."""


async def test_a_load_that_waited_for_one_that_failed_is_not_lost(
    make_registry: MakeRegistry, factory: Factory
) -> None:
    """The failed one takes the model's place away, which was made for it alone."""
    registry = make_registry(control_mode="explicit")
    await registry.start_all()
    factory.held, factory.failures = {"guest"}, {"guest": FailedPrecondition("broken")}
    first = asyncio.create_task(registry.load("guest", GUEST))
    await until(lambda: len(factory.made) == 1)
    factory.held, factory.failures = set(), {}
    second = asyncio.create_task(registry.load("guest", GUEST))
    await asyncio.sleep(0.05)
    factory.made[0].may_start.set()
    with pytest.raises(FailedPrecondition, match="broken"):
        await first
    assert (await second).state == "READY"
    assert registry.get("guest") is factory.made[1]
    await registry.stop_all()
    assert factory.made[1].stops == 1


async def test_a_load_that_is_broken_off_leaves_no_files(make_registry: MakeRegistry, tmp_path: Path) -> None:
    registry = make_registry(control_mode="explicit", overrides=Overrides(tmp_path / ".overrides"))
    await registry.start_all()
    loading = asyncio.create_task(registry.load("guest", GUEST))
    await asyncio.sleep(0)  # a thread writes its files by now
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    await asyncio.to_thread(time.sleep, 0.1)
    assert list((tmp_path / ".overrides").glob("*")) == []
    await registry.stop_all()


async def test_unloads_side_by_side_agree(make_registry: MakeRegistry, factory: Factory) -> None:
    registry = make_registry(control_mode="explicit", retire_timeout_seconds=0)
    await registry.start_all()
    await registry.load("guest", GUEST)
    results = await asyncio.gather(*(registry.unload("guest") for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results[1:]] == [NotFound, NotFound], "it was gone with the first"
    assert states(registry) == {}
    await registry.stop_all()


async def test_who_stops_waiting_for_an_unload_does_not_end_the_running_calls(
    make_registry: MakeRegistry, factory: Factory
) -> None:
    registry = make_registry(control_mode="explicit")
    await registry.start_all()
    files = (await registry.load("guest", GUEST)).entry.temporary
    assert files is not None
    factory.made[0].become(running=1)
    unloading = asyncio.create_task(registry.unload("guest"))
    await until(lambda: states(registry) == {"guest": "UNLOADING"})
    unloading.cancel()
    await asyncio.wait([unloading])
    assert factory.made[0].stops == 0
    factory.made[0].become(running=0)
    await until(lambda: states(registry) == {})
    assert factory.made[0].stops == 1
    assert not files.exists()
    await registry.stop_all()


async def test_the_end_of_the_server_removes_what_load_requests_brought(
    make_registry: MakeRegistry, factory: Factory
) -> None:
    registry = make_registry(control_mode="explicit")
    await registry.start_all()
    old = (await registry.load("guest", GUEST)).entry.temporary
    factory.made[0].become(running=1)
    new = (await registry.load("guest", GUEST)).entry.temporary
    await registry.stop_all()
    assert old is not None
    assert new is not None
    assert [one.stops for one in factory.made] == [1, 1]
    assert not old.exists(), "it was being replaced, and still at work"
    assert not new.exists()


async def test_listeners_hear_of_every_change_also_of_crashes(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("m")
    registry = make_registry()
    heard: list[tuple[str, str]] = []
    registry.on_change(lambda state: heard.append((state.name, state.state)))
    await registry.start_all()
    assert heard == [("m", "LOADING"), ("m", "READY")]
    factory.made[0].become(state="UNAVAILABLE", reason="killed")
    await until(lambda: heard[-1] == ("m", "UNAVAILABLE"))
    factory.made[0].become(state="READY", reason="")
    await until(lambda: heard[-1] == ("m", "READY"))
    assert len(heard) == 4
    await registry.stop_all()
    assert heard[-1] == ("m", "UNAVAILABLE")


async def test_a_listener_that_fails_is_nobody_elses_trouble(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    add_model("m")
    registry = make_registry()
    heard: list[str] = []
    registry.on_change(lambda state: print(1 // (state.state != "UNAVAILABLE")))
    registry.on_change(lambda state: heard.append(state.state))
    await registry.start_all()
    for state in ("UNAVAILABLE", "READY"):
        factory.made[0].become(state=state)
        await until(lambda state=state: heard[-1] == state)  # type: ignore[misc]
    assert "a listener failed at a change of m" in caplog.text
    await registry.stop_all()


async def test_callers_who_come_before_the_models_are_asked_for_patience(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("first")
    add_model("later")
    registry = make_registry(control_mode="explicit", load_model=["first"])
    with pytest.raises(Unavailable, match="being loaded"):
        registry.get("first")  # the repository has not even been read
    starting = asyncio.create_task(registry.start_all())
    while "first" not in states(registry):
        with pytest.raises(Unavailable):
            registry.get("first")
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="loading"):  # its folder has not been looked at again
        registry.get("first")
    with pytest.raises(FailedPrecondition, match="load it by name"):
        registry.get("later")
    await starting
    assert registry.get("first").status().state == "READY"
    await registry.stop_all()


TWO = 'backend: "echo" instance_group [ { count: 2 } ]'


async def test_another_ready_instance_succeeds_a_lost_one_at_once(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("twins", config=TWO)
    registry = make_registry()
    await registry.start_all()
    lost, other = factory.made
    lost.become(state="UNAVAILABLE", reason="killed", restart_seconds=3.0)
    assert await registry.successor(lost) is other
    await registry.stop_all()


async def test_the_restarted_instance_succeeds_itself(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory
) -> None:
    add_model("single")
    registry = make_registry()
    await registry.start_all()
    (lost,) = factory.made
    lost.become(state="UNAVAILABLE", reason="killed", restart_seconds=3.0)
    with pytest.raises(Unavailable) as down:
        registry.get("single")
    assert down.value.retry_after_seconds == 3.0, "new callers hear when it will be back"
    waiting = asyncio.create_task(registry.successor(lost))
    await asyncio.sleep(0.1)
    lost.become(state="LOADING", reason="restarted because killed")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert registry.state("single").reason == "restarted because killed"
    lost.become(state="READY", reason="", restart_seconds=None)
    assert await waiting is lost
    await registry.stop_all()


@pytest.mark.parametrize("ending", ["gives up", "is unloaded"])
async def test_nobody_waits_for_what_will_not_come(
    make_registry: MakeRegistry, add_model: AddModel, factory: Factory, ending: str
) -> None:
    add_model("single")
    registry = make_registry(control_mode="explicit", load_model=["single"])
    await registry.start_all()
    (lost,) = factory.made
    lost.become(state="UNAVAILABLE", reason="killed", restart_seconds=3.0)
    waiting = asyncio.create_task(registry.successor(lost))
    await asyncio.sleep(0.1)
    if ending == "gives up":
        lost.become(reason="crash loop", restart_seconds=None)
    else:
        await registry.unload("single")
    with pytest.raises(AtelierError):
        await waiting
    await registry.stop_all()
