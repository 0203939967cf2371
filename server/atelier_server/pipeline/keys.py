"""What makes two calls the same work: a digest of everything that the pictures, scores and events depend on."""

from dataclasses import replace

from atelier_server.pipeline.digest import digest, model_digest
from atelier_server.pipeline.plan import Plan
from atelier_server.types import CachePolicy, GenerateRequest, OnDisconnect, Priority


def work_key(plan: Plan, scorer_version: str, templates_version: str) -> str:
    """64 hexadecimal digits; equal for calls that one computation can serve."""
    instance = plan.instance
    return digest(
        {
            "request": _without_callers_own(plan.request),
            "seeds": plan.seeds,
            "prompts": plan.prompts,
            "sizes": [str(plan.delivered), str(plan.composed), str(plan.refine)],
            "steps": [plan.num_inference_steps, plan.guidance_scale, plan.noise_schedule],
            "model": [plan.model, plan.model_version, model_digest(instance), instance.status().dtype],
            "parameters": dict(instance.spec.parameters),
            "scorers": scorer_version,
            "templates": templates_version,
        }
    )


def prompt_key(plan: Plan, scorer_version: str, templates_version: str) -> str:
    """As `work_key`, whatever the seeds."""
    return work_key(replace(plan, seeds=()), scorer_version, templates_version)


def content_key(request: GenerateRequest) -> str:
    """What a caller asked for, so that a request_id is used for one content only."""
    return digest(replace(request, resume_after_sequence=0))


def _without_callers_own(request: GenerateRequest) -> GenerateRequest:
    """The request without the fields that change nothing of the result; seeds are in the plan."""
    return replace(
        request,
        seed=None,
        metadata={},
        request_id="",
        resume_after_sequence=0,
        priority=Priority.NORMAL,
        on_disconnect=OnDisconnect.CANCEL,
        cache=CachePolicy.USE,
    )
