"""The command line of a runner, written and read in one place.

What an operator wants to see in `ps` (model, version, backend, folder) stands on the command line; the rest of the
model's description is JSON in an environment variable. Neither ever holds a secret.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier_server.backends.base import ModelSpec

SPEC_VARIABLE = "ATELIER_RUNNER_SPEC"


@dataclass(frozen=True, slots=True)
class Command:
    """What a runner is told; `parent_fd` is the reading end of a pipe that its parent holds open, -1 for none."""

    spec: ModelSpec
    backend: str
    socket: Path
    parent_fd: int = -1


def arguments(command: Command) -> list[str]:
    """The arguments behind `python -m atelier_server.runner`."""
    spec = command.spec
    return [
        spec.name,
        f"--version={spec.version}",
        f"--backend={command.backend}",
        f"--folder={spec.folder}",
        f"--socket={command.socket}",
        f"--parent-fd={command.parent_fd}",
    ]


def spec_variable(spec: ModelSpec) -> str:
    """The value of the environment variable SPEC_VARIABLE."""
    rest = {
        "parameters": dict(spec.parameters),
        "config": dict(spec.config),
        "device": spec.device,
        "dtype": spec.dtype,
        "threads": spec.threads,
        "derived_folder": spec.derived_folder,
        "compile": spec.compile,
    }
    return json.dumps(rest)


def parse(argv: Sequence[str], variable: str) -> Command:
    """Reads both back; an empty variable means a model without parameters.

    Raises:
        SystemExit: The command line is wrong; the usage is printed.
    """
    parser = argparse.ArgumentParser(prog="python -m atelier_server.runner", description="Runs one model instance.")
    parser.add_argument("model", help="its name in the model repository")
    parser.add_argument("--version", required=True, help="its version")
    parser.add_argument("--backend", required=True, help="the kind of model: sdxl, onnx, echo")
    parser.add_argument("--folder", required=True, type=Path, help="the version's folder")
    parser.add_argument("--socket", required=True, type=Path, help="path of the Unix socket to serve on")
    parser.add_argument("--parent-fd", type=int, default=-1, help="exit when this pipe is closed")
    args = parser.parse_args(argv)
    try:
        rest = json.loads(variable or "{}")
        spec = ModelSpec(args.model, args.version, args.folder, **rest)
    except (ValueError, TypeError) as error:
        parser.error(f"{SPEC_VARIABLE} is no model description: {error}")
    return Command(spec, args.backend, args.socket, args.parent_fd)
