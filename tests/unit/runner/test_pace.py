"""What an engine knows of how long its calls take."""

import numpy as np

from atelier_server.backends.base import DiffusionTask, TensorTask
from atelier_server.runner.pace import MOST_KINDS, Pace


def task(job_id: str, side: int = 64, refine: int = 0, pictures: int = 1) -> DiffusionTask:
    seeds = tuple(range(pictures))
    return DiffusionTask(job_id, "x", None, seeds, side, side, 4, 7.5, refine_width=refine, refine_height=refine)


def done_before(pace: Pace, job: DiffusionTask | TensorTask, *calls: float) -> None:
    """A job from its beginning to its end."""
    pace.begins(job)
    for seconds in calls:
        assert pace.call_begins() == 0.0, "nothing is known of a first one"
        pace.call_took(seconds)
    pace.ends(job, done=True)


def test_nothing_is_expected_of_a_kind_until_a_job_of_it_was_done() -> None:
    pace = Pace()
    done_before(pace, task("first"), 2.0, 1.0)
    pace.begins(task("again"))
    assert pace.call_begins() == 2.0
    pace.ends(task("again"), done=True)
    larger = task("larger", side=128)
    pace.begins(larger)
    assert pace.call_begins() == 0.0
    pace.ends(larger, done=False)
    assert pace.call_begins() == 2.0, "it left, and takes part in no call"
    pace.begins(larger)
    assert pace.call_begins() == 0.0, "it never got to its end"
    pace.ends(larger, done=True)
    pace.begins(larger)
    assert pace.call_begins() == 2.0
    pace.begins(task("refined", refine=128))
    assert pace.call_begins() == 0.0


def test_nothing_is_expected_of_a_call_with_more_rows_than_ever() -> None:
    pace = Pace()
    done_before(pace, task("first"), 2.0)
    for name in ("a", "b"):
        pace.begins(task(name))
    assert pace.call_begins() == 0.0
    pace.call_took(1.0)
    assert pace.call_begins() == 2.0
    pace.begins(task("pictures", pictures=3))
    assert pace.call_begins() == 0.0
    pace.ends(task("pictures", pictures=3), done=False)
    assert pace.call_begins() == 2.0


def test_tensors_of_other_rows_are_the_same_kind_and_of_other_sizes_not() -> None:
    pace = Pace()
    done_before(pace, TensorTask("a", {"x": np.zeros((1, 3))}), 0.5)
    pace.begins(TensorTask("b", {"x": np.zeros((9, 3))}))
    assert pace.call_begins() == 0.5
    pace.ends(TensorTask("b", {"x": np.zeros((9, 3))}), done=True)
    pace.begins(TensorTask("c", {"x": np.zeros((1, 4))}))
    assert pace.call_begins() == 0.0


def test_callers_cannot_fill_the_memory_with_kinds() -> None:
    pace = Pace()
    for side in range(MOST_KINDS + 10):
        done_before(pace, task("job", side))
    assert len(pace._done) == MOST_KINDS
