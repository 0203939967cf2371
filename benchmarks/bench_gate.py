"""Measures attempts under a gate: side by side against one after another, by the same pipeline, in one run.

    python benchmarks/bench_gate.py [--model-repository models] [--attempts 4] [--steps 25] [--rounds 3] [--json FILE]

Two servers run: one as shipped, and one whose starter may compute only one picture at a time. The threshold cannot be
reached, so both make all attempts; they take turns. At last ENFORCE refuses, and a call with half the time it needs
still brings a picture. Needs the starter and its CLIP.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from atelier_client import Atelier, AtelierError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.served import served

PROMPT = "a red leather handbag on white marble, soft light"
IMPOSSIBLE = 10.0
MODELS = ("starter", "starter_clip")


def narrow_repository(repository: Path, folder: Path) -> Path:
    """A copy whose starter computes one picture at a time."""
    for model in MODELS:
        shutil.copytree(repository / model, folder / model)
    with (folder / "starter" / "config.pbtxt").open("a") as file:
        file.write('parameters { key: "max_rows" value { string_value: "2" } }\n')
    return folder


class Caller:
    """Makes the same call again and again, each time with new seeds."""

    def __init__(self, address: str, attempts: int, steps: int) -> None:
        self._atelier = Atelier(address)
        self._attempts, self._steps, self._calls = attempts, steps, 0

    def call(self, gate: str = "retry", timeout: float | None = None) -> tuple[float, Any]:
        """One call. Returns its seconds and its result, or the error that it ended with."""
        self._calls += 1
        begin = time.perf_counter()
        try:
            outcome: Any = self._atelier.generate(
                PROMPT, style="none", quality="standard", seed=1000 * self._calls, num_inference_steps=self._steps,
                gate=gate, max_attempts=self._attempts, aesthetic_threshold=IMPOSSIBLE, cache="bypass", timeout=timeout,
            )  # fmt: skip
        except AtelierError as error:
            outcome = error
        return time.perf_counter() - begin, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-repository", type=Path, default=Path("models"))
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        narrow = narrow_repository(options.model_repository, folder / "models")
        with (
            served(options.model_repository, folder / "a", MODELS) as together_at,
            served(narrow, folder / "b", MODELS) as alone_at,
        ):
            figures = measure(
                Caller(together_at, options.attempts, options.steps),
                Caller(alone_at, options.attempts, options.steps),
                options.rounds,
            )
    figures |= {"attempts": options.attempts, "steps": options.steps}
    report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(together: Caller, alone: Caller, rounds: int) -> dict[str, Any]:
    """Seconds of both ways, in turns, then the two ways out of an impossible threshold."""
    seconds: dict[str, list[float]] = {"side by side": [], "one after another": []}
    attempts: dict[str, int] = {}
    for number in range(rounds + 1):  # the first is a warm-up
        for name, caller in (("side by side", together), ("one after another", alone)):
            took, result = caller.call()
            if isinstance(result, AtelierError):
                raise SystemExit(f"{name}: {result}")
            attempts[name] = result.attempts
            if number:
                seconds[name].append(took)
    refused, error = together.call("enforce")
    patience = 0.5 * statistics.median(seconds["one after another"])
    hurried, result = alone.call(timeout=patience)
    return {
        "seconds": seconds,
        "attempts_made": attempts,
        "enforce": {"seconds": refused, "answer": str(error)},
        "hurried": {"deadline": patience, "seconds": hurried, "attempts": getattr(result, "attempts", str(result))},
    }


def report(figures: dict[str, Any]) -> None:
    """Prints a table."""
    print(f"{figures['attempts']} attempts of {figures['steps']} steps, seconds: median (min to max)")
    medians = {}
    for name, values in figures["seconds"].items():
        medians[name] = statistics.median(values)
        made = figures["attempts_made"][name]
        print(f"  {name:18} {medians[name]:6.2f} ({min(values):.2f} to {max(values):.2f}), {made} attempts made")
    print(f"  ratio              {medians['side by side'] / medians['one after another']:6.2f}")
    print(f"  ENFORCE refused in {figures['enforce']['seconds']:6.2f} s: {figures['enforce']['answer']}")
    hurried = figures["hurried"]
    print(
        f"  with {hurried['deadline']:.2f} s allowed the answer came after {hurried['seconds']:.2f} s, "
        f"with {hurried['attempts']} attempts"
    )


if __name__ == "__main__":
    main()
