"""Which models are loaded: at start, by request, and when the repository changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import AtelierError, FailedPrecondition, Internal, InvalidArgument, NotFound
from atelier_server.repository.catalog import Catalog, Slot
from atelier_server.repository.chains import in_waves, refuse_circle, users_of, with_parts
from atelier_server.repository.overrides import Override, Overrides, discard
from atelier_server.repository.repository import ModelEntry, Repository
from atelier_server.repository.retire import retire
from atelier_server.repository.state import (
    LOADING,
    READY,
    UNAVAILABLE,
    UNLOADING,
    InstanceT,
    ModelState,
)

LOG = logging.getLogger(__name__)


class Registry(Catalog[InstanceT]):
    """Loads and unloads models, and finds them. It lives on one event loop.

    Args:
        repository: What is on disk.
        factory: Makes the instance that a ModelSpec describes; it may raise an AtelierError.
        control_mode: none (all models at start), explicit (those of `load_model`, and by request) or poll (all, and
            the repository's changes, through a Poller).
        load_model: The models to load at start under explicit; "*" is all.
        dtype: Number format over the models' own parameter.
        retire_timeout_seconds: How long a replaced or unloaded instance may finish its calls.
        overrides: Keeps what load requests bring with them.
    """

    def __init__(
        self,
        repository: Repository,
        factory: Callable[[ModelSpec], InstanceT],
        *,
        control_mode: str = "none",
        load_model: Sequence[str] = (),
        dtype: str | None = None,
        retire_timeout_seconds: float = 120.0,
        overrides: Overrides | None = None,
    ) -> None:
        super().__init__()
        self.repository = repository
        self.control_mode = control_mode
        self._factory = factory
        self._load_model = tuple(load_model)
        self._dtype = dtype
        self._retire_timeout_seconds = retire_timeout_seconds
        self._overrides = overrides or Overrides()

    async def start_all(self) -> None:
        """Loads the models of the start side by side. A model that fails is UNAVAILABLE, and the server goes on.

        Raises:
            InvalidArgument: `load_model` names a model that the repository does not have; nothing is loaded then.
        """
        entries = {entry.name: entry for entry in await asyncio.to_thread(self.repository.scan)}
        every = self.control_mode != "explicit" or "*" in self._load_model
        names = with_parts(entries if every else self._load_model, entries)
        for name in names:
            if name not in entries:
                raise InvalidArgument(self._unknown(name, entries), field="load_model")
        # From here on a caller may ask for them: those that are about to be loaded ask for patience already.
        for name, entry in entries.items():
            waits = name in names
            self._models[name] = Slot(entry, LOADING) if waits else Slot(entry, reason="not loaded; load it by name")
        self._spawn(self._watch())
        for wave in in_waves(names, entries):
            await asyncio.gather(*(self.load_quietly(name) for name in wave))
        self.initialized = True

    async def stop_all(self) -> None:
        """Ends every instance at once."""
        await asyncio.sleep(0)  # a task that is cancelled before it began would never come to its clearing up
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(model) for model in self._models.values()))

    async def load(self, name: str, override: Override | None = None) -> ModelState[InstanceT]:
        """Loads a model on request; a running one is replaced when the new instances are ready, and kept if they fail.

        The models that an ensemble chains are loaded with it, unless they are already.

        Args:
            name: The model.
            override: What the request brings in place of what lies in the repository.

        Raises:
            AtelierError: Why it could not be loaded.
        """
        self._check_control()
        return await self.load_now(name, override, with_its_parts=True)

    async def unload(self, name: str, *, with_its_parts: bool = False) -> ModelState[InstanceT]:
        """Ends a model's instances on request, after their running calls.

        Args:
            name: The model.
            with_its_parts: Whether the models that an ensemble chains go too, unless another loaded one chains them.

        Raises:
            NotFound: There is no such model.
            FailedPrecondition: Requests do not decide what is loaded here.
        """
        self._check_control()
        parts = self._find(name).entry.parts if with_its_parts else ()
        state = await self.unload_now(name)
        for part in parts:
            if part in self._models and not users_of(part, self._loaded()):
                await self.unload(part, with_its_parts=True)
        return state

    async def load_quietly(self, name: str) -> None:
        """Loads a model; a failure goes to the log and stays in its state."""
        try:
            await self.load_now(name)
        except OSError as error:  # its folder went while it was read
            LOG.error("model %s cannot be read: %s", name, error)
        except AtelierError as error:
            provided = name not in self._models or self._models[name].entry.provided
            LOG.log(logging.ERROR if provided else logging.INFO, "model %s is not loaded: %s", name, error.message)

    async def load_now(
        self, name: str, override: Override | None = None, *, with_its_parts: bool = False
    ) -> ModelState[InstanceT]:
        """As `load`, whatever the control mode."""
        entry = await self._read(name, override)
        try:
            for part in entry.parts if with_its_parts and not entry.problem else ():
                if part not in self._loaded():
                    await self.load_now(part, with_its_parts=True)
            async with self._locked(lambda: self._models.setdefault(name, Slot(entry))) as model:
                try:
                    return await self._replace(model, entry)
                finally:
                    await self._lay_aside(model)
        except BaseException:
            discard(entry)
            raise

    @asynccontextmanager
    async def _locked(self, find: Callable[[], Slot[InstanceT]]) -> AsyncIterator[Slot[InstanceT]]:
        """A model's slot, locked. While it is waited for it may be given up, and then another one is found."""
        while True:
            model = find()
            async with model.lock:
                if self._models.get(model.entry.name) is model:
                    yield model
                    return

    async def _read(self, name: str, override: Override | None) -> ModelEntry:
        if override is None:
            return await asyncio.to_thread(self.repository.find, name)
        writing = asyncio.create_task(asyncio.to_thread(self._overrides.entry, self.repository, name, override))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:  # the thread goes on, and its files would stay
            with suppress(AtelierError):
                discard(await writing)
            raise

    async def _replace(self, model: Slot[InstanceT], entry: ModelEntry) -> ModelState[InstanceT]:
        """Starts what the entry describes, and retires what ran until then. The lock is held."""
        if entry.problem:
            if not model.instances:
                model.entry = entry
                self._set(model, UNAVAILABLE, entry.problem)
            refused: ModelState[InstanceT] = ModelState(entry, UNAVAILABLE, entry.problem)
            raise refused.refusal()
        try:
            fresh = await self._start(model, entry)
            refuse_circle(entry, self._loaded())  # nothing of an ensemble needs to be stopped
        except AtelierError as error:
            self._set(model, UNAVAILABLE, error.message)
            raise
        except asyncio.CancelledError:
            self._set(model, UNAVAILABLE, "loading was cancelled")
            raise
        replaced, model.instances = model.instances, fresh
        before, model.entry = model.entry, entry
        self._set(model, READY, "")
        LOG.info("model %s is ready: version %s, %d instances", entry.name, model.seen().version, len(fresh))
        if replaced:
            self._spawn(self._retire(replaced, before))
        return model.seen()

    async def _lay_aside(self, model: Slot[InstanceT]) -> None:
        """Sees the repository's own model again when what a load request brought is gone. The lock is held."""
        if model.entry.temporary is None or model.instances:
            return
        try:
            model.entry = await asyncio.to_thread(self.repository.find, model.entry.name)
        except NotFound:
            del self._models[model.entry.name]
        except AtelierError as error:
            LOG.warning("model %s: %s", model.entry.name, error.message)

    async def _retire(self, instances: Sequence[InstanceT], entry: ModelEntry) -> None:
        try:
            await retire(instances, self._retire_timeout_seconds)
        finally:
            discard(entry)

    async def unload_now(self, name: str) -> ModelState[InstanceT]:
        """As `unload`, whatever the control mode. It goes on when nobody waits any more: calls may be running."""
        return await asyncio.shield(self._spawn(self._unload(name)))

    async def _unload(self, name: str) -> ModelState[InstanceT]:
        async with self._locked(lambda: self._find(name)) as model:
            self._set(model, UNLOADING, "it is being unloaded")
            try:
                await self._retire(model.instances, model.entry)
            finally:
                model.instances = []
                model.was_ready = False
                for user in users_of(name, self._loaded()):  # they go with it, on request, which is no failure
                    self._models[user].was_ready = False
                self._set(model, UNAVAILABLE, "unloaded")
            await self._lay_aside(model)
            return model.seen()

    async def forget(self, name: str) -> None:
        """Unloads a model that the repository no longer has; it may be gone already."""
        if name in self._models:
            await self.unload_now(name)
            self._models.pop(name, None)

    def _check_control(self) -> None:
        if self.control_mode != "explicit":
            raise FailedPrecondition(
                f"models are not loaded by request under --model-control-mode {self.control_mode}; start the server "
                "with explicit",
                reason="MODEL_CONTROL_MODE",
            )

    async def _start(self, model: Slot[InstanceT], entry: ModelEntry) -> list[InstanceT]:
        self._set(model, LOADING, "")
        fresh: list[InstanceT] = []
        try:
            for version in entry.chosen:
                fresh += [self._factory(spec) for spec in entry.specs(version, self._dtype)]
            async with asyncio.TaskGroup() as group:
                for instance in fresh:
                    group.create_task(instance.start())
        except BaseException as error:
            await asyncio.shield(asyncio.gather(*(instance.stop() for instance in fresh)))
            cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            if isinstance(cause, AtelierError | asyncio.CancelledError):
                raise cause from None
            LOG.exception("model %s could not be started", entry.name, exc_info=cause)
            raise Internal(f"model {entry.name} could not be started; the server's log tells why") from cause
        return fresh

    async def _stop(self, model: Slot[InstanceT]) -> None:
        instances, model.instances = model.instances, []
        self._set(model, UNAVAILABLE, "the server stops")
        await asyncio.gather(*(instance.stop() for instance in instances))
        discard(model.entry)
