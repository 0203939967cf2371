"""Throughput and latency of ModelInfer on a CLIP's image tower, beside the real Triton (PyTriton) with the same graph.

Both compute by onnxruntime with the same threads and instances, batch up to 32 rows without delay, and are asked by the
same client, in turns, so that a noisy machine is noisy for both. `make bench-kserve` installs what it needs.

A table goes to stderr while it measures; one JSON object to stdout at the end, with median, least and greatest of the
rounds, and the machine's load before and after: figures of a machine that does other work say little.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "build" / "venv-tritonclient" / "bin" / "python"
PYTRITON = ROOT / "build" / "venv-pytriton" / "bin" / "python"
MODEL = "starter_clip"
GOAL, GOAL_AT = 1.0, (8, 32)
START_SECONDS = 120.0
WARM_UP_SECONDS = 1.0
MEASURED = ("per_second", "p50_ms", "p95_ms")

Facts = dict[str, Any]


def main() -> None:
    """Measures in turns; prints a table as it goes and JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each server and concurrency")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=1, help="threads of onnxruntime in each instance")
    parser.add_argument("--instances", type=int, default=1)
    options = parser.parse_args()
    graph = ROOT / "models" / MODEL / "1" / "vision.onnx"
    began = os.getloadavg()
    with (
        ours(options.threads, options.instances) as atelier,
        pytriton(graph, options.threads, options.instances) as triton,
    ):
        servers = {"atelier": atelier, "triton": triton}
        tell(f"{'concurrency':>11}  {'server':8} {'pictures/s':>10} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>6}")
        results = [compare(servers, graph, concurrency, options) for concurrency in options.concurrency]
    missed = [one["concurrency"] for one in results if one["concurrency"] in GOAL_AT and one["ratio"]["median"] < GOAL]
    facts = {
        "model": f"{MODEL} vision tower",
        "options": vars(options),
        "machine": machine() | {"load_average_before": began, "load_average_after": os.getloadavg()},
        "versions": versions(),
        "results": results,
        "goal": {"ratio": GOAL, "at": GOAL_AT, "missed_at": missed},
    }
    print(json.dumps(facts, indent=2))


def compare(servers: dict[str, str], graph: Path, concurrency: int, options: argparse.Namespace) -> Facts:
    """Rounds in turns against both servers; `ratio` is ours over Triton's pictures per second, by pairs of rounds."""
    rounds: dict[str, list[Facts]] = {name: [] for name in servers}
    for address in servers.values():
        load(address, graph, concurrency, WARM_UP_SECONDS)
    for _ in range(options.rounds):
        for name, address in servers.items():
            rounds[name].append(load(address, graph, concurrency, options.seconds))
    if not np.allclose(rounds["atelier"][0]["embedding"], rounds["triton"][0]["embedding"], rtol=1e-3, atol=1e-4):
        sys.exit("the two servers gave different embeddings")
    facts = {name: {key: spread([one[key] for one in of]) for key in MEASURED} for name, of in rounds.items()}
    pairs = zip(rounds["atelier"], rounds["triton"], strict=True)
    ratio = spread([mine["per_second"] / theirs["per_second"] for mine, theirs in pairs])
    for name, measured in facts.items():
        rate, p50, p95 = (measured[key]["median"] for key in MEASURED)
        shown = f"{ratio['median']:5.2f}×" if name == "atelier" else ""
        tell(f"{concurrency:>11}  {name:8} {rate:>10.1f} {p50:>8.1f} {p95:>8.1f} {shown:>6}")
    return {"concurrency": concurrency, "ratio": ratio} | facts


def spread(values: list[float]) -> Facts:
    """Median, least and greatest."""
    middle = statistics.median(values)
    return {"median": round(middle, 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def machine() -> Facts:
    """What it ran on."""
    return {"cpus": os.cpu_count(), "usable_cpus": len(os.sched_getaffinity(0)), "architecture": platform.machine()}


def versions() -> dict[str, str]:
    """Of what was compared, and by what."""
    ask = "import sys, importlib.metadata as m; print(*(m.version(name) for name in sys.argv[1:]))"

    def of(python: Path, *names: str) -> dict[str, str]:
        told = subprocess.run([str(python), "-c", ask, *names], check=True, capture_output=True, text=True).stdout
        return dict(zip(names, told.split(), strict=True))

    return {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime beside Triton": of(PYTRITON, "onnxruntime")["onnxruntime"],
        **of(PYTRITON, "nvidia-pytriton"),
        **of(CLIENT, "tritonclient"),
    }


def tell(line: str) -> None:
    """Writes a line for people."""
    print(line, file=sys.stderr, flush=True)


def load(address: str, graph: Path, concurrency: int, seconds: float) -> dict[str, Any]:
    """One round against one server."""
    session = onnxruntime.InferenceSession(graph)
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    side = taken.shape[2] if isinstance(taken.shape[2], int) else 128
    arguments = [address, MODEL, taken.name, given.name, str(side), str(concurrency), str(seconds)]
    command = [str(CLIENT), str(ROOT / "benchmarks" / "kserve_load.py"), *arguments]
    facts: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return facts


@contextmanager
def ours(threads: int, instances: int) -> Iterator[str]:
    """Our server with the CLIP alone, batching as Triton does."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        shutil.copytree(ROOT / "models" / MODEL, models / MODEL)
        config = models / MODEL / "config.pbtxt"
        lines = [
            line for line in config.read_text().splitlines() if "instance_group" not in line and '"threads"' not in line
        ]
        lines = [line for line in lines if "dynamic_batching" not in line]
        lines.append(f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]")
        lines.append("dynamic_batching { }")
        lines.append(f'parameters {{ key: "threads" value {{ string_value: "{threads}" }} }}')
        config.write_text("\n".join(lines))
        command = [sys.executable, "-m", "atelier_server", "serve", "--log-level", "warning"]
        command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        command += ["--model-repository", str(models), "--state-dir", f"{folder}/state"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1].removeprefix("grpc=")
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def pytriton(graph: Path, threads: int, instances: int) -> Iterator[str]:
    """The real Triton server with the same graph."""
    port = free_port()
    arguments = [str(graph), MODEL, str(port), str(threads), str(instances)]
    command = [str(PYTRITON), str(ROOT / "benchmarks" / "kserve_pytriton.py"), *arguments]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until_ready(process, port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Returns when Triton has the model."""
    ask = (
        "import sys, tritonclient.grpc as t\n"
        f"sys.exit(not t.InferenceServerClient('127.0.0.1:{port}').is_model_ready('{MODEL}'))"
    )
    end = time.monotonic() + START_SECONDS
    while subprocess.run([str(CLIENT), "-c", ask], capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("PyTriton did not start")
        time.sleep(0.5)


def free_port() -> int:
    """A port, with the two above it for Triton's HTTP and metrics, that nobody has now."""
    while True:
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
                three.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
            return port


if __name__ == "__main__":
    main()
