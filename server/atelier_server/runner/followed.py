"""Follows a job by its events: opens and closes the stages of its trace, and knows how many steps it still has."""

from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobFailed,
    JobStarted,
    JobStep,
    JobTensors,
    TensorTask,
)
from atelier_server.telemetry.tracing import JobSpans, job_spans

QUEUE, DENOISE, COMPUTE, STEP = "queue", "denoise", "compute", "step"
"""Stages of every model's jobs, and the event of denoise; backends add encode_text and decode."""


class FollowedJob:
    """One job between submit and its last event."""

    def __init__(self, task: DiffusionTask | TensorTask) -> None:
        self.spans: JobSpans = _opened(task)
        self._steps_left = [task.num_inference_steps] * len(task.seeds) if isinstance(task, DiffusionTask) else []
        self._started = False
        if isinstance(task, DiffusionTask):
            self.spans.begin(QUEUE)

    def observe(self, event: JobEvent) -> None:
        """Takes note of an event."""
        match event:
            case JobStarted():
                self._started = True
                self.spans.finish(QUEUE)
                self.spans.begin(DENOISE)
            case JobStep():
                self._stepped(event)
            case JobTensors(times=times):
                computed = times.input_ns + times.infer_ns + times.output_ns
                self.spans.measured(QUEUE, times.queue_ns, ends_before=computed)
                self.spans.measured(COMPUTE, computed)
                self.spans.end()
            case JobDone():
                self.spans.end()
            case JobFailed(error=error):
                self.spans.end(error.reason)

    def aborted(self) -> int:
        """Ends it because nobody wants it any more.

        Returns:
            The steps that are certainly not computed for it: of a picture that was begun, one more may be under way.
        """
        self.spans.end("CANCELLED")
        under_way = sum(left > 0 for left in self._steps_left) if self._started else 0
        return sum(self._steps_left) - under_way

    def _stepped(self, event: JobStep) -> None:
        attributes = {"image_index": event.image_index, "step": event.step, "total_steps": event.total_steps}
        self.spans.event(DENOISE, STEP, **attributes, rows=event.rows)
        self._steps_left[event.image_index] = event.total_steps - event.step
        if not any(self._steps_left):
            self.spans.finish(DENOISE)


def _opened(task: DiffusionTask | TensorTask) -> JobSpans:
    if isinstance(task, TensorTask):
        return job_spans("run_tensors", task.origin)
    return job_spans(
        "run_diffusion",
        task.origin,
        pictures=len(task.seeds),
        steps=task.num_inference_steps,
        width=task.width,
        height=task.height,
        exact=task.exact,
    )
