"""Runs all benchmarks, each in a process of its own with a time limit, and draws the plots.

python benchmarks/run.py [PART …] [--quick]

PARTS are named below; without any all run, for about 25 minutes on two quiet cores. One that fails does not stop the
others. `--quick` makes one round of everything, to see that it works. Results are benchmarks/results/*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from common import RESULTS, ROOT, machine, write

QUICK = ROOT / "build" / "bench-quick"


@dataclass(frozen=True, slots=True)
class Part:
    """A script, its arguments, those of a quick run, the longest time it may take, and whether it stores its result.

    `only_asked` parts run when they are named, not with all.
    """

    script: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--rounds", "1")
    limit_seconds: float = 300.0
    writes: bool = False
    only_asked: bool = False


PARTS = {
    "single": Part("bench_single.py", limit_seconds=600, quick=("--rounds", "1", "--steps", "3"), writes=True),
    "throughput": Part("bench_throughput.py", limit_seconds=720, quick=("--rounds", "1", "--steps", "2"), writes=True),
    "mixed-compiled": Part("bench_mixed.py", ("--execution", "compiled"), ("--calls", "6"), 700, writes=True),
    "encode": Part("bench_encode.py", ("--rounds", "9")),
    "frontend": Part("bench_frontend.py", quick=("--rounds", "1", "--seconds", "2"), writes=True),
    "served": Part("bench_served.py", limit_seconds=420, quick=("--rounds", "1", "--steps", "3")),
    "start": Part("bench_start.py", limit_seconds=420, writes=True),
    "mixed-openvino": Part(
        "bench_mixed.py", ("--execution", "openvino", "--loads", "0.95"), ("--calls", "6"), 420, writes=True
    ),
    "event-loop": Part("bench_event_loop.py"),
    "cache": Part("bench_cache.py", quick=()),
    "gate": Part("bench_gate.py", quick=()),
    "levers": Part("bench_levers.py", limit_seconds=600, writes=True, only_asked=True),
    "lossy": Part("bench_lossy.py", limit_seconds=600, writes=True, only_asked=True),
    "gpu": Part(
        "bench_gpu.py",
        limit_seconds=5400,
        quick=("--rounds", "1", "--steps", "2", "--without-compiled"),
        writes=True,
        only_asked=True,
    ),
    "full-size": Part("bench_full.py", limit_seconds=2700, writes=True, only_asked=True),
}


def run(name: str, part: Part, quick: bool) -> str:
    """Runs a part; returns how it went."""
    command = [sys.executable, str(ROOT / "benchmarks" / part.script), *part.arguments, *(part.quick if quick else ())]
    print(f"== {name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    facts, begin, folder = machine(), time.perf_counter(), QUICK if quick else RESULTS
    # A group of its own, so that servers and peers that a part started end with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=part.limit_seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {part.limit_seconds:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        return f"failed with status {process.returncode}"
    if not part.writes:
        try:
            write(name, {"machine": facts, "figures": json.loads(output[output.index("{") :])}, folder)
        except ValueError:
            write(name, {"machine": facts, "figures": output.splitlines()}, folder)
    else:
        print(output, flush=True)
    return f"done in {time.perf_counter() - begin:.0f} s"


def main() -> None:
    """Runs, draws and tells how each part went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="one round of everything")
    options = parser.parse_args()
    strangers = set(options.parts) - set(PARTS)
    if strangers:
        parser.error(f"no such part: {', '.join(sorted(strangers))}; there are {', '.join(PARTS)}")
    if options.quick:  # in another folder: figures of one round are no results
        os.environ["BENCH_RESULTS"] = str(QUICK)
    chosen = options.parts or [name for name, part in PARTS.items() if not part.only_asked]
    ends = {}
    for name in chosen:
        ends[name] = run(name, PARTS[name], options.quick)
        if not options.quick:
            for script in ("plots.py", "page.py"):  # after every part: somebody may stop the rest
                subprocess.run([sys.executable, str(ROOT / "benchmarks" / script)], check=False)
    for name, end in ends.items():
        print(f"{name:16} {end}", file=sys.stderr)
    print(f"results: {QUICK if options.quick else RESULTS}", file=sys.stderr)
    sys.exit(any(not end.startswith("done") for end in ends.values()))


if __name__ == "__main__":
    main()
