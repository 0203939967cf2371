"""How long a start takes, and how much memory each process holds then and at most during a picture.

python benchmarks/bench_start.py [--rounds 5]

The starter alone by torch, by OpenVINO at its first start (it is converted) and at later ones, and all starter models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from calling import Caller
from repositories import starter_with
from served import served

from common import ROOT, machine, summary, write

ALL = ("starter", "starter_clip", "starter_brand")


def start(repository: Path, state: Path, models: tuple[str, ...]) -> tuple[float, dict[str, Any]]:
    """Seconds to READY, and the memory of the processes in MiB: after the start, and at most in a picture's time."""
    begin = time.perf_counter()
    with served(repository, state, models, derived=None) as address:
        seconds = time.perf_counter() - begin
        after = memory()
        Caller(address).make(25, 128)
        peaks = {name: round(peak) for name, (_, peak) in memory().items()}
    return seconds, {"after start": {name: round(now) for name, (now, _) in after.items()}, "at most": peaks}


def memory() -> dict[str, tuple[float, float]]:
    """Resident MiB now and at most, by process: the server and each runner."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if "atelier_server.runner" in command:
            name = f"runner {command[command.index('atelier_server.runner') + 1]}"
        elif "atelier_server" in command:
            name = "server"
        else:
            continue
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        found[name] = (process.memory_info().rss / 2**20, peak / 2**10)
    return found


def importing(module: str) -> float:
    """Seconds of a new Python process that imports a module."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    facts = machine()
    seconds: dict[str, list[float]] = {}
    held: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "torch").mkdir()
        (base / "openvino").mkdir()
        plain = starter_with(base / "torch", execution="torch", compile="off")
        openvino = starter_with(base / "openvino", execution="openvino")
        for number in range(options.rounds):
            ways = {
                "starter, torch": (plain, base / "state", ("starter",)),
                "starter, openvino, first start": (openvino, base / f"state{number}", ("starter",)),
                "starter, openvino, later": (openvino, base / f"state{number}", ("starter",)),
                "all starter models, torch": (ROOT / "models", base / "state", ALL),
            }
            for name, (repository, state, models) in ways.items():
                taken, held[name] = start(repository, state, models)
                seconds.setdefault(name, []).append(taken)
                print(f"{name}: {taken:.1f} s", file=sys.stderr, flush=True)
            seconds.setdefault("import atelier_server", []).append(importing("atelier_server"))
            seconds.setdefault("import atelier_server.cli", []).append(importing("atelier_server.cli"))
    write(
        "start",
        {
            "machine": facts,
            "seconds to READY": {name: summary(values) for name, values in seconds.items()},
            "resident MiB": held,
        },
    )


if __name__ == "__main__":
    main()
