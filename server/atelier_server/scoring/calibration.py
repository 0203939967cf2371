"""The calibration file beside a CLIP model: how its embeddings become scores.

It lies in the version's folder as calibration.json and is fitted together with the model, since a cosine means
nothing by itself. Method: K antonym pairs; p = sigmoid(scale · (cos(x, positive) − cos(x, negative)) + bias) for each,
score = 10 · Σ weight · p with weights that sum to 1 (CLIP-IQA with fitted scales, arXiv 2207.12396).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier_server.errors import Unavailable

FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class AntonymPair:
    """One quality of a picture, as a text that praises it and one that does not."""

    name: str
    positive: str
    negative: str
    scale: float
    bias: float
    weight: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a CLIP: `image_size` pixels a side, per-channel `mean` and `std`, `context_length` tokens."""

    version: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    context_length: int
    pad_id: int
    pairs: tuple[AntonymPair, ...]
    alignment_scale: float
    alignment_bias: float


def load_calibration(folder: Path) -> Calibration:
    """Reads the calibration of a model version.

    Raises:
        Unavailable: The file is missing or wrong; the message says how.
    """
    path = folder / FILE
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(
            version=str(data["version"]),
            image_size=int(data["image_size"]),
            mean=_triple(data["mean"]),
            std=_triple(data["std"]),
            context_length=int(data["context_length"]),
            pad_id=int(data["pad_id"]),
            pairs=tuple(AntonymPair(**pair) for pair in data["pairs"]),
            alignment_scale=float(data["alignment"]["scale"]),
            alignment_bias=float(data["alignment"]["bias"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"{folder.parent.name}/{folder.name}/{FILE} cannot be used: {type(error).__name__}: {error}",
            reason="BAD_CALIBRATION",
        ) from error


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
