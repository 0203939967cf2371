import asyncio
from contextlib import suppress

import pytest

from atelier_server.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    GateRefused,
    Internal,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from atelier_server.telemetry.metrics import GenerationMetrics
from atelier_server.types import (
    Completed,
    Dimensions,
    ImageCompleted,
    Progress,
    Queued,
    Reproducibility,
    Scores,
)

SIZE = Dimensions(64, 64)


def completed(*, cached: bool = False, milliseconds: float = 1500.0) -> Completed:
    return Completed(milliseconds, {}, cached, 1, 0, Reproducibility.BATCHED, "starter", "1", (), 0.0, {})


def picture(aesthetic: float | None, brand: float | None, *, missing: bool = False) -> ImageCompleted:
    scores = Scores(aesthetic_score=aesthetic, brand_consistency_score=brand, brand_reference_missing=missing)
    return ImageCompleted(0, 1, "", "image/png", SIZE, SIZE, scores)


def plenty() -> float | None:
    return None


def sample(metrics: GenerationMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_success_counts_with_its_time_model_and_scores() -> None:
    metrics = GenerationMetrics()
    with metrics.follow(plenty) as record:
        for event in (Queued(0), Progress(0, 1, 1), picture(6.0, 0.8), picture(8.0, 1.0), completed()):
            record.observe(event)
    summary = metrics.window.summary()
    assert (summary.avg_aesthetic, summary.avg_brand, summary.avg_ms) == (7.0, 0.9, 1500.0)
    assert (metrics.total, metrics.failed, dict(metrics.by_model)) == (1, 0, {"starter": 1})
    assert sample(metrics, "atelier_generations_total", outcome="succeeded") == 1
    assert sample(metrics, "atelier_generation_seconds_sum", model="starter") == 1.5


def test_the_default_pass_of_a_missing_brand_is_in_no_average() -> None:
    metrics = GenerationMetrics()
    with metrics.follow(plenty) as record:
        record.observe(picture(None, 1.0, missing=True))
        record.observe(completed())
    summary = metrics.window.summary()
    assert (summary.avg_aesthetic, summary.avg_brand) == (None, None)


def test_cached_generations_have_no_time_and_no_model() -> None:
    metrics = GenerationMetrics()
    with metrics.follow(plenty) as record:
        record.observe(completed(cached=True))
    assert (metrics.total, dict(metrics.by_model)) == (1, {})
    assert metrics.window.summary().cache_hit_rate == 1.0
    assert sample(metrics, "atelier_generation_seconds_count", model="starter") is None


@pytest.mark.parametrize(
    ("error", "outcome", "rate"),
    [
        (InvalidArgument("x"), "refused", None),
        (AlreadyExists("x"), "refused", None),
        (GateRefused("x"), "refused", None),
        (PermissionDenied("x"), "refused", None),
        (ResourceExhausted("x", reason="QUOTA_EXCEEDED"), "refused", None),
        (ResourceExhausted("x", reason="COST_LIMIT"), "refused", None),
        (ResourceExhausted("x", reason="QUEUE_FULL"), "failed", 0.0),
        (FailedPrecondition("x", reason="UPSTREAM_KEY_REFUSED"), "failed", 0.0),
        (Cancelled("x"), "cancelled", None),
        (asyncio.CancelledError(), "cancelled", None),
        (GeneratorExit(), "cancelled", None),
        (Unavailable("x"), "failed", 0.0),
        (Internal("x"), "failed", 0.0),
        (RuntimeError("x"), "failed", 0.0),
    ],
)
def test_how_it_ended_decides_whose_fault_it_was(error: BaseException, outcome: str, rate: float | None) -> None:
    metrics = GenerationMetrics()
    with suppress(type(error)), metrics.follow(plenty) as record:
        record.observe(Queued(0))
        raise error
    assert sample(metrics, "atelier_generations_total", outcome=outcome) == 1
    assert metrics.window.summary().success_rate == rate
    assert metrics.failed == (1 if outcome == "failed" else 0)
    assert sample(metrics, "atelier_generations_in_flight") == 0
    assert sample(metrics, "atelier_generations_waiting") == 0


def test_a_call_that_is_cut_at_its_deadline_has_failed() -> None:
    metrics = GenerationMetrics()
    with pytest.raises(asyncio.CancelledError), metrics.follow(lambda: -0.1):
        raise asyncio.CancelledError
    assert metrics.failed == 1


def test_a_caller_who_leaves_after_the_end_was_served() -> None:
    metrics = GenerationMetrics()
    with suppress(GeneratorExit), metrics.follow(plenty) as record:
        record.observe(completed())
        raise GeneratorExit
    assert (metrics.total, metrics.failed) == (1, 0)
    assert sample(metrics, "atelier_generations_total", outcome="succeeded") == 1


def test_what_waits_and_what_runs_is_told_apart() -> None:
    metrics = GenerationMetrics()
    with metrics.follow(plenty) as first, metrics.follow(plenty) as second:
        first.observe(Queued(1))
        second.observe(Queued(0))
        second.observe(Progress(0, 1, 4))
        assert sample(metrics, "atelier_generations_in_flight") == 2
        assert sample(metrics, "atelier_generations_waiting") == 1
    assert sample(metrics, "atelier_generations_in_flight") == 0
    assert sample(metrics, "atelier_first_event_seconds_count") == 2


def test_there_is_a_bucket_edge_at_the_objective() -> None:
    metrics = GenerationMetrics()
    with metrics.follow(plenty) as record:
        record.observe(completed(milliseconds=30_000.0))
    assert sample(metrics, "atelier_generation_seconds_bucket", model="starter", le="30.0") == 1
    assert sample(metrics, "atelier_generation_seconds_bucket", model="starter", le="20.0") == 0
