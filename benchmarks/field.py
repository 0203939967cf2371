"""Contenders as processes that are asked in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common import ROOT

GENAI = ROOT / "build" / "venv-genai" / "bin" / "python"
EXPORTED = ROOT / "build" / "genai-exported"
_HERE = Path(__file__).resolve().parent


class Contender:
    """One that is loaded and waits."""

    def __init__(self, kind: str, process: subprocess.Popen[str]) -> None:
        self.kind = kind
        self._process = process
        self.load_seconds = float(self._read()["load_seconds"])
        self.peak_rss_bytes = 0

    def make(self, steps: int, side: int, count: int = 1, seed: int = 1) -> float:
        """Makes pictures; returns the seconds until the last one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"steps": steps, "side": side, "count": count, "seed": seed}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        self.peak_rss_bytes = int(answer["peak_rss_bytes"])
        return float(answer["seconds"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self.kind} ended with status {self._process.wait()}")


def available(kind: str) -> str:
    """Why a contender cannot be measured here, empty if it can."""
    if kind.startswith("genai") and not GENAI.is_file():
        return "its environment is not made (make bench-peers)"
    return ""


@contextmanager
def contender(kind: str, checkpoint: Path, side: int) -> Iterator[Contender]:
    """Starts one, and ends it with the block."""
    if kind.startswith("genai"):
        precision = kind.partition("-")[2]
        command = [
            str(GENAI),
            str(_HERE / "peer_genai.py"),
            str(checkpoint),
            precision,
            str(EXPORTED / checkpoint.parent.name),
        ]
    else:
        command = [sys.executable, str(_HERE / "contender.py"), kind, str(checkpoint)]
    environment = os.environ | {"BENCH_SIDE": str(side)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Contender(kind, process)
    finally:
        process.kill()
        process.wait()


def in_turns(kinds: Sequence[str], checkpoint: Path, work: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Loads contenders, lets them take turns round by round, and ends them.

    Args:
        kinds: Those to measure.
        checkpoint: Of all.
        work: Arguments of Contender.make.
        rounds: Measured; one more warms up.
    """
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        field: list[Contender] = []
        for kind in kinds:
            why = available(kind)
            try:
                if not why:
                    field.append(stack.enter_context(contender(kind, checkpoint, work["side"])))
            except RuntimeError as error:
                why = str(error)
            if why:
                print(f"SKIPPED {kind}: {why}", file=sys.stderr)
                figures[kind] = {"skipped": why}
        seconds: dict[str, list[float]] = {one.kind: [] for one in field}
        for number in range(rounds + 1):
            for one in field:
                taken = one.make(**work)
                print(f"{one.kind}: {taken:.3f} s", file=sys.stderr, flush=True)
                if number:
                    seconds[one.kind].append(taken)
        for one in field:
            memory = round(one.peak_rss_bytes / 2**20)
            figures[one.kind] = {
                "seconds": seconds[one.kind],
                "load_seconds": one.load_seconds,
                "peak_rss_mib": memory,
            }
    return figures
