"""What the benchmarks share: the machine's name, medians with their range, results as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "benchmarks" / "results"))
STARTER = ROOT / "models" / "starter" / "1"
PROMPT = "a red leather handbag on white marble, soft light"
NEGATIVE = "blurry"
GUIDANCE = 7.5
_PACKAGES = ("torch", "diffusers", "openvino", "grpcio", "onnxruntime")


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was with other work when the measurement began."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "bfloat16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum, maximum and count."""
    three = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in three.items()} | {"n": len(values)}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Of contenders that were measured in the same rounds."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def write(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> None:
    """Prints a result, and writes it with the machine and the day to results/NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"benchmark": name, "measured": datetime.now(UTC).isoformat(timespec="minutes"), **figures}
    text = json.dumps(whole, indent=2)
    print(text, flush=True)
    (folder / f"{name}.json").write_text(text + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
