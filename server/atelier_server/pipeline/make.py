"""Computes the pictures of a plan under its gate: diffuse → (resample → score → encode) → gate → deliver."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass, field, replace
from typing import Any

from atelier_server.backends.base import Pixels
from atelier_server.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable
from atelier_server.pipeline.attempts import affordable, attempt_costs, side_by_side
from atelier_server.pipeline.computation import Computation
from atelier_server.pipeline.diffuse import Diffusion
from atelier_server.pipeline.failover import Failover
from atelier_server.pipeline.finish import FinishedPicture, Finisher, Timings, picture_events
from atelier_server.pipeline.gate import GateKeeper
from atelier_server.pipeline.plan import Plan
from atelier_server.pipeline.route import Models
from atelier_server.pipeline.safety import SafetyGate
from atelier_server.pipeline.score import Scorer
from atelier_server.types import Completed, Gate, GenerateRequest, Queued, Reproducibility

logger = logging.getLogger(__name__)

Finish = Callable[[int, Pixels], Awaitable[None]]

RESERVE_SECONDS = 0.5
"""Kept of the caller's time for encoding and sending the best picture there is, when further attempts take too long."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One generation: whom it tells, what it cost, and what became of lost runners."""

    computation: Computation
    failover: Failover
    timings: Timings = field(default_factory=Timings)


class Maker:
    """Makes pictures and tells a computation's log about them."""

    def __init__(
        self, models: Models, pool: ThreadPool, scorer: Scorer, safety: SafetyGate, objective_seconds: float = 0.0
    ) -> None:
        self._models = models
        self._objective_seconds = objective_seconds
        self._pool = pool
        self._finisher = Finisher(pool, scorer, safety)

    async def make(self, computation: Computation, plan: Plan) -> None:
        """Computes everything up to Completed.

        Raises:
            AtelierError: The model failed, or the gate refused.
        """
        run = _Run(computation, Failover(self._models))
        if plan.request.gate is Gate.REPORT:
            await self._report(run, plan)
            attempts = 1
        else:
            attempts = await self._attempts(run, plan)
        computation.emit(_completed(run, plan, attempts))

    async def _report(self, run: _Run, plan: Plan) -> None:
        """Every picture leaves when it is done."""

        async def finish(position: int, pixels: Pixels) -> None:
            _send(run.computation, plan, await self._finisher.finish(plan, position, pixels, run.timings))

        await self._diffuse(run, plan, finish)

    async def _attempts(self, run: _Run, plan: Plan) -> int:
        """Tries until every picture passes, the attempts are used up, or another one would miss the deadline."""
        keeper = GateKeeper(plan)
        tried, pace = 0, 1.0
        while tried < plan.request.max_attempts and keeper.failing():
            costs = attempt_costs(keeper.next_attempts(tried + 1, 1), plan.request.max_attempts - tried)
            fitting = affordable([pace * cost for cost in costs], run.computation.caller.remaining_seconds())
            if tried and not fitting:
                break
            count = side_by_side(fitting or costs[:1], tried)
            started = time.monotonic()
            if not await self._round(run, keeper, keeper.next_attempts(tried + 1, count)):
                break
            pace = (time.monotonic() - started) / costs[count - 1]
            tried += count
        pictures = [self._finisher.encode(plan, picture, run.timings) for picture in keeper.verdict()]
        for picture in await asyncio.gather(*pictures):
            _send(run.computation, plan, picture)
        return keeper.attempts

    async def _round(self, run: _Run, keeper: GateKeeper, plan: Plan) -> bool:
        """Judges attempts that are computed side by side. False when there can be no further ones, but each picture has
        a best: time or budget ended or, under RETRY, the model is lost.

        Raises:
            TimeoutError, DeadlineExceeded: The time was over before that.
            Unavailable: The model was lost before that or, under ENFORCE, before one passed.
        """

        async def finish(position: int, pixels: Pixels) -> None:
            keeper.consider(await self._finisher.judge(plan, position, pixels, run.timings))

        limit = run.computation.caller.remaining_seconds()
        several = plan.attempt > 1 or len(plan.indexes) > len(set(plan.indexes))
        if limit is not None and several:
            limit -= RESERVE_SECONDS
        try:
            async with asyncio.timeout(limit):
                await self._diffuse(run, plan, finish, lambda: keeper.settled)
        except (TimeoutError, DeadlineExceeded, ResourceExhausted):
            if not keeper.complete:
                raise
            return False
        except Unavailable as error:
            if not keeper.complete or plan.request.gate is Gate.ENFORCE:
                raise
            logger.warning("attempt %d could not be computed, the best before it leaves: %s", plan.attempt, error)
            return False
        return True

    async def _diffuse(self, run: _Run, plan: Plan, finish: Finish, enough: Callable[[], bool] = lambda: False) -> None:
        """Computes the pictures of a plan, and again if their runner is lost before anything of them was sent.

        Args:
            finish: Called with the position in the plan and the pixels of every picture.
            enough: Asked after every finished picture whether the others are not needed any more.
        """
        plan = replace(plan, instance=run.failover.instance(plan.instance))
        while True:
            try:
                return await self._diffuse_once(run, plan, finish, enough)
            except Unavailable as error:
                if run.computation.sent_bytes:
                    raise
                run.failover.check(error, plan.instance)
                run.computation.emit(Queued(0, plan.instance.status().restart_seconds))
                plan = replace(plan, instance=await run.failover.successor(error, plan.instance))

    async def _diffuse_once(self, run: _Run, plan: Plan, finish: Finish, enough: Callable[[], bool]) -> None:
        """Each picture is finished beside the steps of the next ones."""
        diffusion = Diffusion(plan, self._pool, run.computation.emit, run.computation.caller.account)
        tasks: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.TaskGroup() as group:

                async def finish_one(position: int, pixels: Pixels) -> None:
                    await finish(position, pixels)
                    if enough() and not diffusion.finished:
                        job.cancel()

                job = group.create_task(
                    diffusion.run(
                        lambda position, pixels: tasks.append(group.create_task(finish_one(position, pixels))),
                        run.computation.caller.remaining_seconds(),
                        self._objective(run, plan),
                    )
                )
        except ExceptionGroup as failures:
            raise _first_leaf(failures) from failures
        run.timings.accelerations = diffusion.accelerations
        if not enough() and any(task.cancelled() for task in (job, *tasks)):
            raise Cancelled("the work was cut off")  # not by us: its threads or its runner are being ended
        if job.cancelled():
            run.timings.sum_up(diffusion.timings_ms())
        else:
            run.timings.merge(job.result())

    def _objective(self, run: _Run, plan: Plan) -> float:
        """Seconds that are left to it; 0 where it does not count: for what was begun, it is too late to refuse."""
        if not self._objective_seconds or plan.attempt > 1 or run.failover.restarts:
            return 0.0
        return max(0.001, self._objective_seconds - run.computation.caller.elapsed_ms() / 1000)


def _send(computation: Computation, plan: Plan, picture: FinishedPicture) -> None:
    for event in picture_events(picture, plan):
        computation.emit(event)


def _completed(run: _Run, plan: Plan, attempts: int) -> Completed:
    timings, caller = run.timings, run.computation.caller
    exact = timings.exact and plan.request.reproducibility is Reproducibility.EXACT
    return Completed(
        generation_time_ms=caller.elapsed_ms(),
        timings_ms=timings.by_stage,
        cached=False,
        attempts=attempts,
        restarts=run.failover.restarts,
        reproducibility=Reproducibility.EXACT if exact else Reproducibility.BATCHED,
        model_used=timings.model_used or plan.model,
        model_version=plan.model_version,
        ignored_fields=(*plan.ignored_fields, *_without_effect(plan.request, timings.accelerations)),
        timestamp=time.time(),
        metadata=plan.request.metadata,
        usage=timings.usage,
        accelerations=timings.accelerations,
    )


def _without_effect(request: GenerateRequest, accelerations: tuple[str, ...]) -> Iterator[str]:
    """The accelerations that were asked for and that the model did not use."""
    for name in ("guidance_interval", "step_caching"):
        if getattr(request, name) is not None and name not in accelerations:
            yield name


def _first_leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
