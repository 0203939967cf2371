"""Rows of each step under the lossy accelerations, and what is foretold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atelier_server.backends.sdxl.accelerations import Accelerations, applied, computed
from atelier_server.backends.sdxl.foretell import Foretelling
from atelier_server.errors import InvalidArgument


def row_text(accelerations: Accelerations, steps: int, begin: int = 0, full: int = 2) -> str:
    return "".join(map(str, accelerations.rows(steps, begin, full)))


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (Accelerations(), "2222222222"),
        (Accelerations(0.2, 0.7), "1122222111"),
        (Accelerations(end=0.3), "2221111111"),
        (Accelerations(0.3), "1112222222"),
        (Accelerations(caching=2), "2202020202"),
        (Accelerations(caching=3), "2200200202"),
        (Accelerations(caching=10), "2200000002"),
        (Accelerations(0.2, 0.7, 3), "1122002111"),
        (Accelerations(0.0, 0.5, 2), "2202011011"),
    ],
)
def test_the_rows_of_ten_steps(asked: Accelerations, rows: str) -> None:
    assert row_text(asked, 10) == rows


def test_the_shares_are_those_of_the_whole_schedule_in_a_second_pass() -> None:
    assert row_text(Accelerations(end=0.8), 10, begin=7) == "211"
    assert row_text(Accelerations(caching=3), 20, begin=14) == "220022"


def test_a_model_that_reads_the_guidance_scale_has_one_row_anyway() -> None:
    rows = Accelerations(0.2, 0.7).rows(10, 0, 1)
    assert set(rows) == {1}
    assert list(applied([rows], 1)) == []


def test_decimal_shares_are_no_step_off() -> None:
    """0.29 is less than 29 / 100 by no bit, whatever 0.29 * 100 rounds to."""
    rows = Accelerations(0.29, 0.58).rows(100, 0, 2)
    assert (rows.index(2), rows.count(2)) == (29, 29)


shares = st.tuples(st.integers(0, 19), st.integers(1, 20)).filter(lambda pair: pair[0] < pair[1])


@given(shares, st.sampled_from([0, 2, 3, 5, 10]), st.integers(1, 60), st.sampled_from([1, 2]))
def test_a_line_never_joins_guided_and_unguided(pair: tuple[int, int], caching: int, steps: int, full: int) -> None:
    rows = Accelerations(pair[0] / 20, pair[1] / 20, caching).rows(steps, 0, full)
    plain = Accelerations(pair[0] / 20, pair[1] / 20).rows(steps, 0, full)
    assert len(rows) == steps
    assert rows[0]
    assert rows[-1]
    for step, count in enumerate(rows):
        if count:
            assert count == plain[step]
        else:
            known = [earlier for earlier in range(step) if rows[earlier]][-2:]
            assert len(known) == 2
            assert {plain[earlier] for earlier in known} == {plain[step]}
            assert step - known[-1] < caching


def test_stretches_are_what_the_scheduler_takes() -> None:
    assert computed((2, 2, 2)) == ((3, 2),)
    assert computed((1, 1, 2, 0, 2, 0, 0, 1)) == ((5, 1), (3, 2), (1, 1))


def test_only_what_takes_effect_is_named() -> None:
    def names(asked: Accelerations, steps: int) -> list[str]:
        return list(applied([asked.rows(steps, 0, 2)], 2))

    assert names(Accelerations(), 10) == []
    assert names(Accelerations(0.5, 1.0), 10) == ["guidance_interval"]
    assert names(Accelerations(0.5, 1.0, 2), 20) == ["guidance_interval", "step_caching"]
    assert names(Accelerations(caching=2), 3) == [], "three steps are the first two and the last"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (Accelerations(0.5, 0.5), "guidance_interval"),
        (Accelerations(-0.1), "guidance_interval"),
        (Accelerations(end=1.1), "guidance_interval"),
        (Accelerations(float("nan")), "guidance_interval"),
        (Accelerations(caching=1), "step_caching"),
        (Accelerations(caching=11), "step_caching"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Accelerations, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wrong.check()
    assert caught.value.field == field


def test_a_line_is_foretold_exactly() -> None:
    slope, start = torch.tensor([1.0, -2.0]), torch.tensor([8.0, 0.5])
    foretelling = Foretelling()
    for step in (0, 1, 4):
        foretelling.learn(step, start + slope * step)
    assert torch.equal(foretelling.at(7), start + slope * 7)
