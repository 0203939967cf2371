"""Reads the parameters of requests and tensors."""

from collections.abc import Mapping

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import InvalidArgument

Parameters = Mapping[str, pb.InferParameter]
MAX_SECONDS = 10.0**9


def whole_number(parameters: Parameters, name: str, default: int = 0) -> int:
    """An int64 or uint64; the default when it is not there.

    Raises:
        InvalidArgument: It is negative or of another kind.
    """
    if name not in parameters:
        return default
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = int(getattr(parameter, kind)) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise InvalidArgument(f"parameter '{name}' must be a whole number from 0 on", field=name)
    return value


def word(parameters: Parameters, name: str) -> str:
    """A string.

    Raises:
        InvalidArgument: It is of another kind, or not there.
    """
    if name not in parameters or parameters[name].WhichOneof("parameter_choice") != "string_param":
        raise InvalidArgument(f"parameter '{name}' must be a string", field=name)
    return str(parameters[name].string_param)


def flag(parameters: Parameters, name: str) -> bool:
    """A bool; False when it is not there.

    Raises:
        InvalidArgument: It is of another kind.
    """
    if name not in parameters:
        return False
    if parameters[name].WhichOneof("parameter_choice") != "bool_param":
        raise InvalidArgument(f"parameter '{name}' must be true or false", field=name)
    return bool(parameters[name].bool_param)


def timeout_seconds(parameters: Parameters) -> float | None:
    """The reserved parameter `timeout`, which counts microseconds; None without one (or 0)."""
    microseconds = whole_number(parameters, "timeout")
    return min(microseconds / 1e6, MAX_SECONDS) if microseconds else None


def tensor_priority(parameters: Parameters) -> int:
    """The reserved parameter `priority` for a tensor model, 1 the highest; 0 without one, or for one that is too large.

    Which levels there are is for the model's configuration to say.
    """
    number = whole_number(parameters, "priority")
    return number if number < 2**32 else 0


def parameter_of(value: bool | int | float | str) -> pb.InferParameter:
    """A parameter of the value's kind."""
    match value:
        case bool():
            return pb.InferParameter(bool_param=value)
        case int():
            return pb.InferParameter(int64_param=value)
        case float():
            return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)
