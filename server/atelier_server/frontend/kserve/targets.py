"""Finds models for requests, with Triton's codes: an unknown one is NOT_FOUND, one that is not ready UNAVAILABLE."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atelier_server.errors import AtelierError, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from atelier_server.executor.base import READY, Executor
from atelier_server.frontend.kserve.signature import Signature, Signatures
from atelier_server.repository.registry import Registry
from atelier_server.repository.state import ModelState

_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Target:
    """A model that is loaded, and the version that a request is for."""

    state: ModelState[Executor]
    version: str
    signature: Signature


class Targets:
    """Looks models up in the registry."""

    def __init__(self, registry: Registry[Executor]) -> None:
        self._registry = registry
        self._signatures = Signatures()

    def find(self, name: str, version: str = "") -> Target:
        """A model and version that is loaded; the newest one unless one is named.

        Raises:
            NotFound: There is none.
            InvalidArgument: The version is no number.
            Unavailable: It is not ready.
        """
        state = self.state(name, version)
        with triton_codes():
            if state.state != READY:
                raise state.refusal()
        if version and version not in state.versions:
            raise _unknown(name, version)
        return Target(state, version or state.version, self._signatures.of(state.entry))

    def state(self, name: str, version: str = "") -> ModelState[Executor]:
        """A model of the repository, loaded or not.

        Raises:
            NotFound: There is none, or the repository lacks the version.
            InvalidArgument: The version is no number.
        """
        if version and not _VERSION.fullmatch(version):
            raise InvalidArgument(
                f"failed to get model version from specified version string '{version[:40]}', version should be an "
                "integral value > 0",
                field="model_version",
            )
        try:
            state = self._registry.state(name)
        except NotFound:
            raise _unknown(name) from None
        if version and version not in state.versions and int(version) not in state.entry.versions:
            raise _unknown(name, version)
        return state

    def knows(self, name: str) -> bool:
        """Whether the repository has a model of this name."""
        try:
            self._registry.state(name)
        except AtelierError:
            return False
        return True

    def signature(self, state: ModelState[Executor]) -> Signature:
        """What a model takes and gives."""
        return self._signatures.of(state.entry)

    def instance(self, name: str, version: str) -> Executor:
        """The least loaded ready instance.

        Raises:
            NotFound: There is no such model or version any more.
            Unavailable: It is not ready any more.
        """
        with triton_codes():
            return self._registry.get(name, version)

    def is_ready(self, name: str, version: str) -> bool:
        """Whether a request would be taken; of an unknown model it would not.

        Raises:
            InvalidArgument: The version is no number.
        """
        try:
            self.instance(name, self.find(name, version).version)
        except (NotFound, Unavailable):
            return False
        return True

    def is_cached(self, name: str) -> bool:
        """Whether the model's configuration allows answers from the cache."""
        config = self._registry.state(name).entry.config
        return config is not None and config.response_cache.enable


@contextmanager
def triton_codes() -> Iterator[None]:
    """What must be done first is UNAVAILABLE on this service."""
    try:
        yield
    except FailedPrecondition as error:
        raise Unavailable(error.message, reason=error.reason, field=error.field) from error


def _unknown(name: str, version: str = "") -> NotFound:
    of_version = f" version {version}" if version else ""
    return NotFound(
        f"Request for unknown model: '{name[:100]}'{of_version} is not found",
        reason="VERSION_NOT_FOUND" if version else "MODEL_NOT_FOUND",
        field="model_version" if version else "model_name",
    )
