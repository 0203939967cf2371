"""What every training script shares: devices, schedules, EMA, checkpoints, progress and contact sheets."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads of several processes stall each other

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "train"
MODELS = ROOT / "models"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
NATIVE = 128
"""Side of the pictures that everything is trained on, in pixels."""
HELD_OUT_SEED = 50_000_000
"""Seeds from here on are never trained on."""


def arguments(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """Returns a parser with the options that all training scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=minutes, help="training time, this run (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    return parser


def setup(args: argparse.Namespace, seed: int = 0) -> torch.device:
    """Seeds torch and numpy, sets the thread count and returns the device to train on."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.set_num_threads(args.threads)
    BUILD.mkdir(parents=True, exist_ok=True)
    name = args.device if args.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Returns a bfloat16 autocast context; on CPUs without AVX512-BF16 bfloat16 is slower than float32."""
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class Clock:
    """Tells how much of the run's time is gone, as a fraction of `minutes` (plus what earlier runs trained)."""

    def __init__(self, minutes: float, already: float = 0.0) -> None:
        self.start = time.monotonic()
        self.seconds = minutes * 60
        self.already = already

    @property
    def spent(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self.already + time.monotonic() - self.start

    @property
    def fraction(self) -> float:
        """0 at the start, 1 when the time is up; earlier runs of the same checkpoint count in."""
        return min(1.0, self.spent / (self.already + self.seconds))

    @property
    def done(self) -> bool:
        return time.monotonic() - self.start >= self.seconds


def learning_rate(peak: float, fraction: float, step: int, warmup: int = 100, final: float = 0.02) -> float:
    """Linear warm-up by steps, then half a cosine down to `final` of the peak by the share of time gone."""
    cosine = final + (1 - final) * 0.5 * (1 + np.cos(np.pi * fraction))
    return float(peak * min(1.0, (step + 1) / warmup) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets one rate on every parameter group, times the group's own `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


class Ema:
    """An exponential moving average of a model's parameters, with a warm-up so that early steps do not linger."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone().float() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = [], []
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                ours.append(self.shadow[key])
                theirs.append(value.detach().float())
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    def copy_to(self, model: torch.nn.Module) -> None:
        model.load_state_dict(self.shadow)


def save_checkpoint(name: str, **state: Any) -> None:
    """Writes build/train/NAME.pt atomically, so that an interrupted run leaves the last whole one."""
    path = BUILD / f"{name}.pt"
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(name: str) -> dict[str, Any] | None:
    """Reads build/train/NAME.pt, or returns None where there is none."""
    path = BUILD / f"{name}.pt"
    return torch.load(path, map_location="cpu", weights_only=False) if path.exists() else None


def trained(clock: Clock, label: str) -> Iterator[int]:
    """Counts steps until the time is up, behind a progress bar of the time (plain lines where there is no terminal)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, refresh_per_second=1) as bar:
        task = bar.add_task(label, total=1.0)
        step = 0
        while not clock.done:
            yield step
            step += 1
            bar.update(task, completed=(time.monotonic() - clock.start) / clock.seconds, description=f"{label} {step}")


def to_tensor(pictures: Sequence[np.ndarray] | np.ndarray) -> torch.Tensor:
    """Turns uint8 pictures [n, h, w, 3] into float32 [n, 3, h, w] in -1..1."""
    array = np.ascontiguousarray(np.stack(list(pictures)) if not isinstance(pictures, np.ndarray) else pictures)
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_pictures(tensor: torch.Tensor) -> np.ndarray:
    """Turns float [n, 3, h, w] in -1..1 into uint8 pictures [n, h, w, 3]."""
    scaled = tensor.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def clip_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Turns pixels in -1..1 into CLIP's normalisation."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * 0.5 + 0.5 - mean) / std


def contact_sheet(pictures: Iterable[np.ndarray], path: Path, columns: int = 8, scale: int = 1) -> None:
    """Writes uint8 pictures of one size as a grid to `path`."""
    images = [Image.fromarray(p) for p in pictures]
    width, height = (s * scale for s in images[0].size)
    sheet = Image.new("RGB", (columns * (width + 4), -(-len(images) // columns) * (height + 4)), "white")
    for i, image in enumerate(images):
        place = (i % columns * (width + 4) + 2, i // columns * (height + 4) + 2)
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def parameters(model: torch.nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in model.parameters()) / 1e6
