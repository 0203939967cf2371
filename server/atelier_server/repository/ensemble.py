"""Ensembles: models that are chains of others, by Triton's ensemble_scheduling; what config.pbtxt alone tells."""

from collections.abc import Iterator
from dataclasses import dataclass

from atelier_server._generated.atelier.kserve.model_config_pb2 import ModelConfig

PLATFORM = "ensemble"
"""The platform of a model that is a chain of others."""
STEP = "ensemble_scheduling.step"

Problems = Iterator[tuple[str, str, str]]
"""(field, the word to look for in the text, what is wrong with it)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One model of the chain.

    `inputs` and `outputs` map the model's tensors to the ensemble's; `version` "" is the newest one. `after` are the
    steps whose outputs it reads, by index.
    """

    index: int
    model: str
    version: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    after: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"step {self.index} ('{self.model}')"


def is_ensemble(config: ModelConfig) -> bool:
    """Whether the model is a chain of others."""
    return config.HasField("ensemble_scheduling")


def parts_of(config: ModelConfig) -> tuple[str, ...]:
    """The models of the chain, each once; empty for other models."""
    return tuple(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step))


def steps_of(config: ModelConfig) -> tuple[Step, ...]:
    """The steps in the order of config.pbtxt, which need not be that of the data."""
    numbered = list(enumerate(config.ensemble_scheduling.step))
    written = {tensor: index for index, step in numbered for tensor in step.output_map.values()}
    return tuple(
        Step(
            index,
            step.model_name,
            str(step.model_version) if step.model_version > 0 else "",
            dict(step.input_map),
            dict(step.output_map),
            tuple(sorted({written[tensor] for tensor in step.input_map.values() if tensor in written})),
        )
        for index, step in numbered
    )


def in_order(steps: tuple[Step, ...]) -> list[Step]:
    """The steps so that each comes after those that it reads from; those of a circle are left out."""
    ordered: list[Step] = []
    done: set[int] = set()
    while fresh := [step for step in steps if step.index not in done and done.issuperset(step.after)]:
        ordered += fresh
        done.update(step.index for step in fresh)
    return ordered


def ensemble_problems(config: ModelConfig) -> Problems:
    """What is wrong with the ensemble, as far as it can be told without its models."""
    if (config.platform == PLATFORM) != is_ensemble(config):
        yield "platform", "platform", f'platform "{PLATFORM}" and ensemble_scheduling go together'
    if not is_ensemble(config):
        return
    if config.backend:
        yield "backend", "backend", "an ensemble has no backend; leave it out"
    for field in ("instance_group", "model_warmup"):
        if getattr(config, field):
            yield field, field, "an ensemble has no instances of its own; set it in the models of its steps"
    if config.response_cache.enable:
        yield (
            "response_cache",
            "response_cache",
            "answers of an ensemble are not kept, since its models change under it",
        )
    if not config.ensemble_scheduling.step:
        yield STEP, "ensemble_scheduling", "needs at least one step"
    steps = steps_of(config)
    for step in steps:
        yield from _step_problems(config, step)
    yield from _tensor_problems(config, steps)
    circle = [step for step in steps if step not in in_order(steps)]
    if circle:
        labels = ", ".join(step.label for step in circle)
        yield (
            f"{STEP}[{circle[0].index}]",
            circle[0].model,
            f"a circle waits for its own outputs: {labels}",
        )


def _step_problems(config: ModelConfig, step: Step) -> Problems:
    path, needle = f"{STEP}[{step.index}]", step.model or "step"
    if not step.model:
        yield f"{path}.model_name", needle, "name the model of the step"
    if config.ensemble_scheduling.step[step.index].model_version < -1:
        yield f"{path}.model_version", needle, "must be a version, or -1 for the newest"
    for field, mapped in (("input_map", step.inputs), ("output_map", step.outputs)):
        if not mapped:
            yield f"{path}.{field}", needle, f"{step.label} needs an {field}: the model's tensor to the ensemble's"
        for key, value in mapped.items():
            if not key or not value:
                yield f"{path}.{field}", needle, f"{step.label} maps {key!r} to {value!r}; both need a name"


def _tensor_problems(config: ModelConfig, steps: tuple[Step, ...]) -> Problems:
    writers = {tensor.name: "the request" for tensor in config.input}
    for step in steps:
        path = f"{STEP}[{step.index}].output_map"
        for tensor in step.outputs.values():
            if tensor in writers:
                yield path, tensor, f"{step.label} writes {tensor!r}, which comes from {writers[tensor]} already"
            writers[tensor] = step.label
    for step in steps:
        for tensor in step.inputs.values():
            if tensor not in writers:
                told = f"{step.label} reads {tensor!r}, which no step writes and which is no input of the ensemble"
                yield f"{STEP}[{step.index}].input_map", tensor, told
    yield from _edge_problems(config, steps)


def _edge_problems(config: ModelConfig, steps: tuple[Step, ...]) -> Problems:
    """Of the ensemble's own inputs and outputs."""
    read = {tensor for step in steps for tensor in step.inputs.values()}
    written = {tensor for step in steps for tensor in step.outputs.values()}
    for index, given in enumerate(config.input):
        if given.optional:
            yield f"input[{index}].optional", given.name, "inputs of an ensemble cannot be left out"
        if given.name not in read:
            yield f"input[{index}].name", given.name, f"no step reads {given.name!r}"
    for index, wanted in enumerate(config.output):
        if wanted.name not in written:
            yield f"output[{index}].name", wanted.name, f"no step writes {wanted.name!r}"
    for field in ("input", "output"):
        if not getattr(config, field):
            yield field, "ensemble_scheduling", f"an ensemble documents its {field}s"
