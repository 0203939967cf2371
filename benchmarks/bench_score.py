"""Measures Score through gRPC against decoding, preprocessing and onnxruntime called directly, in one run.

    python benchmarks/bench_score.py [--pictures 200] [--side 512] [--rounds 3] [--json FILE]

Direct is one process that decodes and preprocesses picture after picture and runs the vision graph with the best of
several batch sizes and thread counts. Served is the server as an operator starts it, with the scoring model in its own
runner, called by 32 callers at once with one picture a call. The two take turns in every round. Aims: served reaches
0.9 of direct's pictures a second, and one call alone adds at most 5 ms to direct's median.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from PIL import Image, ImageDraw

from atelier.v1 import image_generation_pb2_grpc, scoring_pb2
from atelier_server.scoring.calibration import load_calibration
from atelier_server.scoring.intake import decode
from atelier_server.scoring.preprocess import pixel_values

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 4, 8, 16, 32)
CALLERS = 32
ALONE = 60
"""Calls one after another whose median is compared."""


def make_pictures(count: int, side: int) -> list[bytes]:
    """PNG files with shapes, a gradient and a little grain: neither flat nor noise."""
    rng = np.random.default_rng(0)
    files = []
    ramp = np.linspace(0, 60, side)
    for _ in range(count):
        base = rng.integers(40, 190, 3) + ramp[:, None, None] + rng.normal(0, 1.5, (side, side, 1))
        image = Image.fromarray(np.clip(np.broadcast_to(base, (side, side, 3)), 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            x, y, size = (int(value) for value in rng.integers(0, side, 3))
            draw.ellipse((x, y, x + size // 2, y + size // 2), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


class Direct:
    """The three steps without a server."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._calibration = load_calibration(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(str(folder / "vision.onnx"), options, providers=["CPUExecutionProvider"])

    def seconds(self, files: list[bytes], batch: int) -> float:
        """Time for all files."""
        begin = time.perf_counter()
        for start in range(0, len(files), batch):
            values = [pixel_values(decode(data, "image"), self._calibration) for data in files[start : start + batch]]
            self._session.run(None, {"pixel_values": np.concatenate(values)})
        return time.perf_counter() - begin

    def alone(self, files: list[bytes]) -> float:
        """Median seconds of one picture."""
        return statistics.median(self.seconds([data], 1) for data in itertools.islice(itertools.cycle(files), ALONE))


@contextmanager
def served(repository: Path, model: str) -> Iterator[str]:
    """A server with the scoring model alone; gives its address."""
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "atelier_server", "serve", "--listen", "127.0.0.1:0"]
        command += ["--metrics-listen", "127.0.0.1:0", "--model-repository", str(repository), "--state-dir", state]
        command += ["--load-model", model, "--log-level", "warning", "--drain-delay-seconds", "0"]
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


async def call_all(address: str, files: list[bytes], callers: int) -> tuple[float, list[float]]:
    """Seconds for all files, one a call, and of each call."""
    waiting = iter(files)
    each: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
        await stub.Score(scoring_pb2.ScoreRequest(images=[files[0]]))

        async def work() -> None:
            for data in waiting:
                begin = time.perf_counter()
                reply = await stub.Score(scoring_pb2.ScoreRequest(images=[data]))
                each.append(time.perf_counter() - begin)
                assert reply.scores[0].HasField("aesthetic_score"), reply

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(callers)))
        return time.perf_counter() - begin, each


def measure(args: argparse.Namespace) -> dict[str, float]:
    """All figures: pictures a second, and milliseconds of one call alone."""
    files = make_pictures(args.pictures, args.side)
    folder = args.model_repository / args.model / "1"
    threads = sorted({1, os.cpu_count() or 1})
    directs = {count: Direct(folder, count) for count in threads}
    tried = {(count, batch): directs[count].seconds(files[:64], batch) for count in threads for batch in BATCHES}
    best_threads, best_batch = min(tried, key=lambda key: tried[key])
    direct = directs[best_threads]
    rates: dict[str, list[float]] = {"direct": [], "served": []}
    alone: dict[str, list[float]] = {"direct": [], "served": []}
    with served(args.model_repository, args.model) as address:
        asyncio.run(call_all(address, files[:64], CALLERS))  # warm
        for _ in range(args.rounds):
            rates["direct"].append(len(files) / direct.seconds(files, best_batch))
            rates["served"].append(len(files) / asyncio.run(call_all(address, files, CALLERS))[0])
            alone["direct"].append(1000 * direct.alone(files))
            some = list(itertools.islice(itertools.cycle(files), ALONE))
            alone["served"].append(1000 * statistics.median(asyncio.run(call_all(address, some, 1))[1]))
    ratio = statistics.median(s / d for s, d in zip(rates["served"], rates["direct"], strict=True))
    added = statistics.median(s - d for s, d in zip(alone["served"], alone["direct"], strict=True))
    return {
        "best_batch": best_batch,
        "best_threads": best_threads,
        "direct_pictures_per_second": statistics.median(rates["direct"]),
        "served_pictures_per_second": statistics.median(rates["served"]),
        "ratio": ratio,
        "direct_alone_ms": statistics.median(alone["direct"]),
        "served_alone_ms": statistics.median(alone["served"]),
        "added_ms": added,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=ROOT / "models")
    parser.add_argument("--model", default="starter_clip")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=512, help="of the pictures, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    found = measure(args)
    size = f"{args.side}x{args.side}"
    print(f"{args.pictures} PNG pictures of {size}, {CALLERS} callers, {args.rounds} rounds, {os.cpu_count()} cores")
    print(f"  direct, best of batches: {found['direct_pictures_per_second']:7.1f} pictures/s "
          f"(batch {found['best_batch']:.0f}, {found['best_threads']:.0f} threads)")  # fmt: skip
    print(f"  served:                  {found['served_pictures_per_second']:7.1f} pictures/s")
    print(f"  ratio:                   {found['ratio']:7.2f} (aim: >= 0.9)")
    print(f"  one alone, p50: direct {found['direct_alone_ms']:.1f} ms, served {found['served_alone_ms']:.1f} ms, "
          f"added {found['added_ms']:.1f} ms (aim: <= 5)")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
