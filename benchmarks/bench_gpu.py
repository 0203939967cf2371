"""Full-size SDXL in bfloat16 on one CUDA device: served, against diffusers' pipeline eager and compiled.

python benchmarks/bench_gpu.py [--checkpoint DIR --side 1024 --steps 30 --rounds 5 --device auto]

Guidance is on. Random weights are made where there are none; speed does not depend on them. Server and peers are loaded
together and take turns; `--alone` loads one at a time, for a device that holds only one. `--without-compiled` spares
many minutes. The other figures are of the server without peers. What was not measured has a reason, or is null.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch._inductor.config as inductor
from bench_score import make_pictures
from calling import Caller
from diffusers import StableDiffusionXLPipeline
from field import Contender
from make_full_sdxl import DEFAULT
from repositories import starter_with
from served import served

from atelier_client import AtelierError
from atelier_server.backends.sdxl.device import choose_device
from common import GUIDANCE, NEGATIVE, PROMPT, ROOT, machine, ratios, summary, write

MANY = 8
SCORERS = ("starter_clip", "starter_brand")
NOTES = (
    "A served call is timed from the request to the PNG at the client, diffusers to a Pillow picture without a file.",
    "peak_allocated_bytes: torch.cuda.max_memory_allocated. memory: Health's, between two steps, which is no peak.",
)


class Asker(Caller):
    """A caller who may ask for more than a plain picture."""

    def ask(self, steps: int, side: int, **fields: Any) -> tuple[float, Any]:
        """One call with further fields of the request; its seconds and its result."""
        plain = {"style": "none", "negative_prompt": NEGATIVE, "seed": next(self._seeds), "cache": "bypass"}
        asked: dict[str, Any] = {**plain, "brand_consistency_check": False, "timeout": None, **fields}
        begin = time.perf_counter()
        result = self._atelier.generate(PROMPT, width=side, height=side, num_inference_steps=steps, **asked)
        return time.perf_counter() - begin, result


class Peer(Contender):
    """A contender that also tells how much of a CUDA device's memory it took."""

    peak_allocated_bytes: int | None = None

    def _read(self) -> dict[str, Any]:
        answer = super()._read()
        self.peak_allocated_bytes = answer.get("peak_allocated_bytes")
        return answer


def compute(way: str, checkpoint: str, device: str) -> None:
    """The process of a peer: answers lines of standard input as contender.py does."""
    from contender import say

    begin = time.perf_counter()
    options: dict[str, Any] = {"torch_dtype": torch.bfloat16, "local_files_only": True}
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(checkpoint, **options).to(device)
    pipe.set_progress_bar_config(disable=True)
    if way == "compiled":  # as diffusers' guide to fast inference advises; on a CPU without its search for kernels
        options = {"mode": "max-autotune", "fullgraph": True} if device == "cuda" else {}
        inductor.conv_1x1_as_mm = inductor.coordinate_descent_tuning = device == "cuda"
        inductor.coordinate_descent_check_all_directions, inductor.epilogue_fusion = device == "cuda", device != "cuda"
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
        pipe.fuse_qkv_projections()
        pipe.unet, pipe.vae.decode = (torch.compile(one, **options) for one in (pipe.unet, pipe.vae.decode))
    say(load_seconds=time.perf_counter() - begin)
    for asked in map(json.loads, sys.stdin):
        begin = time.perf_counter()
        size = {"width": asked["side"], "height": asked["side"], "num_inference_steps": asked["steps"]}
        generator = torch.Generator("cpu").manual_seed(asked["seed"])
        pipe(PROMPT, negative_prompt=NEGATIVE, guidance_scale=GUIDANCE, generator=generator, **size)
        memory = {"peak_allocated_bytes": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
        say(seconds=time.perf_counter() - begin, **memory)


@contextmanager
def peer(way: str, checkpoint: Path, device: str) -> Iterator[Peer]:
    """Starts one, and ends it with the block."""
    command = [sys.executable, "-W", "ignore", __file__, "--peer", way, str(checkpoint), device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(way, process)
        finally:
            process.kill()


@contextmanager
def server(models: Path, switch: str) -> Iterator[Asker]:
    """A server without scorers, which are loaded by request. On a CPU it compiles nothing beside the calls."""
    with TemporaryDirectory() as state, served(models, Path(state), flags=("--compile", switch)) as address:
        yield Asker(address)


def repository(folder: Path, checkpoint: Path, side: int, device: str) -> Path:
    """The scorers, and the starter's description of a model over this checkpoint; none moves to a CPU by itself."""
    sides = {"native_width": str(side), "native_height": str(side), "max_side": str(3 * side // 2)}
    # allow_refine is auto, which is on for CUDA; a trial on a CPU shall go the same way.
    models = starter_with(folder, **sides, dtype="bfloat16", allow_refine="on", allow_cpu_fallback="off")
    shutil.rmtree(models / "starter" / "1")
    (models / "starter" / "1").mkdir()
    for part in checkpoint.iterdir():
        (models / "starter" / "1" / part.name).symlink_to(part.resolve())
    for scorer in SCORERS:
        shutil.copytree(ROOT / "models" / scorer, models / scorer)
    for config in models.glob("*/config.pbtxt"):
        config.write_text(config.read_text().replace("KIND_AUTO", "KIND_CPU" if device == "cpu" else "KIND_AUTO"))
    return models


def failed(name: str, error: Exception) -> dict[str, Any]:
    """What stands in a figure's place."""
    print(f"SKIPPED {name}: {error}", file=sys.stderr, flush=True)
    return {"not measured": f"{type(error).__name__}: {error}"}


def in_turns(field: Mapping[str, Callable[[], float]], rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each after a round that warms up, and the same as it is shown. Who fails is asked no more."""
    seconds: dict[str, list[float]] = {name: [] for name in field}
    shown: dict[str, Any] = {}
    for number in range(rounds + 1):
        for name in list(seconds):
            try:
                seconds[name].append(field[name]())
                print(f"round {number}: {name} {seconds[name][-1]:.3f} s", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, AtelierError) as error:
                shown[name] = failed(name, error)
                del seconds[name]
    for name, taken in seconds.items():
        shown[name] = {"warm_up_seconds": round(taken.pop(0), 3), "seconds": summary(taken)}
    return seconds, shown


def over(seconds: Mapping[str, list[float]], above: str, below: str) -> dict[str, float] | None:
    """The ratio of two that took turns; None where one was not measured."""
    return ratios(seconds[above], seconds[below]) if {above, below} <= seconds.keys() else None


def one_call(options: argparse.Namespace, models: Path, device: str) -> dict[str, Any]:
    """One call alone, by all contenders."""
    ways: dict[str, Callable[[], Any]] = {"served": partial(server, models, options.compile)}
    ways |= {f"diffusers {way}": partial(peer, way, options.checkpoint, device) for way in ("eager", "compiled")}
    seconds: dict[str, list[float]] = {}
    shown: dict[str, Any] = {name: {"not measured": "--without-compiled"} for name in ways}
    names = [name for name in ways if not (options.without_compiled and name.endswith("compiled"))]
    for group in [[name] for name in names] if options.alone else [names]:
        with ExitStack() as stack:
            field: dict[str, Any] = {}
            for name in group:
                try:
                    field[name] = stack.enter_context(ways[name]())
                except RuntimeError as error:
                    shown[name] = failed(name, error)
            makes = {name: partial(one.make, options.steps, options.side) for name, one in field.items()}
            taken, figures = in_turns(makes, options.rounds)
            seconds, shown = seconds | taken, shown | figures
            for name in taken.keys() - {"served"}:
                shown[name]["peak_allocated_bytes"] = field[name].peak_allocated_bytes
    return shown | {f"{name} over served": over(seconds, name, "served") for name in ways if name != "served"}


def throughput(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second served at so many at once."""
    field = {f"{count} at once": partial(asker.make, options.few, options.side, count) for count in (1, 4, MANY)}
    seconds, shown = in_turns(field, options.rounds)
    for name, taken in seconds.items():
        shown[name]["pictures a second"] = summary([int(name.split()[0]) / each for each in taken])
    return shown


def half_side(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """Calls of half the side at once and one after another."""
    make, in_line = partial(asker.make, options.few, options.side // 2), "one after another"
    field: dict[str, Callable[[], float]] = {"at once": partial(make, MANY)}
    field[in_line] = lambda: sum(make() for _ in range(MANY))
    seconds, shown = in_turns(field, options.rounds)
    return {**shown, f"{in_line} over at once": over(seconds, in_line, "at once")}


def scored(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """Calls with scores and a brand, and without. Who is there scores every call: the scorers come and go."""
    atelier, pictures = asker._atelier, make_pictures(8, 256)
    models, brands = atelier.models, atelier.brands

    def without() -> float:
        for scorer in SCORERS:
            models.unload(scorer)
        return asker.ask(options.few, options.side)[0]

    def scores() -> float:
        for scorer in SCORERS:
            models.load(scorer)
        if not brands.list():
            brands.create("bench")
            brands.add("bench", pictures)
        while brands.get("bench").pending_embeddings:
            time.sleep(0.1)
        atelier.score(pictures[0], prompt=PROMPT, brand_id="bench")  # what they do once is not the call's
        seconds, result = asker.ask(options.few, options.side, brand_id="bench", brand_consistency_check=True)
        if None in (result.aesthetic_score, result.brand_consistency_score) or result.brand_reference_missing:
            raise RuntimeError(f"no scores: {dict(result.images[0].scores.missing_reasons)}")
        return seconds

    seconds, shown = in_turns({"without": without, "with": scores}, options.rounds)
    return {**shown, "with over without": over(seconds, "with", "without")}


def exact(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """The bytes of an EXACT call alone, and while short calls come and go, which get ahead of it."""
    call = partial(asker.ask, options.few, options.side, seed=2**32, reproducibility="exact")
    alone, seen = call()[1], list[object]()
    with ThreadPoolExecutor(3) as pool:
        for _ in range(24):
            pool.submit(asker.ask, max(1, options.few // 4), options.side, on_progress=seen.append)
        before, among, after = len(seen), call()[1], len(seen)
    digests, promised = zip(*((one.images[0].sha256, one.reproducibility) for one in (alone, among)), strict=True)
    return {"equal": digests[0] == digests[1], "sha256": digests, "reply": promised, "others' steps": after - before}


def twice_the_side(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """One ULTRA_HD call, the first of its size."""
    seconds, result = asker.ask(options.steps, 2 * options.side, quality="ultra_hd")
    image = result.images[0]
    return {"seconds": round(seconds, 4), "size": str(image.dimensions), "by the model": str(image.native_dimensions)}


def memory(asker: Asker, options: argparse.Namespace) -> dict[str, Any]:
    """Device memory of each instance; None where Health does not know."""
    instances = asker._atelier.health().instances
    return {f"{one.model} on {one.device}": one.device_memory_bytes or None for one in instances}


def table(figures: Mapping[str, Any], indent: str = "") -> None:
    """Prints figures a line each, with medians, minima and maxima in columns."""
    for name, value in figures.items():
        if not isinstance(value, Mapping):
            print(f"{indent + name:<48}{value}")
        elif "median" in value:
            print(f"{indent + name:<48}{value['median']:>10.3f}{value['min']:>10.3f}{value['max']:>10.3f}")
        else:
            print(indent + name)
            table(value, indent + "  ")


def main() -> None:
    """Measures, writes and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT)
    parser.add_argument("--side", type=int, default=1024, help="of a native picture; a multiple of 64 from 128 on")
    parser.add_argument("--steps", type=int, default=30, help="the parts beside the single call make at most 20")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--compile", default="off", choices=("off", "on"), help="on: steps as recorded CUDA graphs")
    parser.add_argument("--without-compiled", action="store_true", help="leave compiled diffusers out")
    parser.add_argument("--alone", action="store_true", help="one contender in memory at a time")
    options, facts = parser.parse_args(), machine()
    options.few = min(20, options.steps)
    if options.checkpoint == DEFAULT:
        subprocess.run([sys.executable, str(ROOT / "benchmarks" / "make_full_sdxl.py")], check=True)
    device = choose_device(options.device).type
    gpu = torch.cuda.get_device_properties() if device == "cuda" else None
    facts |= {"device": device, "gpu": gpu and gpu.name, "gpu_bytes": gpu and gpu.total_memory}
    figures: dict[str, Any] = {"machine": facts, "work": {**vars(options), "checkpoint": str(options.checkpoint)}}
    with TemporaryDirectory() as folder:
        models = repository(Path(folder), options.checkpoint, options.side, device)
        figures["one_call"] = one_call(options, models, device)
        with server(models, options.compile) as asker:
            for part in (throughput, half_side, scored, exact, twice_the_side, memory):
                try:
                    figures[part.__name__] = part(asker, options)
                except (AtelierError, RuntimeError) as error:
                    figures[part.__name__] = failed(part.__name__, error)
    write("gpu", {**figures, "notes": NOTES})
    print(f"\n{'':48}{'median':>10}{'least':>10}{'most':>10}")
    table(figures)
    if figures["exact"].get("equal") is False:
        raise SystemExit("the bytes of an EXACT call alone and among others DIFFER; see exact")


if __name__ == "__main__":
    compute(*sys.argv[2:]) if sys.argv[1:2] == ["--peer"] else main()
