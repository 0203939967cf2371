"""How the server is, by the contract's words: healthy, degraded, critical or unhealthy, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from atelier_server.executor.base import READY, Executor
from atelier_server.frontend.drain import Drain
from atelier_server.repository.registry import Registry
from atelier_server.repository.state import ModelState
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.telemetry.window import Summary

HEALTHY, DEGRADED, CRITICAL, UNHEALTHY = "healthy", "degraded", "critical", "unhealthy"
GENERATES = "diffusion"
"""The role of models that make pictures."""
OPENAI = "openai"
"""The backend whose models are elsewhere."""

Models = Sequence[ModelState[Executor]]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What Health answers; `can_…` tell what can be asked for now."""

    status: str
    reasons: tuple[str, ...]
    initialized: bool
    device: str
    can_diffuse: bool
    can_call_openai: bool
    can_score: bool
    can_embed_brands: bool
    models: Models
    total_generations: int
    summary: Summary


class HealthMonitor:
    """Looks at the registry, the metrics and the drain whenever it is asked."""

    def __init__(self, registry: Registry[Executor], metrics: GenerationMetrics, drain: Drain) -> None:
        self._registry = registry
        self._metrics = metrics
        self._drain = drain

    def serving(self) -> bool:
        """Whether new generations should be sent here: started, not draining, and a model for pictures is ready."""
        return self._registry.initialized and not self._drain.closed and _is_ready(self._registry.models(), GENERATES)

    def report(self) -> HealthReport:
        """Sums everything up."""
        models = self._registry.models()
        status, reasons = self._judge(models)
        local = [state for state in models if state.entry.backend != OPENAI]
        return HealthReport(
            status=status,
            reasons=tuple(reasons),
            initialized=self._registry.initialized,
            device=_device(models),
            can_diffuse=_is_ready(local, GENERATES),
            can_call_openai=any(state.state == READY for state in models if state.entry.backend == OPENAI),
            can_score=_is_ready(models, "clip"),
            can_embed_brands=_is_ready(models, "brand"),
            models=models,
            total_generations=self._metrics.total,
            summary=self._metrics.window.summary(),
        )

    def _judge(self, models: Models) -> tuple[str, list[str]]:
        """A model that never was ready, for want of weights or a key, is nobody's fault."""
        if self._drain.closed:
            return UNHEALTHY, ["the server is shutting down"]
        lost = [state for state in models if state.was_ready and state.state != READY]
        reasons = [
            f"model {state.name} was ready and is {state.state}: {state.reason or 'no reason known'}" for state in lost
        ]
        for state in models:
            reasons += _fallen(state)
            warnings = {warning for one in state.instances for warning in one.status().warnings}
            reasons += [f"model {state.name}: {warning}" for warning in sorted(warnings)]
        if _is_ready(models, GENERATES):
            return (DEGRADED if reasons else HEALTHY), reasons
        if any(state.was_ready for state in models if state.entry.role == GENERATES):
            return CRITICAL, reasons
        return UNHEALTHY, [*reasons, self._why_nothing()]

    def _why_nothing(self) -> str:
        if not self._registry.initialized:
            return "the models are being loaded"
        return "no image model is ready: `atelier-server models list` shows what each lacks"


def _fallen(state: ModelState[Executor]) -> list[str]:
    """Why a model that answers has fewer instances than it should."""
    statuses = [one.status() for one in state.instances]
    fallen = [status for status in statuses if status.state != READY]
    if state.state != READY or not fallen:
        return []
    why = fallen[0].reason or fallen[0].state
    return [f"model {state.name}: {len(fallen)} of {len(statuses)} instances are not ready: {why}"]


def _is_ready(models: Models, role: str) -> bool:
    return any(state.state == READY for state in models if state.entry.role == role)


def _device(models: Models) -> str:
    """cpu, cuda, mixed, or empty while nothing is loaded."""
    kinds = {one.status().device.partition(":")[0] for state in models for one in state.instances} - {""}
    return "mixed" if len(kinds) > 1 else next(iter(kinds), "")
