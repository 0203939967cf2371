"""How long a backend's calls take, so that whoever watches the runner can tell a slow step from one that hangs."""

from collections.abc import Hashable

from atelier_server.backends.base import DiffusionTask, TensorTask

MOST_KINDS = 1024
"""Kinds of work that are remembered; of further ones nothing is expected."""


class Pace:
    """Knows the longest call so far, and which kinds of work were done before, from their beginning to their end.

    A job of a new kind may take any time: graphs are compiled for it, and a larger picture costs more. So nothing is
    known of the calls while there is one. The engine holds its lock around every method.
    """

    def __init__(self) -> None:
        self._longest = 0.0
        self._done: set[Hashable] = set()
        self._new: dict[str, Hashable] = {}  # by job

    def begins(self, task: DiffusionTask | TensorTask) -> None:
        """A job is there, and may take part in calls from now on."""
        kind = _kind(task)
        if kind not in self._done:
            self._new[task.job_id] = kind

    def ends(self, job_id: str, *, done: bool) -> None:
        """It takes part in no further call; `done`: it got as far as its last event."""
        kind = self._new.pop(job_id, None)
        if kind is not None and done and len(self._done) < MOST_KINDS:
            self._done.add(kind)

    def took(self, seconds: float) -> None:
        """A call is over."""
        self._longest = max(self._longest, seconds)

    @property
    def usual_seconds(self) -> float:
        """What a call that begins now takes at most, by all experience; 0 where there is none."""
        return 0.0 if self._new else self._longest


def _kind(task: DiffusionTask | TensorTask) -> Hashable:
    if isinstance(task, TensorTask):
        return tuple(sorted((name, tensor.dtype.str, tensor.shape[1:]) for name, tensor in task.inputs.items()))
    return task.width, task.height, task.refine_width, task.refine_height, task.exact
