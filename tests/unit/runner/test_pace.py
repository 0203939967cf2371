"""What an engine knows of how long its calls take."""

import numpy as np

from atelier_server.backends.base import DiffusionTask, TensorTask
from atelier_server.runner.pace import MOST_KINDS, Pace


def task(job_id: str, side: int = 64, refine: int = 0) -> DiffusionTask:
    return DiffusionTask(job_id, "x", None, (1,), side, side, 4, 7.5, refine_width=refine, refine_height=refine)


def test_nothing_is_expected_of_a_kind_until_a_job_of_it_was_done() -> None:
    pace = Pace()
    pace.begins(task("first"))
    pace.took(2.0)
    pace.took(1.0)
    assert pace.usual_seconds == 0.0
    pace.ends("first", done=True)
    pace.begins(task("again"))
    assert pace.usual_seconds == 2.0
    pace.begins(task("larger", side=128))
    assert pace.usual_seconds == 0.0
    pace.ends("larger", done=False)
    assert pace.usual_seconds == 2.0, "it left, and takes part in no call"
    pace.begins(task("larger", side=128))
    assert pace.usual_seconds == 0.0, "it never got to its end"
    pace.ends("larger", done=True)
    pace.begins(task("refined", refine=128))
    assert pace.usual_seconds == 0.0


def test_tensors_of_other_rows_are_the_same_kind_and_of_other_sizes_not() -> None:
    pace = Pace()
    pace.took(0.5)
    pace.begins(TensorTask("a", {"x": np.zeros((1, 3))}))
    pace.ends("a", done=True)
    pace.begins(TensorTask("b", {"x": np.zeros((9, 3))}))
    assert pace.usual_seconds == 0.5
    pace.begins(TensorTask("c", {"x": np.zeros((1, 4))}))
    assert pace.usual_seconds == 0.0


def test_callers_cannot_fill_the_memory_with_kinds() -> None:
    pace = Pace()
    for side in range(MOST_KINDS + 10):
        pace.begins(task("job", side))
        pace.ends("job", done=True)
    assert len(pace._done) == MOST_KINDS
