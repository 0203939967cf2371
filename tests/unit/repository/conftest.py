"""A repository of models without files, and instances that do as they are told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import AtelierError
from atelier_server.repository.registry import Registry
from atelier_server.repository.repository import Repository


@dataclass(frozen=True)
class FakeStatus:
    """What an instance says of itself."""

    state: str = "LOADING"
    reason: str = ""
    waiting: int = 0
    running: int = 0
    calls: int = 0
    restart_seconds: float | None = None


@dataclass
class FakeInstance:
    """An instance without a process. `may_start` holds its start back."""

    spec: ModelSpec
    failure: BaseException | None = None
    now: FakeStatus = FakeStatus()
    starts: int = 0
    stops: int = 0
    may_start: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.starts += 1
        await self.may_start.wait()
        if self.failure is not None:
            raise self.failure
        self.become(state="READY")

    async def stop(self) -> None:
        self.stops += 1
        self.become(state="UNAVAILABLE", reason="stopped", waiting=0, running=0)

    def status(self) -> FakeStatus:
        return self.now

    async def refresh(self) -> FakeStatus:
        return self.now

    def become(self, **changes: object) -> None:
        self.now = replace(self.now, **changes)  # type: ignore[arg-type]


class Factory:
    """Makes instances and remembers them. `failures` and `held` are by the model's name."""

    def __init__(self) -> None:
        self.made: list[FakeInstance] = []
        self.failures: dict[str, BaseException] = {}
        self.held: set[str] = set()

    def __call__(self, spec: ModelSpec) -> FakeInstance:
        failure = self.failures.get(spec.name)
        if isinstance(failure, AtelierError) and failure.reason == "NO_SUCH_BACKEND":
            raise failure
        instance = FakeInstance(spec, failure)
        if spec.name not in self.held:
            instance.may_start.set()
        self.made.append(instance)
        return instance


AddModel = Callable[..., Path]


@pytest.fixture
def add_model(tmp_path: Path) -> AddModel:
    """Adds a model to the repository, by name, versions and text of config.pbtxt."""

    def add(name: str, versions: tuple[int, ...] = (1,), config: str = 'backend: "echo"') -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for version in versions:
            (folder / str(version)).mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(config)
        return folder

    return add


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def make_registry(tmp_path: Path, factory: Factory) -> Callable[..., Registry[FakeInstance]]:
    """Makes a registry of the repository in tmp_path."""

    def make(**options: object) -> Registry[FakeInstance]:
        return Registry(Repository(tmp_path, environment={}), factory, **options)  # type: ignore[arg-type]

    return make
