"""One picture: this engine by torch, compiled and by OpenVINO, against diffusers and OpenVINO GenAI, in one run.

python benchmarks/bench_single.py [--checkpoint DIR --side N --steps N --rounds N --alone --name NAME]

Same weights, prompt, steps, guidance and size; engines without a server, so that peers without one compare. `--alone`
loads one contender at a time, for models of which memory holds only one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from field import in_turns

from common import STARTER, machine, ratios, summary, write

KINDS = (
    "diffusers-float32",
    "diffusers-bfloat16",
    "diffusers-advised",
    "genai-f32",
    "genai-default",
    "atelier-torch-float32",
    "atelier-torch-bfloat16",
    "atelier-compiled-float32",
    "atelier-compiled-bfloat16",
    "atelier-openvino-float32",
    "atelier-openvino-bfloat16",
)


def compare(measured: dict[str, Any]) -> dict[str, Any]:
    """How many times faster ours are than each peer."""
    seconds = {kind: one["seconds"] for kind, one in measured.items() if "seconds" in one}
    ours = [kind for kind in seconds if kind.startswith("atelier")]
    peers = [kind for kind in seconds if not kind.startswith("atelier")]
    return {mine: {peer: ratios(seconds[peer], seconds[mine]) for peer in peers} for mine in ours}


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=STARTER)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--name", default="single")
    options = parser.parse_args()
    facts = machine()
    work = {"steps": options.steps, "side": options.side}
    measured: dict[str, Any] = {}
    for group in [[kind] for kind in options.kinds] if options.alone else [options.kinds]:
        measured |= in_turns(group, options.checkpoint, work, options.rounds)
        report(options.name, {"machine": facts, "work": work}, measured)


def report(name: str, head: dict[str, Any], measured: dict[str, Any]) -> None:
    """Writes what is measured so far; large models take so long that somebody may stop the rest."""
    shown = {
        kind: {**one, "seconds": summary(one["seconds"])} if "seconds" in one else one for kind, one in measured.items()
    }
    write(name, {**head, "contenders": shown, "times faster than each peer": compare(measured)})


if __name__ == "__main__":
    main()
