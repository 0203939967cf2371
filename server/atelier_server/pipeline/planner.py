"""Decides everything about a call before any of it is computed."""

from collections.abc import Callable, Mapping

from atelier_server.errors import InvalidArgument
from atelier_server.pipeline.plan import Plan
from atelier_server.pipeline.prompt import PromptTemplates, engineered, spelled_out
from atelier_server.pipeline.route import Models, choose_model, is_remote
from atelier_server.pipeline.sizes import NativeSize, composed_size, delivered_size
from atelier_server.pipeline.tokens import token_counter
from atelier_server.pipeline.validate import LCM_MAX_STEPS
from atelier_server.types import (
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_STEPS,
    Dimensions,
    GenerateRequest,
    NoiseSchedule,
    Quality,
    Reproducibility,
    Style,
)


def make_plan(
    request: GenerateRequest,
    models: Models,
    templates: PromptTemplates,
    draw_seed: Callable[[], int],
    service_failure: str = "",
) -> Plan:
    """Resolves a validated request; `service_failure` as in choose_model.

    Raises:
        NotFound, FailedPrecondition, Unavailable: The model asked for is not there or not ready.
        InvalidArgument: The model asked for makes no pictures.
    """
    choice = choose_model(request, models, templates.routing, service_failure)
    if choice.instance.spec.parameters.get("role") != "diffusion":
        raise InvalidArgument(f"{choice.instance.spec.name} makes no pictures", field="model_name")
    facts, remote = choice.instance.status().facts, is_remote(choice.instance)
    delivered = delivered_size(request)
    composed = composed_size(delivered, _native_size(facts))
    seed = draw_seed() if request.seed is None else request.seed
    return Plan(
        request=request,
        instance=choice.instance,
        routing_reason=choice.reason,
        prompts=spelled_out(request, templates)
        if remote
        else engineered(request, templates, token_counter(choice.instance.spec.folder)),
        seeds=tuple(seed_of(seed, index) for index in range(request.num_images)),
        indexes=tuple(range(request.num_images)),
        delivered=delivered,
        composed=composed,
        refine=_refined_size(request, composed, bool(facts.get("can_refine"))),
        num_inference_steps=int(facts["default_steps"]) if remote else _steps(request, facts),
        guidance_scale=0.0 if remote else _guidance_scale(request),
        noise_schedule="" if remote else request.noise_schedule or "",
        ignored_fields=_ignored_by_services(request, facts) if remote else (),
    )


def seed_of(first_seed: int, index: int) -> int:
    """The seed of picture `index`: the first seed plus the index, within 64 bits."""
    return (first_seed + index) % 2**64


def _native_size(facts: Mapping[str, float]) -> NativeSize:
    return NativeSize(
        width=int(facts["native_width"]),
        height=int(facts["native_height"]),
        max_side=int(facts["max_side"]),
        multiple=int(facts["size_multiple"]),
    )


def _refined_size(request: GenerateRequest, composed: Dimensions, can_refine: bool) -> Dimensions | None:
    delivered = delivered_size(request)
    wanted = request.quality is Quality.ULTRA_HD and delivered.width > composed.width
    return delivered if wanted and can_refine else None


def _guidance_scale(request: GenerateRequest) -> float:
    return DEFAULT_GUIDANCE_SCALE if request.guidance_scale is None else request.guidance_scale


def _ignored_by_services(request: GenerateRequest, facts: Mapping[str, float]) -> tuple[str, ...]:
    """Fields that the caller set and that no image service takes."""
    is_set = {
        "seed": request.seed is not None,
        "num_inference_steps": request.num_inference_steps is not None,
        "guidance_scale": request.guidance_scale is not None,
        "noise_schedule": request.noise_schedule is not None,
        "reproducibility": request.reproducibility is not Reproducibility.BATCHED,
        "negative_prompt": request.style is Style.NONE and request.negative_prompt is not None,
        "preview": request.preview.every_n_steps > 0 and not facts.get("partial_images"),
    }
    return tuple(name for name, given in is_set.items() if given)


def _steps(request: GenerateRequest, facts: Mapping[str, float]) -> int:
    if request.num_inference_steps is not None:
        return request.num_inference_steps
    steps = int(facts.get("default_steps", DEFAULT_STEPS))
    return min(steps, LCM_MAX_STEPS) if request.noise_schedule is NoiseSchedule.LCM else steps
