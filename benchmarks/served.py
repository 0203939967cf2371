"""A server as an operator starts it, for the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(
    repository: Path, state: Path, models: Sequence[str] = ("starter",), flags: Sequence[str] = ()
) -> Iterator[str]:
    """Runs a server with these models, and further flags, for the time of the block; gives its address."""
    command = [sys.executable, "-m", "atelier_server", "serve", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "127.0.0.1:0", "--model-repository", str(repository), "--state-dir", str(state)]
    command += ["--log-level", "warning", "--drain-delay-seconds", "0"]
    for model in models:
        command += ["--load-model", model]
    command += flags
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("READY"):
            raise SystemExit("the server did not start")
        try:
            yield ready.split()[1].removeprefix("grpc=")
        finally:
            process.terminate()
            process.wait(60)
