import pytest

from atelier_server.telemetry.window import MAX_ENTRIES, Finished, RollingWindow


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> RollingWindow:
    return RollingWindow(60.0, clock)


def test_an_empty_window_knows_nothing(window: RollingWindow) -> None:
    summary = window.summary()
    assert {getattr(summary, name) for name in summary.__slots__} == {None}
    assert (summary.slo_met, summary.quality_met, summary.brand_consistency_met) == (None, None, None)


def test_percentiles_are_of_the_nearest_rank(window: RollingWindow) -> None:
    for milliseconds in range(100, 0, -1):
        window.add(Finished(True, float(milliseconds)))
    summary = window.summary()
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.avg_ms) == (50, 95, 99, 50.5)


def test_one_generation_is_every_percentile(window: RollingWindow) -> None:
    window.add(Finished(True, 7.0))
    summary = window.summary()
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms) == (7.0, 7.0, 7.0)


def test_failures_have_no_times_and_cached_ones_neither(window: RollingWindow) -> None:
    window.add(Finished(True, 100.0))
    window.add(Finished(True, 1.0, cached=True))
    window.add(Finished(succeeded=False, milliseconds=9999.0))
    summary = window.summary()
    assert (summary.avg_ms, summary.p99_ms) == (100.0, 100.0)
    assert summary.cache_hit_rate == 0.5
    assert summary.success_rate == pytest.approx(2 / 3)


def test_missing_scores_are_left_out_of_averages(window: RollingWindow) -> None:
    window.add(Finished(True, 1.0, aesthetic=8.0, brand=None))
    window.add(Finished(True, 1.0, aesthetic=None, brand=0.9))
    summary = window.summary()
    assert (summary.avg_aesthetic, summary.avg_brand) == (8.0, 0.9)
    assert (summary.quality_met, summary.brand_consistency_met) == (True, True)


@pytest.mark.parametrize(("milliseconds", "met"), [(29_999.0, True), (30_000.0, False)])
def test_the_objective_is_under_thirty_seconds(window: RollingWindow, milliseconds: float, met: bool) -> None:
    window.add(Finished(True, milliseconds))
    assert window.summary().slo_met is met


def test_what_is_older_than_the_window_is_forgotten(window: RollingWindow, clock: Clock) -> None:
    window.add(Finished(True, 1000.0))
    clock.now = 60.0
    window.add(Finished(True, 10.0))
    assert window.summary().avg_ms == 505.0
    clock.now = 60.1
    assert window.summary().avg_ms == 10.0
    clock.now = 200.0
    assert window.summary().avg_ms is None


def test_the_window_is_bounded(window: RollingWindow) -> None:
    for _ in range(MAX_ENTRIES):
        window.add(Finished(succeeded=False))
    for _ in range(MAX_ENTRIES // 2):
        window.add(Finished(True, 1.0))
    assert window.summary().success_rate == 0.5
