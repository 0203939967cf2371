"""One diffusion job as requests to a service: the same events as from a runner."""

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING

from atelier_server.backends.base import DiffusionTask, JobDone, JobEvent, JobImage, JobStarted, JobStep, Pixels
from atelier_server.backends.openai.decode import preview_pixels
from atelier_server.backends.openai.dialect import Dialect
from atelier_server.backends.openai.parameters import Parameters
from atelier_server.backends.openai.places import Places
from atelier_server.backends.openai.spending import Hold
from atelier_server.errors import Unavailable
from atelier_server.types import Usage

if TYPE_CHECKING:
    from atelier_server.backends.openai.upstream import Upstream


class Job:
    """Asks for the pictures of a task side by side, as places allow; `events` ends with JobDone or an error."""

    def __init__(
        self,
        task: DiffusionTask,
        upstream: "Upstream",
        dialect: Dialect,
        parameters: Parameters,
        places: Places,
        held: Hold,
    ) -> None:
        self.events: asyncio.Queue[JobEvent | Exception] = asyncio.Queue()
        self._task = task
        self._upstream = upstream
        self._dialect = dialect
        self._parameters = parameters
        self._places = places
        self._held = held
        self._arrived = time.monotonic()
        self._started: float | None = None
        self._partial_images = _partial_images(task, dialect)
        self._usage = Usage()
        self._failed = False

    async def run(self) -> None:
        """Makes all pictures. The first that fails ends the job and the requests of the others."""
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(len(self._task.seeds)):
                    group.create_task(self._picture(index))
        except ExceptionGroup as failed:
            self.events.put_nowait(failed.exceptions[0])
            return
        now = time.monotonic()
        started = self._started if self._started is not None else now
        timings = {"queue": (started - self._arrived) * 1000.0, "upstream": (now - started) * 1000.0}
        model = self._parameters.upstream_model
        self.events.put_nowait(JobDone(timings, exact=False, model_used=model, usage=self._usage))

    async def _picture(self, index: int) -> None:
        task, total = self._task, self._partial_images + 1
        deadline = self._arrived + task.timeout_seconds if task.timeout_seconds else None
        estimate = self._dialect.task_cost(task, self._parameters)
        heard = count(1)
        async with self._places.one(task.client, task.client_share):
            if self._failed:  # the place is another picture's of this job, whose failure is about to end it all
                return
            self._tell_start()
            begun = time.monotonic()

            async def on_partial(text: str) -> None:
                left = max(0.0, begun + self._places.seconds_per_picture - time.monotonic())
                preview = await _preview(text, task)
                self.events.put_nowait(JobStep(index, min(next(heard), total - 1), total, left, preview))

            arguments = self._dialect.arguments(task, self._parameters, self._partial_images)
            try:
                answer = await self._upstream.picture(arguments, estimate, deadline, on_partial)
            except Exception:
                self._failed = True
                raise
            finally:
                self._held.release(estimate)
        self._usage += answer.usage
        self.events.put_nowait(JobStep(index, total, total, 0.0))
        self.events.put_nowait(JobImage(index, answer.pixels))

    def _tell_start(self) -> None:
        if self._started is None:
            self._started = time.monotonic()
            width, height = self._dialect.size(self._task.width, self._task.height)
            self.events.put_nowait(JobStarted("", width=width, height=height))


def _partial_images(task: DiffusionTask, dialect: Dialect) -> int:
    """As many unfinished pictures as the caller's rhythm allows, of the few that there are."""
    if not task.preview_every or not dialect.partial_images:
        return 0
    return max(1, dialect.partial_images // task.preview_every)


async def _preview(text: str, task: DiffusionTask) -> Pixels | None:
    try:
        return await asyncio.to_thread(preview_pixels, text, task.width, task.height)
    except Unavailable:  # an unfinished picture is no reason to lose the finished one
        return None
