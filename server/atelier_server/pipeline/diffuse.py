"""Generate stage: drives one diffusion job and turns the runner's events into the caller's."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from contextlib import aclosing
from contextvars import copy_context
from uuid import uuid4

from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    Pixels,
)
from atelier_server.errors import Internal
from atelier_server.pipeline.picture import encode_preview
from atelier_server.pipeline.plan import Plan, pixel_steps
from atelier_server.security.quotas import NOBODY, Account
from atelier_server.telemetry.tracing import span
from atelier_server.types import (
    Dimensions,
    Event,
    GuidanceInterval,
    Preview,
    Progress,
    Queued,
    Reproducibility,
    Started,
)

Emit = Callable[[Event], None]


class Diffusion:
    """One job of a plan; it is charged to the account before it begins, and what is not computed is given back.

    `accelerations` are those that take effect, once it has begun.
    """

    def __init__(self, plan: Plan, pool: ThreadPool, emit: Emit, account: Account = NOBODY) -> None:
        self._plan = plan
        self._pool = pool
        self._emit = emit
        self._account = account
        self._parts_done: dict[int, float] = {}
        self._untaken = len(plan.seeds)
        self._started = self._stepped = 0.0
        self.accelerations: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every picture is decoded."""
        return self._untaken == 0

    def timings_ms(self) -> dict[str, float]:
        """What can be said of a job that is stopped before it told its own timings."""
        if not self._stepped:
            return {}
        return {
            "denoise": 1000 * (self._stepped - self._started),
            "decode": 1000 * (time.monotonic() - self._stepped),
        }

    async def run(
        self, take: Callable[[int, Pixels], object], timeout_seconds: float | None, objective_seconds: float = 0.0
    ) -> JobDone:
        """Runs the job to its end and returns its last event.

        Args:
            take: Called with every decoded picture and its position in the plan, in the order of their completion.
            timeout_seconds: After which the runner gives up; None: no limit.
            objective_seconds: Within which the runner must expect to be done, or refuse; 0: no matter.

        Raises:
            AtelierError: The job failed, or the account does not have what it costs.
        """
        cost = pixel_steps(self._plan)
        self._account.charge(cost)
        try:
            return await self._run(take, self._task(timeout_seconds, objective_seconds))
        finally:
            done = sum(self._parts_done.values()) / len(self._plan.seeds)
            self._account.give_back(cost * max(0.0, 1.0 - done))

    async def _run(self, take: Callable[[int, Pixels], object], task: DiffusionTask) -> JobDone:
        outside = copy_context()  # what is taken is finished beside this job's span, not below it
        with span("diffuse", kind="client", model=self._plan.model, attempt=self._plan.attempt):
            async with aclosing(self._plan.instance.diffuse(task)) as stream:
                async for event in stream:
                    if isinstance(event, JobDone):
                        return event
                    if isinstance(event, JobImage):
                        self._untaken -= 1
                        self._parts_done[event.image_index] = 1.0
                        outside.run(take, event.image_index, event.pixels)
                    else:
                        await self._tell(event)
            raise Internal("the model ended the job without a result")

    async def _tell(self, event: JobEvent) -> None:
        if isinstance(event, JobQueued):
            total = event.estimated_total_seconds or None
            self._emit(Queued(event.position, event.estimated_wait_seconds, total))
        elif isinstance(event, JobStarted):
            self._started = self._stepped = time.monotonic()
            self.accelerations = event.accelerations
            if self._plan.attempt == 1:
                self._emit(self._told(event))
        elif isinstance(event, JobStep):
            self._stepped = time.monotonic()
            self._parts_done[event.image_index] = event.step / event.total_steps
            preview = None if event.preview is None else await self._preview(event.preview)
            self._emit(
                Progress(
                    self._plan.indexes[event.image_index],
                    event.step,
                    event.total_steps,
                    event.estimated_remaining_seconds,
                    preview,
                    self._plan.attempt_of(event.image_index),
                )
            )

    async def _preview(self, pixels: Pixels) -> Preview:
        options, shape = self._plan.request.preview, self._plan.delivered
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, encode_preview, pixels, options, shape)

    def _task(self, timeout_seconds: float | None, objective_seconds: float) -> DiffusionTask:
        plan = self._plan
        interval = plan.request.guidance_interval or GuidanceInterval()
        return DiffusionTask(
            job_id=uuid4().hex,
            prompt=plan.prompts.positive,
            negative_prompt=plan.prompts.negative,
            seeds=plan.seeds,
            width=plan.composed.width,
            height=plan.composed.height,
            num_inference_steps=plan.num_inference_steps,
            guidance_scale=plan.guidance_scale,
            noise_schedule=plan.noise_schedule,
            exact=plan.request.reproducibility is Reproducibility.EXACT,
            priority=plan.request.priority.weight,
            preview_every=plan.request.preview.every_n_steps,
            timeout_seconds=timeout_seconds or 0.0,
            objective_seconds=objective_seconds,
            refine_width=plan.refine.width if plan.refine else 0,
            refine_height=plan.refine.height if plan.refine else 0,
            quality=plan.request.quality.value,
            style=plan.request.style.value,
            guidance_start=interval.start,
            guidance_end=interval.end,
            step_caching=plan.request.step_caching or 0,
            client=self._account.name,
            client_share=self._account.share,
        )

    def _told(self, event: JobStarted) -> Started:
        plan = self._plan
        return Started(
            model=plan.model,
            model_version=plan.model_version,
            routing_reason=plan.routing_reason,
            prompt_used=plan.prompts.positive,
            negative_prompt_used=plan.prompts.negative,
            seeds=tuple(seed for position, seed in enumerate(plan.seeds) if plan.attempt_of(position) == 1),
            dimensions=plan.delivered,
            native_dimensions=Dimensions(event.width, event.height) if event.width else plan.composed,
            num_inference_steps=plan.num_inference_steps,
            guidance_scale=plan.guidance_scale,
            noise_schedule=event.noise_schedule,
            truncated_tokens=event.truncated,
        )
