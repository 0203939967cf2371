"""Which model makes the picture, and why. AUTO reads the prompt by the rules of prompts.toml of what is ready."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from atelier_server.errors import AtelierError, Unavailable
from atelier_server.executor.base import Executor
from atelier_server.pipeline.rules import LOCAL, OPENAI, Finding, RoutingRules, Verdict
from atelier_server.types import DEFAULT_GUIDANCE_SCALE, DEFAULT_STEPS, GenerateRequest, ModelChoice, Reproducibility

STARTER = "starter"
"""How the names of the shipped small models begin; they are taken only when nothing better is ready."""

STABLE_DIFFUSION_XL = "sdxl"
"""The repository name that stands for ModelChoice.STABLE_DIFFUSION_XL."""

OPENAI_IMAGES = "openai_images"
"""The repository name that stands for ModelChoice.DALL_E_3; DALL·E itself was retired, so `model_used` tells more."""

OPENAI_BACKEND = "openai"


NOT_DONE = frozenset(
    {
        "UPSTREAM_KEY_REFUSED",
        "UPSTREAM_QUOTA_SPENT",
        "UPSTREAM_RATE_LIMITED",
        "UPSTREAM_UNREACHABLE",
        "UPSTREAM_FAILED",
        "UPSTREAM_MODEL_UNKNOWN",
        "UPSTREAM_DOWN",
        "QUEUE_FULL",
        "COST_LIMIT",
        "SPEND_LIMIT",
    }
)
"""Failures of a paid service after which it surely has made, and billed, no picture."""


class Models(Protocol):
    """What routing needs of the registry."""

    def get(self, name: str, version: str = "") -> Executor:
        """The least loaded ready instance of a model, or an error that says why there is none. "": newest version."""

    def ready(self, role: str) -> Sequence[Executor]:
        """One ready instance of every model whose parameter `role` is this, in the order of the names."""

    async def successor(self, lost: Executor) -> Executor:
        """A ready instance of the same model and version, when there is one, or an error when none will come."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The instance and the reason, a sentence for the caller; `verdict` is what AUTO read."""

    instance: Executor
    reason: str
    verdict: Verdict | None = field(default=None)


def choose_model(request: GenerateRequest, models: Models, rules: RoutingRules, service_failure: str = "") -> Choice:
    """Chooses the instance for a request.

    Args:
        request: Whose prompt and fields decide.
        models: What is loaded.
        rules: How AUTO reads a prompt.
        service_failure: Why the paid service just failed to do it; AUTO then takes a local model.

    Raises:
        NotFound, FailedPrecondition, Unavailable: The model asked for is not there or not ready.
    """
    if request.model_name:
        instance = models.get(request.model_name, request.model_version)
        return Choice(instance, f"model_name asked for {request.model_name}")
    if request.model is ModelChoice.STABLE_DIFFUSION_XL:
        return Choice(models.get(STABLE_DIFFUSION_XL), "the call asked for Stable Diffusion XL")
    if request.model is ModelChoice.DALL_E_3:
        return Choice(models.get(OPENAI_IMAGES), f"the call asked for DALL·E 3, which {OPENAI_IMAGES} stands for")
    return _automatic(request, models, rules, service_failure)


def preferred(ready: Sequence[Executor]) -> Executor:
    """The first instance that is no starter, or the first one; `ready` is not empty."""
    return next((instance for instance in ready if not is_starter(instance)), ready[0])


def may_go_elsewhere(request: GenerateRequest, error: AtelierError) -> bool:
    """Whether AUTO may hand work to a local model: the service surely did not do it, and not for what was asked."""
    return not request.model_name and request.model is ModelChoice.AUTO and error.reason in NOT_DONE


def is_starter(instance: Executor) -> bool:
    """Whether its model is one of the small ones that are shipped."""
    return instance.spec.name.startswith(STARTER)


def is_remote(instance: Executor) -> bool:
    """Whether its model computes at a paid service."""
    return instance.spec.config.get("backend") == OPENAI_BACKEND


def _automatic(request: GenerateRequest, models: Models, rules: RoutingRules, service_failure: str) -> Choice:
    ready = models.ready("diffusion")
    if not ready:
        raise _nothing_ready()
    verdict = rules.judge(request.prompt, _set_fields(request))
    here = [instance for instance in ready if not is_remote(instance)]
    there = [instance for instance in ready if is_remote(instance)]
    if verdict.wanted == OPENAI:
        why_not = service_failure or _why_not_remote(request, models, there)
        if not why_not:
            return Choice(there[0], f"{_reason(verdict)}: {there[0].spec.name}", verdict)
        if here:
            instance = preferred(here)
            return Choice(instance, f"{_reason(verdict)}, but {why_not}: {_local(instance)}", verdict)
        raise Unavailable(f"only a paid model is ready, and {why_not}", reason="NO_MODEL_READY")
    if here:
        return Choice(preferred(here), f"{_reason(verdict)}: {_local(preferred(here))}", verdict)
    why_not = service_failure or _why_not_remote(request, models, there)
    if why_not:
        raise Unavailable(f"no local model is ready, and {why_not}", reason="NO_MODEL_READY", retry_after_seconds=5.0)
    return Choice(there[0], f"{_reason(verdict)}, but no local model is ready: {there[0].spec.name}", verdict)


def _reason(verdict: Verdict) -> str:
    """Names exactly the findings without which the choice would have been the other one."""
    kind = "OpenAI" if verdict.wanted == OPENAI else "a local model"
    scores = f"OpenAI {verdict.scores[OPENAI]:g}, local {verdict.scores[LOCAL]:g}"
    if not verdict.decisive:
        return f"nothing in the call asks for OpenAI ({scores})"
    named = " and ".join(_named(found) for found in verdict.decisive)
    return f"{named} speaks for {kind} ({scores})"


def _named(found: Finding) -> str:
    return f"{found.says} ({found.words!r})" if found.words else found.says


def _local(instance: Executor) -> str:
    if is_starter(instance):
        more = "`atelier-server models fetch sdxl` adds a larger one"
        return f"only the starter model {instance.spec.name} is ready; {more}"
    return f"{instance.spec.name} is ready on this server"


def _set_fields(request: GenerateRequest) -> dict[str, str]:
    """The fields that a caller set and only a local model honours."""
    usual = (None, DEFAULT_STEPS), (None, DEFAULT_GUIDANCE_SCALE), (None,), (None,), (None,)
    sampling = (
        *(request.num_inference_steps, request.guidance_scale, request.noise_schedule),
        *(request.guidance_interval, request.step_caching),
    )
    given = {
        "seed": (request.seed is not None, "the seed that was set"),
        "reproducibility": (request.reproducibility is Reproducibility.EXACT, "exact reproducibility"),
        "sampling": (
            any(one not in known for one, known in zip(sampling, usual, strict=True)),
            "the steps, guidance or noise schedule that were set",
        ),
        "preview": (request.preview.every_n_steps > 0, "previews of the steps"),
        "brand": (bool(request.brand_id), "a precise brand"),
    }
    return {name: says for name, (is_set, says) in given.items() if is_set}


def _why_not_remote(request: GenerateRequest, models: Models, there: Sequence[Executor]) -> str:
    """Why OpenAI cannot be taken; empty when it can."""
    if not there:
        try:
            models.get(OPENAI_IMAGES)
        except AtelierError as error:
            return f"{OPENAI_IMAGES} is not ready ({error.message})"
        return f"{OPENAI_IMAGES} makes no pictures"
    facts = there[0].status().facts
    cost = facts.get(f"picture_usd_{request.quality.value}", 0.0) * request.num_images
    most, left = facts.get("max_cost_per_call_usd", 0.0), facts.get("budget_left_usd")
    if most and cost > most:
        return f"the call would cost about ${cost:.2f} there, more than the ${most:.2f} that a call may"
    if left is not None and cost > left:
        return f"the day's budget for it is spent (${max(left, 0.0):.2f} left)"
    return ""


def _nothing_ready() -> Unavailable:
    return Unavailable(
        "no image model is ready: ask Health which are loading, or start the server with a model repository",
        reason="NO_MODEL_READY",
        retry_after_seconds=2.0,
    )
