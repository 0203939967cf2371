"""From what is known of the server to messages."""

from typing import Any

from atelier.v1 import health_pb2, model_pb2
from atelier_server import __version__
from atelier_server.executor.base import Executor, InstanceStatus
from atelier_server.frontend.health import HealthReport
from atelier_server.repository.state import ModelState
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.telemetry.window import Summary


def health_response(report: HealthReport) -> health_pb2.HealthResponse:
    """Converts a report; what nothing is known of stays unset."""
    summary = report.summary
    return health_pb2.HealthResponse(
        status=report.status,
        reasons=report.reasons,
        initialized=report.initialized,
        device=report.device,
        models_available=health_pb2.ModelsAvailable(
            stable_diffusion_xl=report.can_diffuse,
            dalle_3=report.can_call_openai,
            clip_scoring=report.can_score,
            brand_embedding=report.can_embed_brands,
        ),
        instances=[row for state in report.models for row in _instances(state)],
        total_generations=report.total_generations,
        avg_generation_time_ms=summary.avg_ms,
        p95_generation_time_ms=summary.p95_ms,
        avg_aesthetic_score=summary.avg_aesthetic,
        avg_brand_consistency=summary.avg_brand,
        server_version=__version__,
        **_objectives(summary),
    )


def metrics_response(metrics: GenerationMetrics) -> health_pb2.GetMetricsResponse:
    """Converts the numbers since the start and over the window; what nothing is known of stays unset."""
    summary = metrics.window.summary()
    return health_pb2.GetMetricsResponse(
        total_generations=metrics.total,
        cache_hit_rate=summary.cache_hit_rate,
        avg_generation_time_ms=summary.avg_ms,
        p50_generation_time_ms=summary.p50_ms,
        p95_generation_time_ms=summary.p95_ms,
        p99_generation_time_ms=summary.p99_ms,
        avg_aesthetic_score=summary.avg_aesthetic,
        avg_brand_consistency=summary.avg_brand,
        generations_by_model=metrics.by_model,
        failed_generations=metrics.failed,
        window_seconds=metrics.window.seconds,
        **_objectives(summary),
    )


def _objectives(summary: Summary) -> dict[str, Any]:
    return {
        "success_rate": summary.success_rate,
        "slo_met": summary.slo_met,
        "quality_met": summary.quality_met,
        "brand_consistency_met": summary.brand_consistency_met,
    }


def model_info(state: ModelState[Executor]) -> model_pb2.ModelInfo:
    """Converts what the registry knows of a model."""
    return model_pb2.ModelInfo(
        name=state.name,
        version=state.version,
        state=state.state,
        reason=state.reason,
        backend=state.entry.backend,
        instances=_instances(state),
    )


def _instances(state: ModelState[Executor]) -> list[health_pb2.ModelInstance]:
    """One row an instance; a model without any has one row that tells why."""
    rows = [_instance(state, one.spec.version, one.status()) for one in state.instances]
    return rows or [_instance(state, state.version, InstanceStatus(state.state, state.reason))]


def _instance(state: ModelState[Executor], version: str, status: InstanceStatus) -> health_pb2.ModelInstance:
    return health_pb2.ModelInstance(
        model=state.name,
        version=version,
        state=status.state,
        reason=status.reason,
        device=status.device,
        memory_bytes=status.memory_bytes,
        device_memory_bytes=status.device_memory_bytes,
        queue_depth=status.waiting,
        running=status.running,
        restarts=status.restarts,
        pid=status.pid,
        backend=state.entry.backend,
        dtype=status.dtype,
        execution=status.execution,
    )
