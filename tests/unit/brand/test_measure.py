"""Nearness to a brand, its dispersion, the calibrated probability and the warnings, on vectors made here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier_server.brand.measure import (
    dispersion,
    fit_probability,
    impostor_scores,
    leave_one_out,
    nearness,
    warnings_of,
)
from atelier_server.brand.records import Embedded, Vectors


def unit(*rows: list[float]) -> Vectors:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cloud(count: int, spread: float, seed: int = 0, width: int = 16) -> Vectors:
    rng = np.random.default_rng(seed)
    return unit(*(np.eye(width)[0] + spread * rng.normal(size=(count, width))).tolist())


def embedded(vectors: Vectors) -> Embedded:
    return Embedded(tuple(f"{index:064x}" for index in range(len(vectors))), vectors)


def test_the_score_is_the_mean_of_the_three_nearest() -> None:
    references = unit([1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0])
    near = nearness(unit([1, 0]), embedded(references))
    assert near.score == pytest.approx((1 + 0.8 + 0.6) / 3)
    assert [round(cosine, 3) for _, cosine in near.nearest] == [1.0, 0.8, 0.6]
    assert [int(name, 16) for name, _ in near.nearest] == [0, 1, 2]


def test_fewer_than_three_references_are_all_used_and_opposites_score_zero() -> None:
    near = nearness(unit([-1, 0]), embedded(unit([1, 0])))
    assert near.score == 0.0
    assert near.nearest[0][1] == pytest.approx(-1.0)
    assert near.centroid == pytest.approx(-1.0)


def test_a_brand_with_two_looks_keeps_both() -> None:
    """What the centroid alone would lose."""
    references = unit(*[[1, 0, 0.01 * i] for i in range(4)], *[[0, 1, 0.01 * i] for i in range(4)])
    near = nearness(unit([1, 0, 0]), embedded(references))
    assert near.score > 0.99
    assert near.centroid < 0.75


def test_dispersion() -> None:
    assert dispersion(unit([1, 0])) is None
    assert dispersion(unit([1, 0], [1, 0])) == pytest.approx(0.0, abs=1e-6)
    assert dispersion(unit([1, 0], [0, 1])) == pytest.approx(1 - 2**-0.5, abs=1e-6)


def test_leave_one_out_never_compares_a_reference_with_itself() -> None:
    assert leave_one_out(unit([1, 0], [0, 1])).tolist() == [0.0, 0.0]
    assert leave_one_out(cloud(8, 0.05)).min() > 0.9


def test_probability_separates_and_grows() -> None:
    brand, strangers = cloud(8, 0.1, seed=1), cloud(300, 3.0, seed=2)
    probability = fit_probability(leave_one_out(brand), impostor_scores(strangers, brand))
    assert probability(0.95) > 0.9
    assert probability(0.2) < 0.1
    values = [probability(score) for score in np.linspace(0, 1, 21)]
    assert values == sorted(values)


def test_references_that_are_like_strangers_give_no_certainty() -> None:
    brand = cloud(8, 3.0, seed=1)
    probability = fit_probability(leave_one_out(brand), impostor_scores(cloud(300, 3.0, seed=2), brand))
    assert 0.2 < probability(float(leave_one_out(brand).mean())) < 0.8


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_probability_is_always_one_between_0_and_1_that_never_falls(genuine: list[float], other: list[float]) -> None:
    probability = fit_probability(np.array(genuine), np.array(other))
    values = [probability(score) for score in (0.0, 0.5, 1.0)]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values == sorted(values)


def test_warnings() -> None:
    good = cloud(8, 0.05)
    assert warnings_of(8, good, 0) == ()
    assert warnings_of(0, good[:0], 0) == ()
    assert "3 reference pictures" in warnings_of(3, good[:3], 0)[0]
    assert "2 of 10" in warnings_of(10, good, 2)[0]
    half = unit(*good[:6].tolist(), *np.eye(16)[5:9].tolist())
    assert "contradict each other: 4 of 10" in warnings_of(10, half, 0)[0]
