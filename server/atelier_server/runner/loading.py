"""Finds the code of a backend by its name."""

import importlib
import re
from collections.abc import Callable

from atelier_server.backends.base import Backend, ModelSpec
from atelier_server.errors import FailedPrecondition


def backend_factory(name: str, spec: ModelSpec) -> Callable[[], Backend]:
    """A function that imports `atelier_server.backends.<name>` and calls its `create(spec)`.

    Nothing is imported before it is called. The module must be that backend's own, so a runner of an ONNX model
    never loads torch.

    Raises (when called):
        FailedPrecondition: There is no such backend, or a library that it needs is not installed.
    """

    def create() -> Backend:
        module_name = f"atelier_server.backends.{name}"
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name == "base":
            raise FailedPrecondition(f"There is no backend named {name!r}; see docs for those that exist.")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name == module_name:
                raise FailedPrecondition(
                    f"There is no backend named {name!r}; see docs for those that exist."
                ) from None
            message = f"Backend {name} needs the Python package {error.name}; install it beside the server."
            raise FailedPrecondition(message) from error
        backend: Backend = module.create(spec)
        return backend

    return create
