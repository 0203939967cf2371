"""From CLIP embeddings to scores. Embeddings come as the graphs give them and are normalised here."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_server.scoring.calibration import Calibration

Embeddings = NDArray[np.float32]
"""float32 [rows, width]."""


@dataclass(frozen=True, slots=True)
class Aesthetics:
    """The score and its parts, each 0 to 10."""

    score: float
    sub_scores: Mapping[str, float]


def normalised(embeddings: Embeddings) -> Embeddings:
    """Rows of length 1."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), np.float32)


def mean_embedding(crops: Embeddings) -> Embeddings:
    """One embedding [1, width] of a picture's crops: the mean of their directions."""
    return normalised(normalised(crops).mean(axis=0, keepdims=True))


def aesthetics(picture: Embeddings, positives: Embeddings, negatives: Embeddings, fit: Calibration) -> Aesthetics:
    """Scores a picture by the calibration's pairs.

    Args:
        picture: [1, width], of length 1.
        positives: [pairs, width], of length 1, in the order of the pairs.
        negatives: Likewise.
        fit: The pairs' scales, biases and weights.
    """
    margins = (picture @ positives.T - picture @ negatives.T)[0]
    parts: dict[str, list[tuple[float, float]]] = {}
    for pair, margin in zip(fit.pairs, margins, strict=True):
        parts.setdefault(pair.name, []).append((pair.weight, 10.0 * _sigmoid(pair.scale * float(margin) + pair.bias)))
    every = [entry for entries in parts.values() for entry in entries]
    return Aesthetics(_weighted(every), {name: _weighted(entries) for name, entries in parts.items()})


def alignment(picture: Embeddings, text: Embeddings, fit: Calibration) -> float:
    """How well a picture shows a text, 0 to 1; both [1, width] of length 1."""
    return _sigmoid(fit.alignment_scale * float((picture @ text.T)[0, 0]) + fit.alignment_bias)


def _weighted(entries: list[tuple[float, float]]) -> float:
    total = sum(weight for weight, _ in entries)
    if total <= 0:
        return sum(value for _, value in entries) / len(entries)
    return sum(weight * value for weight, value in entries) / total


def _sigmoid(x: float) -> float:
    return float(0.5 * (1.0 + np.tanh(0.5 * x)))
