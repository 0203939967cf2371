"""Writes the results into docs/15-speed.md, between its two marks: the tables and the plots.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

PAGE = ROOT / "docs" / "15-speed.md"
BEGIN, END = "<!-- results: written by benchmarks/page.py -->\n", "<!-- end of results -->\n"
Result = dict[str, Any]
Lines = Iterable[str]


def spread(value: dict[str, float], digits: int = 3) -> str:
    """A median with its range."""
    median, low, high = (
        f"{value[key]:,.0f}" if value[key] >= 10**digits / 10 else f"{value[key]:.{digits}g}"
        for key in ("median", "min", "max")
    )
    return f"{median} ({low}–{high})"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Lines:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def single(result: Result) -> Lines:
    """One picture, by contender."""
    rows = [
        (kind, spread(one["seconds"]), f"{one['load_seconds']:.1f}", str(one["peak_rss_mib"]))
        if "seconds" in one
        else (kind, one["skipped"], "", "")
        for kind, one in result["contenders"].items()
    ]
    yield from table(("One picture", "seconds", "load seconds", "peak MiB"), rows)
    ours = {name: one for name, one in result["times faster than each peer"].items() if "bfloat16" in name}
    rows = [(f"{name} over {peer}", f"{spread(value)}×") for name, one in ours.items() for peer, value in one.items()]
    yield from table(("Times faster", ""), rows)


def throughput(result: Result) -> Lines:
    """Seconds a picture, the goals, and calls alone."""
    yield from table(
        ("Served, seconds a picture", ""), [(who, spread(one)) for who, one in result["seconds a picture"].items()]
    )
    yield from table(("", "times"), [(goal, spread(value)) for goal, value in result["goals"].items()])
    rows = [
        (who, spread(one["call_ms"]), spread(one["beyond_computing_and_encoding_ms"]))
        for who, one in result["calls one after another"].items()
    ]
    yield from table(("One call after another", "ms", "of these beyond computing and encoding"), rows)


def mixed(result: Result) -> Lines:
    """By load."""
    keys = ("mean", "p50", "p95", "within 3x alone")
    rows = [
        (load, who, *(f"{one[who][key]:.3g}" for key in keys))
        for load, one in result["loads"].items()
        for who in ("served", "serial", "served over serial")
    ]
    yield from table((f"Load ({result['execution']})", "", "mean s", "p50 s", "p95 s", "within 3× alone"), rows)


def frontend(result: Result) -> Lines:
    """Rates and the profile."""
    shapes = [name for name in result if name.startswith("calls of")]
    keys = ("calls_per_second", "events_per_second", "call_ms_p50")
    rows = [(shape, *(spread(result[shape][key]) for key in keys)) for shape in shapes]
    yield from table((f"Front end, {result['callers']} callers", "calls/s", "events/s", "p50 ms of a call"), rows)
    yield f"One call after another takes {spread(result['one call after another, ms'])} ms."
    yield ""
    profile = result["profile of the loop while streaming"][:8]
    yield from table(
        ("Where the loop's thread computes", "share"), [(one["function"], f"{one['share']:.0%}") for one in profile]
    )


def start(result: Result) -> Lines:
    """Starts and memory."""
    yield from table(
        ("Start", "seconds"), [(name, spread(value)) for name, value in result["seconds to READY"].items()]
    )
    rows = [
        (name, process, str(held["after start"][process]), str(peak))
        for name, held in result["resident MiB"].items()
        for process, peak in held["at most"].items()
    ]
    yield from table(("Memory", "process", "MiB after start", "MiB at most"), rows)


def encode(result: Result) -> Lines:
    """File formats."""
    rows = [(name, *(str(one[key]) for key in ("ms", "bytes"))) for name, one in result["figures"].items()]
    yield from table(("A 1024×1024 picture", "ms", "bytes"), rows)


def lossy(result: Result) -> Lines:
    """Settings of the lossy accelerations."""
    keys = ("PSNR to plain, dB", "CPU s a picture, alone", "CPU s a picture, 8 at once")
    rows = [
        (
            name,
            str(one["UNet rows"]),
            "" if name == "plain" else spread(one[keys[0]]),
            *map(spread, map(one.get, keys[1:])),
        )
        for name, one in result["settings"].items()
    ]
    yield from table(("Setting", "UNet rows", *keys), rows)


WRITERS: dict[str, Callable[[Result], Lines]] = {
    "single": single,
    "single-full-size": single,
    "throughput": throughput,
    "mixed-compiled": mixed,
    "mixed-openvino": mixed,
    "frontend": frontend,
    "start": start,
    "encode": encode,
    "lossy": lossy,
}


def section(path: Path, write: Callable[[Result], Lines]) -> Lines:
    """One result with what it was measured on."""
    result = json.loads(path.read_text())
    facts = result["machine"]
    busy = " **The machine was busy with other work.**" if facts["load_before"] > 1 else ""
    work = ", ".join(f"{key} {value}" for key, value in result.get("work", {}).items())
    yield f"### {path.stem}"
    yield ""
    yield (
        f"{result['measured'][:10]}, {facts['cpu']}, {facts['cores']} cores, {', '.join(facts['bfloat16'])}; "
        f"load average before: {facts['load_before']}.{busy} {f'Work: {work}.' if work else ''}".rstrip()
    )
    yield ""
    picture = f"pictures/bench-{path.stem}.svg"
    if (ROOT / "docs" / picture).is_file():
        yield f"![{path.stem}]({picture})"
        yield ""
    yield from write(result)


def main() -> None:
    """Writes the page's middle."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    there = [(RESULTS / f"{name}.json", write) for name, write in WRITERS.items()]
    lines = [line for path, write in there if path.is_file() for line in section(path, write)]
    PAGE.write_text(head + BEGIN + "\n" + "\n".join(lines) + END + tail)


if __name__ == "__main__":
    main()
