"""How a model is, seen from outside: the words of the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from atelier_server.backends.base import ModelSpec
from atelier_server.errors import AtelierError, FailedPrecondition, Unavailable
from atelier_server.repository.repository import ModelEntry

UNKNOWN, LOADING, READY, UNLOADING, UNAVAILABLE = "UNKNOWN", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"
"""The states of a model; Triton's words. UNKNOWN: nobody asked for it to be loaded."""

RETRY_AFTER_SECONDS = 5.0
"""What callers of a model that loads are told to wait, unless its instances know better."""
LEAST_RETRY_SECONDS = 1.0


class Status(Protocol):
    """What the registry reads of an instance's status."""

    @property
    def state(self) -> str:
        """LOADING, READY, UNLOADING or UNAVAILABLE."""

    @property
    def reason(self) -> str:
        """Why it is not ready."""

    @property
    def waiting(self) -> int:
        """Jobs that wait."""

    @property
    def running(self) -> int:
        """Jobs that are computed."""

    @property
    def calls(self) -> int:
        """Calls under way, which the instance may not have heard of yet; as of `refresh`."""

    @property
    def restart_seconds(self) -> float | None:
        """About how long until it is ready, while something is done about that."""


class Instance(Protocol):
    """One model instance; executors are this, and the registry knows no more of them."""

    spec: ModelSpec

    async def start(self) -> None:
        """Starts it and waits until its model is loaded, or raises an AtelierError."""

    async def stop(self) -> None:
        """Ends it. Never raises."""

    def status(self) -> Status:
        """What is known of it now."""

    async def refresh(self) -> Status:
        """Asks it."""


InstanceT = TypeVar("InstanceT", bound=Instance)


@dataclass(frozen=True, slots=True)
class ModelState(Generic[InstanceT]):
    """A model of the repository and what became of it.

    `versions` are those that are loaded, ascending. `was_ready` tells whether it has been ready since the start;
    a model that was and is not makes the server's health degraded, unless it was unloaded on request.
    """

    entry: ModelEntry
    state: str
    reason: str = ""
    versions: tuple[str, ...] = ()
    instances: tuple[InstanceT, ...] = ()
    was_ready: bool = False

    @property
    def name(self) -> str:
        """Repository name."""
        return self.entry.name

    @property
    def version(self) -> str:
        """The version that answers, or would; empty when there is none."""
        if self.versions:
            return self.versions[-1]
        return str(self.entry.chosen[-1]) if self.entry.chosen else ""

    def refusal(self) -> AtelierError:
        """The error for a caller who asks for the model while it is not ready."""
        due = [one.status().restart_seconds for one in self.instances]
        wait = max(LEAST_RETRY_SECONDS, min((seconds for seconds in due if seconds), default=RETRY_AFTER_SECONDS))
        if self.state == LOADING:
            return Unavailable(
                f"model {self.name} is loading; try again in {wait:.0f} s",
                reason="MODEL_LOADING",
                field="model_name",
                retry_after_seconds=wait,
            )
        if self.instances and self.state != UNLOADING:
            return Unavailable(
                f"model {self.name} is down: {self.reason or 'it is being started again'}",
                reason="MODEL_DOWN",
                field="model_name",
                retry_after_seconds=wait,
            )
        kind = "MODEL_NOT_LOADED" if self.entry.provided else "MODEL_NOT_PROVIDED"
        return FailedPrecondition(f"model {self.name} is not available: {self.reason}", reason=kind, field="model_name")


def still_reading() -> AtelierError:
    """The error for a caller who comes before the repository has been read."""
    return Unavailable(
        f"the models are being loaded; try again in {RETRY_AFTER_SECONDS:.0f} s",
        reason="MODEL_LOADING",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def is_coming(status: Status) -> bool:
    """Whether an instance that is not ready will be, by all that is known."""
    return status.state == LOADING or status.restart_seconds is not None


def summarize(instances: Sequence[Instance]) -> tuple[str, str]:
    """State and reason of a model with these instances: it is as good as its best one."""
    statuses = [instance.status() for instance in instances]
    for state in (READY, LOADING):
        found = [status for status in statuses if status.state == state]
        if found:
            return state, "" if state == READY else found[0].reason
    return UNAVAILABLE, next((status.reason for status in statuses if status.reason), "its runner ended")
