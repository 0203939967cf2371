"""Reads the parameters of RepositoryModelLoad and RepositoryModelUnload."""

from typing import Any

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import InvalidArgument
from atelier_server.repository.overrides import FILE, Override

CONFIG, UNLOAD_DEPENDENTS = "config", "unload_dependents"


def read_override(request: pb.RepositoryModelLoadRequest) -> Override | None:
    """The model that comes with the request; None where it is the repository's.

    Raises:
        InvalidArgument: A parameter is unknown or of the wrong kind, or files come without a configuration.
    """
    config, files = "", dict[str, bytes]()
    for name, parameter in request.parameters.items():
        if name == CONFIG:
            config = _typed(name, parameter, "string_param")
        elif name.startswith(FILE):
            files[name.removeprefix(FILE)] = _typed(name, parameter, "bytes_param")
        else:
            raise InvalidArgument(f"load takes no parameter '{name[:40]}'; it takes config and file:…", field=name[:40])
    if files and not config:
        raise InvalidArgument("files need the parameter config beside them: the model that they are", field=CONFIG)
    return Override(config, files) if CONFIG in request.parameters else None


def read_unload_dependents(request: pb.RepositoryModelUnloadRequest) -> bool:
    """Whether the models that an ensemble chains are to be unloaded with it.

    Raises:
        InvalidArgument: A parameter is unknown or of the wrong kind.
    """
    for name in request.parameters:
        if name != UNLOAD_DEPENDENTS:
            told = f"unload takes no parameter '{name[:40]}'; it takes {UNLOAD_DEPENDENTS}"
            raise InvalidArgument(told, field=name[:40])
    if UNLOAD_DEPENDENTS not in request.parameters:
        return False
    return bool(_typed(UNLOAD_DEPENDENTS, request.parameters[UNLOAD_DEPENDENTS], "bool_param"))


def _typed(name: str, parameter: pb.ModelRepositoryParameter, kind: str) -> Any:
    if parameter.WhichOneof("parameter_choice") != kind:
        told = f"parameter '{name[:100]}' must be of the kind {kind.removesuffix('_param')}"
        raise InvalidArgument(told, field=name[:100])
    return getattr(parameter, kind)
