"""What was decided for a call before any of it is computed."""

from dataclasses import dataclass

from atelier_server.executor.base import Executor
from atelier_server.pipeline.prompt import PromptPair
from atelier_server.types import Dimensions, GenerateRequest

REFINE_PART = 0.3
"""Of the steps that a second pass repeats; what it costs is charged by this."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that Started reports, and the instance that will compute it.

    `refine` is the size of a second pass, None without one. `seeds` has one entry a picture of the job; `indexes` tells
    which pictures of the request they are. An index that comes again is a further attempt at the same picture;
    `attempt` is the number of the first one.
    """

    request: GenerateRequest
    instance: Executor
    routing_reason: str
    prompts: PromptPair
    seeds: tuple[int, ...]
    delivered: Dimensions
    composed: Dimensions
    refine: Dimensions | None
    num_inference_steps: int
    guidance_scale: float
    noise_schedule: str
    ignored_fields: tuple[str, ...] = ()
    attempt: int = 1
    indexes: tuple[int, ...] = ()

    def attempt_of(self, position: int) -> int:
        """Which attempt the picture at this position of the job is."""
        return self.attempt + self.indexes[:position].count(self.indexes[position])

    @property
    def model(self) -> str:
        """Repository name of the model."""
        return self.instance.spec.name

    @property
    def model_version(self) -> str:
        """Its version folder."""
        return self.instance.spec.version


def pixel_steps(plan: Plan) -> float:
    """What a job of this plan costs: width × height × steps of all its pictures, both passes."""
    area = plan.composed.width * plan.composed.height
    refined = plan.refine.width * plan.refine.height * REFINE_PART if plan.refine else 0.0
    return (area + refined) * plan.num_inference_steps * len(plan.seeds)
