"""Measures the encoding of a picture by format and PNG level, and the longest pause that it caused in another thread.

python benchmarks/bench_encode.py [--side 1024] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import threading
import time
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from atelier_server.pipeline.picture import encode
from atelier_server.types import ImageFormat


def photograph(side: int) -> Image.Image:
    """A smooth picture with a little grain, about as hard to compress as a product photograph."""
    y, x = np.mgrid[0:side, 0:side] / side * 1024
    smooth = np.stack([x / 4 + 20 * np.sin(y / 50), y / 4, (x + y) / 8], axis=-1)
    grain = np.random.default_rng(0).normal(0, 2, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def pillow_png(image: Image.Image, level: int) -> bytes:
    """PNG by Pillow at a level of zlib."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def served(image: Image.Image, image_format: ImageFormat) -> bytes:
    """As the server encodes."""
    return encode(image, image_format, 92).data


def timed(work: Any, rounds: int) -> dict[str, float]:
    """Median milliseconds, bytes, and the longest pause of a thread that only counts milliseconds beside it."""
    pauses: list[float] = []
    over = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not over.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    work()
    ticking = threading.Thread(target=tick)
    ticking.start()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        data = work()
        seconds.append(time.perf_counter() - begin)
    over.set()
    ticking.join()
    return {
        "ms": round(1000 * statistics.median(seconds), 1),
        "bytes": len(data),
        "longest_pause_ms": round(1000 * max(pauses), 1),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    image = photograph(arguments.side)
    figures = {}
    for level in (6, 1):
        figures[f"Pillow PNG level {level}"] = timed(partial(pillow_png, image, level), arguments.rounds)
    for image_format in ImageFormat:
        figures[f"served {image_format}"] = timed(partial(served, image, image_format), arguments.rounds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
