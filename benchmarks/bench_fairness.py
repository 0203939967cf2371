"""One client floods the starter with 200 calls, another sends 5: what the flood costs the other one.

    python benchmarks/bench_fairness.py [--model-repository models] [--steps 25] [--flood 200] [--calls 5] [--at-once]

It starts the server as an operator would, with a token for each of the two. The other client's calls come one after
another (--at-once: together), first with the server to itself, then beside the flood, whose refused calls are sent
again when the server said. p95 of five is the slowest. Beside the seconds on the wall stand those that the model's
process computed meanwhile, for all: on a machine that others use too only their ratio tells anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from atelier_client import Atelier, AtelierError
from atelier_server.security.token_file import digest_of, new_token

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.served import served

ROOT = Path(__file__).resolve().parent.parent
SIDE = 128
LIMIT = 3.0
"""What the slowest call may take, against its time alone."""
SLOWDOWN = f"slowest beside over slowest alone, on the wall and computed (wanted: at most {LIMIT:g})"


class Client:
    """A caller with a token whose calls nothing answers from a cache."""

    def __init__(self, address: str, token: str, steps: int) -> None:
        self.atelier = Atelier(address, token=token)
        self.steps = steps
        self.refused = 0
        self.runner = find_runner()

    def computed(self) -> float:
        """Seconds that the model's process has computed by now."""
        times = self.runner.cpu_times()
        return float(times.user + times.system)

    def call(self, seed: int) -> tuple[float, float]:
        """One call from request to picture; returns its seconds, and those that the model's process computed."""
        begun, computed = time.perf_counter(), self.computed()
        self.atelier.generate(
            "a red leather handbag on white marble",
            style="none",
            width=SIDE,
            height=SIDE,
            seed=seed,
            num_inference_steps=self.steps,
            cache="bypass",
            brand_consistency_check=False,
        )
        return time.perf_counter() - begun, self.computed() - computed

    def insist(self, seed: int, stop: threading.Event) -> bool:
        """As `call`, again when the server refuses and says when. False when it was told to stop before."""
        while not stop.is_set():
            try:
                self.call(seed)
                return True
            except AtelierError as error:
                if error.code != "RESOURCE_EXHAUSTED":
                    raise
                self.refused += 1
                stop.wait(error.retry_after or 1.0)
        return False

    def calls(self, count: int, first_seed: int, *, at_once: bool) -> list[tuple[float, float]]:
        """So many calls."""
        seeds = range(first_seed, first_seed + count)
        if not at_once:
            return [self.call(seed) for seed in seeds]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(self.call, seeds))


def find_runner() -> psutil.Process:
    """The process of the one model that the server runs."""
    for process in psutil.Process().children(recursive=True):
        if "atelier_server.runner" in process.cmdline():
            return process
    raise SystemExit("the server has no runner process")


def slowdowns(beside: list[tuple[float, float]], alone: list[tuple[float, float]]) -> tuple[float, float]:
    """Of the slowest calls, on the wall and by what was computed."""
    wall, computed = (max(call[kind] for call in beside) / max(call[kind] for call in alone) for kind in (0, 1))
    return round(wall, 2), round(computed, 2)


def measure(address: str, tokens: tuple[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The second client alone, then beside the flood."""
    greedy, modest = (Client(address, token, arguments.steps) for token in tokens)
    modest.call(1)
    alone = modest.calls(arguments.calls, 100, at_once=arguments.at_once)
    stop = threading.Event()
    with ThreadPoolExecutor(arguments.flood) as pool:
        flood = [pool.submit(greedy.insist, 1000 + number, stop) for number in range(arguments.flood)]
        while not any(future.done() for future in flood):
            time.sleep(0.2)
        beside = modest.calls(arguments.calls, 200, at_once=arguments.at_once)
        done = sum(future.done() for future in flood)
        stop.set()
        greedy.atelier.close()
        for future in flood:
            future.exception()
    return {
        "steps": arguments.steps,
        "flood": arguments.flood,
        "flood done when the other client was": done,
        "refusals that the flood met": greedy.refused,
        "alone, seconds on the wall and computed": [[round(value, 2) for value in call] for call in alone],
        "beside the flood": [[round(value, 2) for value in call] for call in beside],
        SLOWDOWN: slowdowns(beside, alone),
    }


def main() -> int:
    """Prints the figures as JSON; exits with 1 when the flood cost too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-repository", type=Path, default=ROOT / "models")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--at-once", action="store_true")
    arguments = parser.parse_args()
    tokens = new_token(), new_token()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokens.toml"
        tables = [
            f'[tokens.{name}]\nsha256 = "{digest_of(token).hex()}"\nscopes = ["generate"]\n'
            for name, token in zip(("greedy", "modest"), tokens, strict=True)
        ]
        file.write_text("\n".join(tables))
        with served(arguments.model_repository, Path(folder), flags=("--tokens-file", str(file))) as address:
            figures = measure(address, tokens, arguments)
    print(json.dumps(figures, indent=2))
    return 0 if min(figures[SLOWDOWN]) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
