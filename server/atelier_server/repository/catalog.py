"""What is loaded: models of the repository, each with its running instances, and how they are."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from atelier_server.errors import NotFound
from atelier_server.repository.repository import ModelEntry
from atelier_server.repository.state import (
    READY,
    UNKNOWN,
    UNLOADING,
    InstanceT,
    ModelState,
    is_coming,
    still_reading,
    summarize,
)

LOG = logging.getLogger(__name__)
T = TypeVar("T")

WATCH_SECONDS = 0.5
"""How often the instances are looked at for changes that nobody asked for, such as a crash."""
SUCCESSOR_LOOK_SECONDS = 0.05


@dataclass
class Slot(Generic[InstanceT]):
    """A model and its instances; `state` and `reason` hold while it has none, and UNLOADING always."""

    entry: ModelEntry
    state: str = UNKNOWN
    reason: str = ""
    instances: list[InstanceT] = field(default_factory=list)
    was_ready: bool = False
    picks: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def seen(self) -> ModelState[InstanceT]:
        """How it is now."""
        state, reason = self.state, self.reason
        if self.instances and state != UNLOADING:
            state, reason = summarize(self.instances)
        self.was_ready = self.was_ready or state == READY
        versions = tuple(sorted({instance.spec.version for instance in self.instances}, key=int))
        return ModelState(self.entry, state, reason, versions, tuple(self.instances), self.was_ready)


class Catalog(Generic[InstanceT]):
    """Finds models and their instances, and tells listeners of changes. It lives on one event loop."""

    def __init__(self) -> None:
        self.initialized = False
        self._models: dict[str, Slot[InstanceT]] = {}
        self._listeners: list[Callable[[ModelState[InstanceT]], None]] = []
        self._told: dict[str, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def get(self, name: str, version: str = "") -> InstanceT:
        """The least loaded ready instance of a model; the newest version unless one is named.

        Raises:
            NotFound: There is no such model or version.
            FailedPrecondition: It is not loaded; the message says what to do.
            Unavailable: It is loading or being restarted.
        """
        model = self._find(name)
        state = model.seen()
        if state.state == READY and version and version not in state.versions:
            raise NotFound(
                f"version {version} of model {name} is not loaded", reason="VERSION_NOT_FOUND", field="model_version"
            )
        wanted = version or state.version
        ready = [one for one in model.instances if one.status().state == READY and one.spec.version == wanted]
        if state.state != READY or not ready:
            raise state.refusal()
        model.picks += 1  # of equally loaded instances, take turns
        turn = model.picks % len(ready)
        return min(ready[turn:] + ready[:turn], key=lambda one: one.status().waiting + one.status().running)

    async def successor(self, lost: InstanceT) -> InstanceT:
        """A ready instance that can do again what another one lost: of the same model and version.

        Another one is taken at once; otherwise the first one to be ready is waited for, perhaps the lost one itself.

        Raises:
            AtelierError: None is ready, and none is being started.
        """
        while True:
            state = self.state(lost.spec.name)
            same = [one for one in state.instances if one.spec.version == lost.spec.version]
            if any(one.status().state == READY for one in same):
                return self.get(lost.spec.name, lost.spec.version)
            if not any(is_coming(one.status()) for one in same):
                raise state.refusal()
            await asyncio.sleep(SUCCESSOR_LOOK_SECONDS)

    def ready(self, role: str) -> list[InstanceT]:
        """One ready instance of every model with this role, in the order of the names."""
        states = [state for state in self.models() if state.entry.role == role and state.state == READY]
        return [self.get(state.name) for state in states]

    def models(self) -> list[ModelState[InstanceT]]:
        """All models of the repository, loaded or not, in the order of their names."""
        return [self._models[name].seen() for name in sorted(self._models)]

    def state(self, name: str) -> ModelState[InstanceT]:
        """One model.

        Raises:
            NotFound: There is no such model.
        """
        return self._find(name).seen()

    def on_change(self, listener: Callable[[ModelState[InstanceT]], None]) -> None:
        """Calls the listener on the event loop whenever a model's state or reason changed."""
        self._listeners.append(listener)

    def _loaded(self) -> dict[str, ModelEntry]:
        return {name: model.entry for name, model in self._models.items() if model.instances}

    def _find(self, name: str) -> Slot[InstanceT]:
        if name not in self._models:
            if not self._models and not self.initialized:
                raise still_reading()
            raise NotFound(self._unknown(name, self._models), reason="MODEL_NOT_FOUND", field="model_name")
        return self._models[name]

    @staticmethod
    def _unknown(name: str, known: Iterable[str]) -> str:
        return f"there is no model {name!r}; the repository has {', '.join(sorted(known)) or 'none'}"

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for model in list(self._models.values()):
                self._tell(model)

    def _set(self, model: Slot[InstanceT], state: str, reason: str) -> None:
        model.state, model.reason = state, reason
        self._tell(model)

    def _tell(self, model: Slot[InstanceT]) -> None:
        seen = model.seen()
        if self._told.get(seen.name) != (seen.state, seen.reason):
            self._told[seen.name] = (seen.state, seen.reason)
            for listener in self._listeners:
                try:
                    listener(seen)
                except Exception:  # its fault must not keep a model from loading, nor others from hearing of it
                    LOG.exception("a listener failed at a change of %s", seen.name)

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
