"""Pictures per second served at 1 to 16 calls at once, against diffusers one after another and PyTriton around it.

python benchmarks/bench_throughput.py [--steps 25 --rounds 5 --concurrency 1 2 4 8 16]

Servers and peers are all loaded and take turns in every round. Beside it: the same engine without a server at 8 at
once, and what a call alone takes beyond computing and encoding.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from calling import Caller
from field import Contender, contender
from repositories import starter_by
from served import served

from common import ROOT, STARTER, machine, ratios, summary, write

SIDE = 128
MANY = 8
LONE_CALLS = 20
PYTRITON = ROOT / "build" / "venv-pytriton" / "bin" / "python"
TRITON_CLIENT = ROOT / "build" / "venv-tritonclient" / "bin" / "python"
PYTRITON_PORT = 18431
COMPUTED = ("encode_text", "denoise", "decode", "encode_image")


@contextmanager
def pytriton(dtype: str) -> Iterator[Contender]:
    """PyTriton around the pipeline, and a process that calls it."""
    site = next((ROOT / ".venv" / "lib").glob("python3*/site-packages"))
    command = [str(PYTRITON), str(ROOT / "benchmarks" / "peer_pytriton.py"), str(STARTER), dtype, str(PYTRITON_PORT)]
    load = [str(TRITON_CLIENT), str(ROOT / "benchmarks" / "peer_pytriton_load.py"), f"127.0.0.1:{PYTRITON_PORT}"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([*command, str(site)], stdout=log, stderr=log)
        caller = subprocess.Popen(load, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield Contender(f"pytriton-{dtype}", caller)
        finally:
            for process in (caller, server):
                process.terminate()
                process.wait()


@contextmanager
def server(execution: str, dtype: str) -> Iterator[Caller]:
    """A server with the starter alone."""
    with tempfile.TemporaryDirectory() as folder:
        repository = starter_by(Path(folder), execution, dtype)
        with served(repository, Path(folder) / "state") as address:
            yield Caller(address)


def lone(caller: Caller, steps: int) -> dict[str, Any]:
    """Milliseconds of calls one after another beyond text, UNet, VAE and file encoding, by the reply's own timings."""
    beyond, whole = [], []
    for _ in range(LONE_CALLS):
        seconds, result = caller.call(steps, SIDE)
        beyond.append(1000 * seconds - sum(result.timings_ms.get(stage, 0.0) for stage in COMPUTED))
        whole.append(1000 * seconds)
    return {"call_ms": summary(whole), "beyond_computing_and_encoding_ms": summary(beyond), "stages": result.timings_ms}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Takes turns round by round."""
    dtypes = ("float32", "bfloat16")
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        callers = {
            f"served-{execution}-{dtype}": stack.enter_context(server(execution, dtype))
            for execution in options.executions
            for dtype in dtypes
        }
        peers = [stack.enter_context(contender(f"diffusers-{dtype}", STARTER, SIDE)) for dtype in dtypes]
        if PYTRITON.is_file() and TRITON_CLIENT.is_file():
            tritons = [stack.enter_context(pytriton("float32"))]
        else:
            tritons = []
            print("SKIPPED pytriton: its environment is not made (make bench-peers)", file=sys.stderr)
        engines = [
            stack.enter_context(contender(f"atelier-{one}-bfloat16", STARTER, SIDE)) for one in options.executions
        ]

        def note(name: str, taken: float, number: int) -> None:
            if number:  # the first round warms up
                seconds.setdefault(name, []).append(taken)

        for number in range(options.rounds + 1):
            print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
            for peer in peers:
                note(f"{peer.kind} one after another", peer.make(options.steps, SIDE), number)
            for triton in tritons:
                note(f"{triton.kind} at {MANY}", triton.make(options.steps, SIDE, MANY) / MANY, number)
            for one in engines:
                note(f"{one.kind} engine at {MANY}", one.make(options.steps, SIDE, MANY) / MANY, number)
            for name, caller in callers.items():
                for count in options.concurrency if name.endswith("bfloat16") else [MANY]:
                    note(f"{name} at {count}", caller.make(options.steps, SIDE, count) / count, number)
        alone = {name: lone(caller, options.steps) for name, caller in callers.items() if name.endswith("bfloat16")}
    return {"seconds a picture": seconds, "alone": alone}


def against(seconds: dict[str, list[float]], executions: list[str]) -> dict[str, Any]:
    """The lines that were set as goals."""
    lines: dict[str, Any] = {}
    for execution in executions:
        ours = seconds[f"served-{execution}-bfloat16 at {MANY}"]
        for peer in seconds:
            if peer.startswith(("diffusers", "pytriton")):
                lines[f"{execution}: {MANY} at once, times faster than {peer}"] = ratios(seconds[peer], ours)
        engine = seconds[f"atelier-{execution}-bfloat16 engine at {MANY}"]
        lines[f"{execution}: served over in-process throughput at {MANY}"] = ratios(engine, ours)
    return lines


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--executions", nargs="+", default=["compiled", "openvino"])
    parser.add_argument("--name", default="throughput")
    options = parser.parse_args()
    facts = machine()
    measured = measure(options)
    seconds = measured["seconds a picture"]
    write(
        options.name,
        {
            "machine": facts,
            "work": {"steps": options.steps, "side": SIDE},
            "seconds a picture": {name: summary(values) for name, values in seconds.items()},
            "goals": against(seconds, options.executions),
            "calls one after another": measured["alone"],
        },
    )


if __name__ == "__main__":
    main()
