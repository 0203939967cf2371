"""Measures calls that are not computed again: repeated, at once, and after a restart.

    python benchmarks/bench_cache.py [--model-repository models] [--model starter] [--steps 25] [--repeats 20]

Prints the seconds of a computed call, of the same call repeated (memory), of twenty identical ones at once, and of the
same call to a new server on the same state directory (disk). The bytes are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from atelier_client import Atelier

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.served import served

PROMPT = "a red leather handbag on white marble, soft light"
TOGETHER = 20


class Caller:
    """Makes one and the same call."""

    def __init__(self, address: str, model: str, steps: int) -> None:
        self._atelier = Atelier(address)
        self._fields: dict[str, Any] = {"model_name": model, "num_inference_steps": steps, "style": "none"}

    def call(self, seed: int) -> tuple[float, bytes, bool]:
        """Returns seconds, the picture's file, and whether it came from the cache."""
        begin = time.perf_counter()
        result = self._atelier.generate(PROMPT, seed=seed, **self._fields)
        return time.perf_counter() - begin, result.images[0].data, result.cached

    def generations(self) -> int:
        """Pictures that the server has computed."""
        return sum(self._atelier.metrics().generations_by_model.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=Path("models"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        with served(options.model_repository, state, [options.model]) as address:
            caller = Caller(address, options.model, options.steps)
            caller.call(seed=1)  # a warm-up
            computed, picture, _ = caller.call(seed=7)
            repeated = [caller.call(seed=7) for _ in range(options.repeats)]
            before = caller.generations()
            with ThreadPoolExecutor(TOGETHER) as pool:
                crowd = list(pool.map(lambda _: caller.call(seed=8), range(TOGETHER)))
            made = caller.generations() - before
        with served(options.model_repository, state, [options.model]) as address:
            restarted = Caller(address, options.model, options.steps).call(seed=7)
    answers = [*repeated, restarted]
    if not all(cached and data == picture for _, data, cached in answers):
        raise SystemExit("a repeated call did not bring the same file from the cache")
    if len({data for _, data, _ in crowd}) != 1:
        raise SystemExit("identical calls at once brought different files")
    again = statistics.median(seconds for seconds, _, _ in repeated)
    print(f"computed                {1000 * computed:9.1f} ms")
    print(f"repeated, from memory   {1000 * again:9.1f} ms   {computed / again:.0f} times faster")
    print(f"after a restart, disk   {1000 * restarted[0]:9.1f} ms   {computed / restarted[0]:.0f} times faster")
    print(f"{TOGETHER} identical at once    {1000 * max(one[0] for one in crowd):9.1f} ms   {made} computed")


if __name__ == "__main__":
    main()
