"""What is wrong with an ensemble beside the models of its steps: unknown ones, circles, tensors that do not fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from atelier_server._generated.atelier.kserve.model_config_pb2 import DataType, ModelConfig, ModelInput, ModelOutput
from atelier_server.repository.ensemble import STEP, Problems, Step, is_ensemble, parts_of, steps_of

MAKES_PICTURES = "diffusion"


@dataclass(frozen=True, slots=True)
class Part:
    """A model of the repository as ensembles see it; `chosen` are the versions that it serves."""

    config: ModelConfig
    chosen: tuple[int, ...]


FindPart = Callable[[str], Part | None]
"""Looks a model up; None: there is none, or its config.pbtxt is wrong."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """A tensor between models: its type, its shape with the batch dimension, and who says so."""

    data_type: int
    shape: tuple[int, ...]
    by: str


def part_problems(config: ModelConfig, find: FindPart) -> Problems:
    """Checks a configuration that `ensemble_problems` found no fault in."""
    flows = {one.name: _Flow(one.data_type, _shape(one, config), "the ensemble") for one in config.input}
    steps = steps_of(config)
    for step in steps:
        part = find(step.model)
        if part is None:
            told = f"there is no model {step.model!r} with a good config.pbtxt in the repository"
            yield f"{STEP}[{step.index}].model_name", step.model, told
            return
        yield from _part_problems(config, step, part)
        for one in part.config.output:
            if one.name in step.outputs:
                flows[step.outputs[one.name]] = _Flow(one.data_type, _shape(one, part.config), step.label)
    circle = _circle(config, find, (config.name,))
    if circle:
        told = f"the ensemble leads back to itself: {' → '.join(circle)}"
        yield f"{STEP}.model_name", circle[1], told
        return
    yield from _flow_problems(config, steps, find, flows)


def _part_problems(config: ModelConfig, step: Step, part: Part) -> Problems:
    path, theirs = f"{STEP}[{step.index}]", part.config
    if theirs.parameters["role"].string_value == MAKES_PICTURES if "role" in theirs.parameters else False:
        yield f"{path}.model_name", step.model, f"{step.model!r} makes pictures; steps run models of tensors"
    if step.version and int(step.version) not in part.chosen:
        yield f"{path}.model_version", step.model, f"{step.model!r} does not serve version {step.version}"
    if 0 < theirs.max_batch_size < config.max_batch_size:
        told = f"is above the {theirs.max_batch_size} of {step.label}"
        yield "max_batch_size", "max_batch_size", told
    for field, mapped, known in (
        ("input_map", step.inputs, [one.name for one in theirs.input]),
        ("output_map", step.outputs, [one.name for one in theirs.output]),
    ):
        for name in mapped if known else ():
            if name not in known:
                told = f"{name!r} is no {field.removesuffix('_map')} of {step.model!r}, which has {', '.join(known)}"
                yield f"{path}.{field}", name, told
    missing = [one.name for one in theirs.input if not one.optional and one.name not in step.inputs]
    if missing:
        yield f"{path}.input_map", step.model, f"{step.label} needs its input {missing[0]!r} too"


def _circle(config: ModelConfig, find: FindPart, path: tuple[str, ...]) -> tuple[str, ...]:
    """The way from an ensemble through others back to itself; empty when there is none."""
    for name in parts_of(config):
        if name in path:
            return (*path, name)
        part = find(name)
        circle = _circle(part.config, find, (*path, name)) if part and is_ensemble(part.config) else ()
        if circle:
            return circle
    return ()


def _flow_problems(config: ModelConfig, steps: tuple[Step, ...], find: FindPart, flows: dict[str, _Flow]) -> Problems:
    for reader, path, tensor, want in _readers(config, steps, find):
        have = flows.get(tensor)  # None: it comes from a model that documents nothing
        if have is None:
            continue
        if have.data_type != want.data_type:
            names = DataType.Name(have.data_type), DataType.Name(want.data_type)
            yield path, tensor, f"{tensor!r} is {names[0]} from {have.by}, and {reader} takes {names[1]}"
        elif not _fits(have.shape, want.shape):
            told = f"{tensor!r} is {list(have.shape)} from {have.by}, and {reader} takes {list(want.shape)}"
            yield path, tensor, told


def _readers(config: ModelConfig, steps: tuple[Step, ...], find: FindPart) -> Iterator[tuple[str, str, str, _Flow]]:
    """(who reads, field, the ensemble's tensor, what it expects)."""
    for step in steps:
        part = find(step.model)
        for one in part.config.input if part else ():
            if part and one.name in step.inputs:
                want = _Flow(one.data_type, _shape(one, part.config), step.label)
                yield step.label, f"{STEP}[{step.index}].input_map", step.inputs[one.name], want
    for index, given in enumerate(config.output):
        want = _Flow(given.data_type, _shape(given, config), "the ensemble")
        yield "the ensemble's output", f"output[{index}]", given.name, want


def _shape(tensor: ModelInput | ModelOutput, config: ModelConfig) -> tuple[int, ...]:
    return (-1, *tensor.dims) if config.max_batch_size else tuple(tensor.dims)


def _fits(have: Sequence[int], want: Sequence[int]) -> bool:
    return len(have) == len(want) and all(-1 in pair or pair[0] == pair[1] for pair in zip(have, want, strict=True))
