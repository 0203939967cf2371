"""Which model a request is for, on instances that do as they are told."""

from collections.abc import Callable

from atelier_server.frontend.kserve.targets import Targets
from atelier_server.repository.registry import Registry
from tests.unit.repository.conftest import AddModel, Factory, FakeInstance, add_model, factory, make_registry

__all__ = ["add_model", "factory", "make_registry"]


async def test_a_version_is_ready_when_its_own_instances_are(
    make_registry: Callable[..., Registry[FakeInstance]],
    add_model: AddModel,
    factory: Factory,
) -> None:
    add_model("m", (1, 2), 'backend: "echo" version_policy { all {} }')
    registry = make_registry()
    await registry.start_all()
    targets = Targets(registry)
    assert [targets.is_ready("m", version) for version in ("", "1", "2", "3")] == [True, True, True, False]
    newest = next(one for one in factory.made if one.spec.version == "2")
    newest.become(state="UNAVAILABLE", reason="killed", restart_seconds=3.0)
    assert [targets.is_ready("m", version) for version in ("", "1", "2", "3")] == [False, True, False, False]
    await registry.stop_all()
