"""How near a picture's embedding is to a brand's, and what the brand's references say of themselves.

The cosine measure is the stated default: the mean cosine to the 3 nearest references, since a brand can have several
looks. A cosine is no probability, so a second number sets it against the references' scores among each other (genuine)
and the scores of pictures of other brands (impostors).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_server.brand.records import Embedded, Vectors

NEAREST = 3
ENOUGH_REFERENCES = 8
"""Below this, a brand's score is unreliable."""
CONTRADICTING = 0.85
"""A reference that is no nearer to the others than this would not pass for the brand itself."""
CONTRADICTING_SHARE = 0.25
_NEWTON_ROUNDS = 30

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nearness:
    """What a picture's embedding says: `score` in 0 to 1, `nearest` as (reference_id, cosine), nearest first."""

    score: float
    nearest: tuple[tuple[str, float], ...]
    centroid: float


@dataclass(frozen=True, slots=True)
class Logistic:
    """P(on-brand) = sigmoid(scale · score + bias)."""

    scale: float
    bias: float

    def __call__(self, score: float) -> float:
        return float(0.5 * (1.0 + np.tanh(0.5 * (self.scale * score + self.bias))))


def nearness(picture: Vectors, references: Embedded) -> Nearness:
    """Compares an embedding [1, width] of length 1 with a brand's references, of which there is at least one."""
    cosines = (references.vectors @ picture[0]).astype(np.float64)
    order = np.argsort(-cosines, kind="stable")[:NEAREST]
    nearest = tuple((references.reference_ids[index], float(cosines[index])) for index in order)
    score = float(np.clip(cosines[order].mean(), 0.0, 1.0))
    return Nearness(score, nearest, float(centroid(references.vectors) @ picture[0]))


def centroid(vectors: Vectors) -> Vectors:
    """The direction [width] of the mean, of length 1."""
    mean = vectors.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def dispersion(vectors: Vectors) -> float | None:
    """Mean distance, 1 − cosine, of the references from their centre; None for fewer than two."""
    if len(vectors) < 2:
        return None
    return float(np.clip(1.0 - (vectors @ centroid(vectors)).mean(), 0.0, 2.0))


def leave_one_out(vectors: Vectors) -> Floats:
    """Each reference's score against the others [references]; there are at least two."""
    cosines = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    count = min(NEAREST, len(vectors) - 1)
    return np.asarray(np.clip(np.sort(cosines, axis=1)[:, -count:].mean(axis=1), 0.0, 1.0), np.float64)


def impostor_scores(impostors: Vectors, vectors: Vectors) -> Floats:
    """Scores against the brand [impostors] of embeddings that belong to other brands."""
    cosines = (impostors @ vectors.T).astype(np.float64)
    count = min(NEAREST, len(vectors))
    return np.asarray(np.clip(np.sort(cosines, axis=1)[:, -count:].mean(axis=1), 0.0, 1.0), np.float64)


def fit_probability(genuine: Floats, impostors: Floats) -> Logistic:
    """A logistic map from score to P(on-brand), on-brand and off-brand equally likely beforehand.

    Newton's method on the weighted log loss with Platt's smoothed targets (Platt 1999; Lin, Lin, Weng 2007), which keep
    the map finite where the two do not overlap.
    """
    scores = np.concatenate([genuine, impostors])
    centre, spread = float(scores.mean()), float(max(scores.std(), 1e-6))
    x = np.stack([(scores - centre) / spread, np.ones(len(scores))], axis=1)
    sure, unsure = (len(genuine) + 1) / (len(genuine) + 2), 1 / (len(impostors) + 2)
    target = np.concatenate([np.full(len(genuine), sure), np.full(len(impostors), unsure)])
    weight = np.concatenate([np.full(len(genuine), 0.5 / len(genuine)), np.full(len(impostors), 0.5 / len(impostors))])
    line = np.zeros(2)
    for _ in range(_NEWTON_ROUNDS):
        p = 0.5 * (1.0 + np.tanh(0.5 * (x @ line)))
        gradient = x.T @ (weight * (p - target)) + 1e-4 * line
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-4 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line -= step / max(1.0, float(np.linalg.norm(step)))
    scale = max(0.0, float(line[0])) / spread
    return Logistic(scale, float(line[1]) - scale * centre)


def warnings_of(reference_count: int, vectors: Vectors, pending: int) -> tuple[str, ...]:
    """Sentences for people about a brand's references."""
    told: list[str] = []
    if 0 < reference_count < ENOUGH_REFERENCES:
        told.append(
            f"the brand has {reference_count} reference pictures; its score is reliable from about "
            f"{ENOUGH_REFERENCES} on"
        )
    if pending:
        told.append(f"{pending} of {reference_count} reference pictures are not embedded by the present model yet")
    if len(vectors) >= 2:
        strange = int((leave_one_out(vectors) < CONTRADICTING).sum())
        if strange >= max(1, CONTRADICTING_SHARE * len(vectors)):
            told.append(
                f"the reference pictures contradict each other: {strange} of {len(vectors)} would not pass for the "
                f"brand themselves at {CONTRADICTING}"
            )
    return tuple(told)
