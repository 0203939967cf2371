"""A server as an operator starts it, for the benchmarks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common import ROOT

DERIVED = ROOT / "build" / "bench-derived"


@contextmanager
def served(
    repository: Path,
    state: Path,
    models: Sequence[str] = ("starter",),
    flags: Sequence[str] = (),
    derived: Path | None = DERIVED,
) -> Iterator[str]:
    """Runs a server with these models, and further flags, for the time of the block; gives its address.

    What it compiles or converts is kept in `derived`, shared by all benchmarks, so that it is done once; None: in its
    state directory.
    """
    if derived is not None:
        state.mkdir(parents=True, exist_ok=True)
        derived.mkdir(parents=True, exist_ok=True)
        if not (state / "derived").exists():
            (state / "derived").symlink_to(derived)
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
