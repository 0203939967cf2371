"""A model's config.pbtxt: Triton's ModelConfig text format, read strictly, so that a misspelt field is heard of."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from atelier_server._generated.atelier.kserve.model_config_pb2 import (
    ModelConfig,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
)
from atelier_server.errors import InvalidArgument
from atelier_server.repository.ensemble import Problems, ensemble_problems, is_ensemble

CONFIG_FILE = "config.pbtxt"
DTYPES = ("auto", "float32", "bfloat16", "float16")
ROLES = ("diffusion", "clip", "brand")
"""What the pipeline uses a model for; a model without a role is reached by its name only."""

_ALIASES = {"onnxruntime": "onnx", "onnxruntime_onnx": "onnx"}
"""What Triton calls our backends, as a backend or as a platform."""

_REFUSED = {
    "sequence_batching": "sequences are not supported",
    "batch_input": "tensors that are made of a batch are not supported",
    "batch_output": "tensors that are made of a batch are not supported",
    "model_operations": "custom operators would load code into the server and are not supported",
    "model_repository_agents": "repository agents would load code into the server and are not supported",
}


def read_model_config(path: Path) -> ModelConfig:
    """Reads and checks a config.pbtxt. A missing name is filled in with the folder's.

    Raises:
        InvalidArgument: It cannot be read or is wrong; the message gives file, line and field.
    """
    file = f"{path.parent.name}/{path.name}"  # callers see the message, and need not know where the repository lies
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InvalidArgument(f"{file} cannot be read: {why}", field=CONFIG_FILE) from None
    return parse_model_config(text, path.parent.name, file)


def parse_model_config(text: str, name: str, file: str = CONFIG_FILE) -> ModelConfig:
    """As `read_model_config`, of a text.

    Args:
        text: The content.
        name: The model's folder, which the field `name` may repeat but not contradict.
        file: How messages call it.
    """
    config = ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        message = re.sub(r"^\d+:\d+ : ", "", str(error))
        message = re.sub(r'(Message|Enum) type "inference\.([\w.]+)"', r"\2", message)
        raise InvalidArgument(f"{file}:{line or 1}:{column or 1}: {message}", field=CONFIG_FILE) from None
    return _checked(config, name, lambda *problem: problem_told(text, file, *problem))


def parse_model_config_json(text: str, name: str) -> ModelConfig:
    """As `parse_model_config`, of a configuration that came with a load request as JSON.

    Raises:
        InvalidArgument: It is no JSON of a ModelConfig, or wrong.
    """
    config = ModelConfig()
    try:
        json_format.Parse(text, config)
    except json_format.ParseError as error:
        told = re.sub(r'(Message|Enum) type "inference\.([\w.]+)"', r"\2", str(error))[:300]
        raise InvalidArgument(f"the parameter config is no ModelConfig in JSON: {told}", field="config") from None
    return _checked(config, name, lambda field, _, problem: f"the parameter config: {field}: {problem}")


def _checked(config: ModelConfig, name: str, told: Callable[[str, str, str], str]) -> ModelConfig:
    """Fills in what is left out, and refuses what is wrong; `told` puts a problem into words."""
    config.backend = _ALIASES.get(config.backend or config.platform, config.backend)
    for problem in _problems(config, name):
        raise InvalidArgument(told(*problem), field=problem[0])
    config.name = name
    return config


def problem_told(text: str, file: str, field: str, needle: str, problem: str) -> str:
    """A sentence that names file, line and field of what is wrong with a configuration."""
    return f"{file}:{_line_of(text, needle)}: {field}: {problem}"


def as_plain_data(config: ModelConfig) -> dict[str, Any]:
    """The configuration as JSON-like data with Triton's field names."""
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def parameters_of(config: ModelConfig) -> dict[str, str]:
    """The `parameters {}` as text."""
    return {key: value.string_value for key, value in config.parameters.items()}


def instance_devices(config: ModelConfig) -> tuple[str, ...]:
    """One device an instance: auto, cpu, cuda or cuda:N. Without instance_group: one instance, auto."""
    devices: list[str] = []
    for group in config.instance_group or [ModelInstanceGroup()]:
        kind = {ModelInstanceGroup.KIND_CPU: "cpu", ModelInstanceGroup.KIND_GPU: "cuda"}.get(group.kind, "auto")
        places = [f"cuda:{gpu}" for gpu in group.gpus] or [kind]
        devices += places * (group.count or 1)
    return tuple(devices)


def choose_versions(config: ModelConfig, present: tuple[int, ...]) -> tuple[int, ...]:
    """The versions to serve by the version policy, ascending; the default is the newest one."""
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return tuple(sorted(present))
        case "specific":
            return tuple(sorted(set(present) & set(policy.specific.versions)))
        case "latest":
            return tuple(sorted(present)[-policy.latest.num_versions :])
        case _:
            return tuple(sorted(present)[-1:])


def _problems(config: ModelConfig, name: str) -> Problems:
    if config.name and config.name != name:
        yield "name", "name", f"{config.name!r} differs from the folder's name {name!r}; leave it out"
    yield from ensemble_problems(config)
    if not is_ensemble(config) and not re.fullmatch(r"[a-z][a-z0-9_]*", config.backend):
        yield "backend", "backend", "name a backend, such as sdxl, onnx, openai or echo"
    given = {field.name for field, _ in config.ListFields()}
    for field, problem in _REFUSED.items():
        if field in given:
            yield field, field, problem
    if config.max_batch_size < 0:
        yield "max_batch_size", "max_batch_size", "must be 0 (no batch dimension) or more"
    if re.search(r"[/\\]|^\.\.?$", config.default_model_filename):
        yield "default_model_filename", "default_model_filename", "must be a file in the version's folder"
    yield from _serving_problems(config)
    yield from _version_policy_problems(config)
    yield from _tensor_problems(config)
    yield from _instance_problems(config)
    yield from _parameter_problems(config)


def _serving_problems(config: ModelConfig) -> Problems:
    """Of what a backend does with requests."""
    if config.model_warmup and config.backend != "onnx":
        yield (
            "model_warmup",
            "model_warmup",
            "models of the backend onnx take warm-up requests; others warm up by themselves",
        )
    if config.backend == "onnx" and config.model_transaction_policy.decoupled:
        yield "model_transaction_policy.decoupled", "decoupled", "a model of tensors gives one reply to a request"
    batching = config.dynamic_batching
    if batching.preserve_ordering:
        told = "replies may overtake each other; tell them apart by their id"
        yield "dynamic_batching.preserve_ordering", "preserve_ordering", told
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority_level <= levels:
        field = "dynamic_batching.default_priority_level"
        yield field, "priority_levels", f"must be one of the priority_levels, 1 to {levels}"
    for level in batching.priority_queue_policy:
        if not 1 <= level <= levels:
            field = "dynamic_batching.priority_queue_policy"
            yield field, "priority_queue_policy", f"level {level} is none of the priority_levels, 1 to {levels}"


def _version_policy_problems(config: ModelConfig) -> Problems:
    policy = config.version_policy
    chosen = policy.WhichOneof("policy_choice")
    if chosen == "latest" and policy.latest.num_versions < 1:
        yield "version_policy.latest.num_versions", "num_versions", "must be at least 1"
    if chosen == "specific" and (not policy.specific.versions or min(policy.specific.versions) < 1):
        yield "version_policy.specific.versions", "versions", "must name versions from 1 on"


def _tensor_problems(config: ModelConfig) -> Problems:
    lists: list[tuple[str, Sequence[ModelInput | ModelOutput]]] = [("input", config.input), ("output", config.output)]
    for field, tensors in lists:
        seen: set[str] = set()
        for index, tensor in enumerate(tensors):
            path, needle = f"{field}[{index}]", tensor.name or field
            if not tensor.name:
                yield f"{path}.name", needle, "a tensor needs a name"
            if tensor.name in seen:
                yield f"{path}.name", needle, f"{tensor.name!r} is there twice"
            seen.add(tensor.name)
            if not tensor.data_type:
                yield f"{path}.data_type", needle, f"{tensor.name!r} needs a data_type, such as TYPE_FP32"
            for unsupported in ("reshape", "is_shape_tensor", "allow_ragged_batch"):
                if unsupported in {field.name for field, _ in tensor.ListFields()}:
                    yield (
                        f"{path}.{unsupported}",
                        unsupported,
                        f"{tensor.name!r}: not supported here",
                    )
            if not tensor.dims or any(size != -1 and size < 1 for size in tensor.dims):
                yield f"{path}.dims", needle, f"{tensor.name!r} needs sizes from 1 on, or -1 for any size"


def _instance_problems(config: ModelConfig) -> Problems:
    for index, group in enumerate(config.instance_group):
        path = f"instance_group[{index}]"
        if group.count < 0:
            yield f"{path}.count", "count", "must be at least 1"
        if group.gpus and group.kind in (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL):
            yield f"{path}.gpus", "gpus", "only instances of KIND_GPU and KIND_AUTO have GPUs"
        if any(gpu < 0 for gpu in group.gpus):
            yield f"{path}.gpus", "gpus", "GPUs count from 0"


def _parameter_problems(config: ModelConfig) -> Problems:
    parameters = parameters_of(config)
    if parameters.get("role", ROLES[0]) not in ROLES:
        yield "parameters.role", "role", f"must be one of {', '.join(ROLES)}"
    if parameters.get("dtype", DTYPES[0]) not in DTYPES:
        yield "parameters.dtype", "dtype", f"must be one of {', '.join(DTYPES)}"
    if not re.fullmatch(r"\d{1,4}", parameters.get("threads", "0")):
        yield "parameters.threads", "threads", "must be a number of threads, or 0 for the backend's choice"
    for file in parameters.get("required_files", "").split():
        if Path(file).is_absolute() or ".." in Path(file).parts:
            yield "parameters.required_files", "required_files", f"{file!r} must lie in the version's folder"


def _line_of(text: str, needle: str) -> int:
    """The first line that holds the word, 1 where there is none. The parser keeps no positions of good fields."""
    pattern = re.compile(rf"\b{re.escape(needle)}\b")
    code = (line.split("#", 1)[0] for line in text.splitlines())
    return next((number for number, line in enumerate(code, 1) if pattern.search(line)), 1)
