"""How long a backend's calls take, so that whoever watches the runner can tell a slow step from one that hangs."""

from collections.abc import Hashable

from atelier_server.backends.base import DiffusionTask, TensorTask

MOST_KINDS = 1024
"""Kinds of work that are remembered; of further ones nothing is expected."""


class Pace:
    """Knows the longest call so far, which kinds of work were done before, from beginning to end, and how many at once.

    A job of a new kind may take any time: graphs are compiled for it, and a larger picture costs more. So may a wider
    batch. Nothing is known of such calls. The engine holds its lock around every method.
    """

    def __init__(self) -> None:
        self._longest = 0.0
        self._done: set[Hashable] = set()
        self._new: dict[str, Hashable] = {}  # by job
        self._rows = self._rows_in_call = self._most_rows = 0

    def begins(self, task: DiffusionTask | TensorTask) -> None:
        """A job is there, and may take part in calls from now on."""
        kind = _kind(task)
        if kind not in self._done:
            self._new[task.job_id] = kind
        self._rows += _rows(task)

    def ends(self, task: DiffusionTask | TensorTask, *, done: bool) -> None:
        """It takes part in no further call; `done`: it got as far as its last event."""
        kind = self._new.pop(task.job_id, None)
        if kind is not None and done and len(self._done) < MOST_KINDS:
            self._done.add(kind)
        self._rows -= _rows(task)

    def call_begins(self) -> float:
        """Seconds that a call takes at most which begins now, by all experience; 0 where there is none."""
        self._rows_in_call = self._rows
        return 0.0 if self._new or self._rows > self._most_rows else self._longest

    def call_took(self, seconds: float) -> None:
        """The call is over."""
        self._longest = max(self._longest, seconds)
        self._most_rows = max(self._most_rows, self._rows_in_call)


def _rows(task: DiffusionTask | TensorTask) -> int:
    return 1 if isinstance(task, TensorTask) else len(task.seeds)


def _kind(task: DiffusionTask | TensorTask) -> Hashable:
    if isinstance(task, TensorTask):
        return tuple(sorted((name, tensor.dtype.str, tensor.shape[1:]) for name, tensor in task.inputs.items()))
    return task.width, task.height, task.refine_width, task.refine_height, task.exact
