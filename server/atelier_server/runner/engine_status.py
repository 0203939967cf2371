"""How an engine is, for those who ask it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from atelier_server.backends.base import BackendStatus


class EngineState(StrEnum):
    """Triton's words."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How the engine is.

    `stalled_seconds` is the age of the backend call it is in, 0 between calls; `usual_seconds` is what the longest call
    took until now, 0 when this one does work of a new kind.

    `counters`: jobs_total, aborts_total, failed_steps_total, steps_saved_total: steps that aborts made needless, and
    steps_after_abort_total: steps that the backend computed for a job after its abort had been asked for (at most one a
    picture).
    """

    state: EngineState
    reason: str
    stalled_seconds: float
    usual_seconds: float
    backend: BackendStatus
    counters: Mapping[str, int] = field(default_factory=dict)
