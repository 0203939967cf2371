"""Draws the results as SVG for docs/: plain text, no library.

python benchmarks/plots.py        reads benchmarks/results/*.json, writes docs/pictures/bench-*.svg
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from common import RESULTS, ROOT

PICTURES = ROOT / "docs" / "pictures"
_WIDTH, _LABEL, _BAR, _GAP = 760, 300, 22, 8
_OURS, _THEIRS = "#1f6feb", "#9aa4b2"
_STYLE = 'font-family="sans-serif" font-size="13" fill="#24292f"'


def bars(title: str, values: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Horizontal bars of medians, with lines from minimum to maximum; ours are blue.

    Args:
        title: Above.
        values: median, min and max by name, in the order to be drawn.
        unit: Of the values.
    """
    most = max(value["max"] for value in values.values())
    scale = (_WIDTH - _LABEL - 110) / most
    height = 44 + len(values) * (_BAR + _GAP)
    parts = [f'<text x="8" y="22" font-weight="bold">{escape(title)}</text>']
    for row, (name, value) in enumerate(values.items()):
        top, color = 38 + row * (_BAR + _GAP), _OURS if name.startswith(("atelier", "served")) else _THEIRS
        length, middle = value["median"] * scale, top + _BAR / 2
        parts.append(f'<text x="{_LABEL - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{color}"/>')
        low, high = (_LABEL + value[key] * scale for key in ("min", "max"))
        parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#24292f" stroke-width="1.5"/>')
        parts.append(f'<text x="{high + 8:.1f}" y="{top + 16}">{value["median"]:.3g} {escape(unit)}</text>')
    return _svg(height, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Lines through points, both axes from zero."""
    left, top, width, height = 60, 40, 480, 240
    most_x = max(x for points in series.values() for x, _ in points)
    most_y = max(y for points in series.values() for _, y in points)
    colors = ("#1f6feb", "#9aa4b2", "#d29922", "#2da44e")
    parts = [f'<text x="8" y="22" font-weight="bold">{escape(title)}</text>']
    parts.append(f'<path d="M{left} {top}V{top + height}H{left + width}" stroke="#24292f" fill="none"/>')
    for share in (0.25, 0.5, 0.75, 1.0):
        y, x = top + height * (1 - share), left + width * share
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{most_y * share:.2g}</text>')
        parts.append(f'<text x="{x:.0f}" y="{top + height + 18}" text-anchor="middle">{most_x * share:.3g}</text>')
    for number, (name, points) in enumerate(series.items()):
        color = colors[number % len(colors)]
        places = [(left + width * x / most_x, top + height * (1 - y / most_y)) for x, y in sorted(points)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" stroke="{color}" stroke-width="2" fill="none"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        parts.append(f'<text x="{left + width + 12}" y="{top + 16 + 20 * number}" fill="{color}">{escape(name)}</text>')
    parts.append(f'<text x="{left}" y="{top + height + 38}">{escape(across)} →, {escape(up)} ↑</text>')
    return _svg(top + height + 50, parts)


def _svg(height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" {_STYLE}>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def single(result: dict[str, Any]) -> str:
    """Seconds of one picture by contender."""
    work = result["work"]
    values = {kind: one["seconds"] for kind, one in result["contenders"].items() if "seconds" in one}
    title = f"One picture, {work['side']}×{work['side']}, {work['steps']} steps, guided: seconds"
    return bars(title, dict(sorted(values.items(), key=lambda item: -item[1]["median"])), "s")


def throughput(result: dict[str, Any]) -> str:
    """Pictures per second by calls at once."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name, value in result["seconds a picture"].items():
        who, _, count = name.rpartition(" at ")
        if who.startswith("served") and who.endswith("bfloat16"):
            series.setdefault(who, []).append((int(count), 1 / value["median"]))
    for name, value in result["seconds a picture"].items():
        if name.startswith("diffusers"):
            series[name] = [(1, 1 / value["median"]), (16, 1 / value["median"])]
    return lines("The starter served", series, "calls at once", "pictures a second")


def mixed(result: dict[str, Any]) -> str:
    """Mean and p95 by load."""
    series = {
        f"{who}, {key}": [(float(load), one[who][key]) for load, one in result["loads"].items()]
        for who in ("served", "serial")
        for key in ("mean", "p95")
    }
    return lines(f"Mixed calls ({result['execution']})", series, "load over serial capacity", "seconds")


def main() -> None:
    """Draws what there is."""
    for path in sorted(RESULTS.glob("*.json")):
        draw = {"single": single, "throughput": throughput, "mixed": mixed}.get(path.stem.split("-")[0])
        if draw is not None:
            PICTURES.mkdir(exist_ok=True)
            (PICTURES / f"bench-{path.stem}.svg").write_text(draw(json.loads(path.read_text())))
            print(PICTURES / f"bench-{path.stem}.svg")


if __name__ == "__main__":
    main()
