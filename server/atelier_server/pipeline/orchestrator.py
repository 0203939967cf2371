"""The pipeline: validate → route → size → prompt → cache → diffuse → (resample → score → encode) → gate → deliver.

It owns the order of stages, the time budget, cancellation and partial results. Everything that callers hear of goes
through a computation's log; calls for the same work, resumed calls and the cache are readers of such logs.
"""

import asyncio
import json
import logging
import secrets
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass
from uuid import uuid4

from atelier_server.cache.cache import ResultCache
from atelier_server.errors import AtelierError, DeadlineExceeded, Internal, NotFound
from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.calls import Calls
from atelier_server.pipeline.computation import Computation
from atelier_server.pipeline.generation import Generation
from atelier_server.pipeline.keys import content_key, prompt_key, work_key
from atelier_server.pipeline.make import Maker
from atelier_server.pipeline.plan import Plan
from atelier_server.pipeline.planner import make_plan
from atelier_server.pipeline.prompt import PromptTemplates
from atelier_server.pipeline.recall import kept, told
from atelier_server.pipeline.route import Models, is_remote, may_go_elsewhere
from atelier_server.pipeline.safety import SafetyGate, WordGate
from atelier_server.pipeline.score import Scorer
from atelier_server.pipeline.validate import validated
from atelier_server.telemetry.tracing import link_to, span
from atelier_server.types import CachePolicy, GenerateRequest, OnDisconnect, Queued

logger = logging.getLogger(__name__)

LIKE_PATIENCE = 0.9
"""A call joins work that has at least this share of its own time left: of calls with one timeout the later ones always
have a little more."""
SEED_BITS = 32
"""Drawn seeds stay short enough for people to copy; callers may give 64 bits."""


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Longest silence on a call, events kept a computation, how long and how much finished work can be resumed.

    `objective_seconds` is within what time a call must be done or is refused; 0: no matter. `log_prompts` lets the log
    have what is asked for.
    """

    heartbeat_seconds: float = 8.0
    event_log_capacity: int = 256
    keep_seconds: float = 120.0
    keep_bytes: int = 256 * 1024 * 1024
    objective_seconds: float = 0.0
    log_prompts: bool = False


@dataclass(frozen=True, slots=True)
class _Keys:
    """Of the work, of its prompt whatever the seed, and the one to look up (None: compute)."""

    work: str
    prompt: str
    lookup: str | None


class Pipeline:
    """Makes generations of requests.

    Args:
        models: What is loaded.
        scorer: Judges finished pictures.
        templates: Words of styles and qualities.
        pool: Threads for resampling and encoding.
        cache: Finished work.
        limits: Times and sizes.
        safety: What may not be asked for and may not leave; None: the words that the templates refuse.
    """

    def __init__(
        self,
        models: Models,
        scorer: Scorer,
        templates: PromptTemplates,
        pool: ThreadPool,
        cache: ResultCache,
        limits: PipelineLimits,
        safety: SafetyGate | None = None,
    ) -> None:
        self._models = models
        self._scorer = scorer
        self._safety = safety or WordGate(templates.blocked)
        self._maker = Maker(models, pool, scorer, self._safety, limits.objective_seconds)
        self._templates = templates
        self._cache = cache
        self._limits = limits
        self._calls = Calls(limits.keep_seconds, limits.keep_bytes)
        self._running: set[Computation] = set()
        self._shared: dict[str, Computation] = {}

    @property
    def running(self) -> int:
        """Computations under way."""
        return len(self._running)

    async def start(self, request: GenerateRequest, caller: Caller) -> Generation:
        """Begins a generation, or joins one; its first event is in the log when this returns.

        Raises:
            InvalidArgument: A field is out of its range, or the prompt is refused (ModerationBlocked).
            AlreadyExists: The request_id was used for another request.
            NotFound, FailedPrecondition, Unavailable: The model or brand asked for is not there or not ready, the
                gate has no scorer, or there is nothing to resume.
        """
        request = validated(request)
        if self._limits.log_prompts:
            logger.info("asked for: %s", json.dumps([request.prompt, request.negative_prompt], ensure_ascii=False))
        self._safety.check_prompt(request)
        scorer_version = await self._scorer.admit(request) if request.score else ""
        # Nothing below may wait: equal calls must meet.
        request_id, content = request.request_id or uuid4().hex, content_key(request)
        computation = self._calls.find(caller.client, request_id, content)
        joined = False
        if computation is None:
            if request.resume_after_sequence:
                raise _nothing_to_resume(request_id)
            with span("route") as routed:
                plan = make_plan(request, self._models, self._templates, draw_seed)
                routed.set(model=plan.model, model_version=plan.model_version, pictures=len(plan.seeds))
            keys = self._keys(plan, scorer_version)
            computation = self._joinable(keys, plan, caller)
            joined = computation is not None
            computation = computation or self._begin(plan, keys, caller)
            self._calls.add(caller.client, request_id, content, computation)
        link_to(computation.trace)
        computation.attach(keep=request.on_disconnect is OnDisconnect.CONTINUE)
        return Generation(request, request_id, caller, computation, joined=joined)

    def _keys(self, plan: Plan, scorer_version: str) -> _Keys:
        versions = (scorer_version, self._templates.version)
        work, prompt = work_key(plan, *versions), prompt_key(plan, *versions)
        policy, seeded = plan.request.cache, plan.request.seed is not None
        lookup: str | None = None
        if policy is not CachePolicy.BYPASS and seeded:
            lookup = work
        elif policy is CachePolicy.REUSE:
            lookup = self._cache.newest_key(prompt) or prompt
        return _Keys(work, prompt, lookup)

    def _joinable(self, keys: _Keys, plan: Plan, caller: Caller) -> Computation | None:
        """Running work with the same result that has about as much time as this call, or more, and waits no longer."""
        computation = self._shared.get(keys.lookup) if keys.lookup else None
        if computation is None or computation.log.error is not None:
            return None
        if not computation.begun and computation.priority.weight < plan.request.priority.weight:
            return None
        theirs, ours = computation.caller.remaining_seconds(), caller.remaining_seconds()
        return computation if theirs is None or (ours is not None and LIKE_PATIENCE * ours <= theirs) else None

    def _begin(self, plan: Plan, keys: _Keys, caller: Caller) -> Computation:
        computation = Computation(caller, self._limits.event_log_capacity, plan.request.priority)
        computation.emit(Queued(plan.instance.status().waiting))
        self._running.add(computation)
        names = () if plan.request.cache is CachePolicy.BYPASS else (keys.work, keys.prompt)
        for name in names:
            self._shared[name] = computation
        computation.run(lambda running: self._serve(running, plan, keys), self._limits.heartbeat_seconds)
        computation.when_done(lambda: self._end(computation, names))
        return computation

    def _end(self, computation: Computation, names: tuple[str, ...]) -> None:
        self._running.discard(computation)
        for name in names:
            if self._shared.get(name) is computation:
                del self._shared[name]

    async def _serve(self, computation: Computation, planned: Plan, keys: _Keys) -> None:
        """Tells a kept result, or computes and keeps one; every failure ends the log."""
        plan = planned
        try:
            async with asyncio.timeout(computation.caller.remaining_seconds()):
                with span("generate", model=plan.model):
                    if await self._recall(computation, keys):
                        return
                    plan = await self._make(computation, plan)
        except TimeoutError:
            computation.log.fail(DeadlineExceeded("the deadline passed before the pictures were done"))
        except AtelierError as error:
            computation.log.fail(error)
        except Exception:
            logger.exception("a generation failed")
            computation.log.fail(Internal("the server failed to make this picture; its log has the details"))
        else:
            if plan is planned:  # what another model made is not what the keys stand for
                await self._keep(computation, plan, keys)

    async def _make(self, computation: Computation, plan: Plan) -> Plan:
        """Computes everything, by a local model where AUTO chose a service that failed; returns the plan in force."""
        try:
            await self._maker.make(computation, plan)
        except AtelierError as error:
            if (
                not is_remote(plan.instance)
                or computation.finished_picture
                or not may_go_elsewhere(plan.request, error)
            ):
                raise
            logger.warning("%s failed, AUTO takes a local model: %s", plan.model, error.message)
            failure = f"{plan.model} failed ({error.message})"
            try:
                plan = make_plan(plan.request, self._models, self._templates, draw_seed, failure)
            except AtelierError:
                raise error from None  # nothing else is ready: what the service said tells more
            await self._maker.make(computation, plan)
        return plan

    async def _recall(self, computation: Computation, keys: _Keys) -> bool:
        if not keys.lookup:
            return False
        with span("cache_lookup") as looked:
            result = await self._cache.get(keys.lookup)
            looked.set(hit=result is not None)
        if result is None:
            return False
        computation.from_cache = True
        for event in told(result):
            computation.emit(event)
        return True

    async def _keep(self, computation: Computation, plan: Plan, keys: _Keys) -> None:
        result = kept(computation.log.events())
        if result is not None and plan.request.cache is not CachePolicy.BYPASS:
            await self._cache.put(keys.work, keys.prompt, result)


def _nothing_to_resume(request_id: str) -> NotFound:
    return NotFound(
        f"no work of request_id {request_id} is running or kept: it failed, was too long ago, or is another server's; "
        "call again with resume_after_sequence 0",
        field="resume_after_sequence",
    )


def draw_seed() -> int:
    """A fresh seed from the system's randomness."""
    return secrets.randbits(SEED_BITS)
