"""Gate stage: holds pictures back until they pass, and says which ones are worth another attempt. Pure bookkeeping.

Attempts may be judged in any order. What leaves does not depend on it: of a picture's attempts the first that passes,
or else the best.
"""

from collections.abc import Sequence
from dataclasses import replace

from atelier_server.errors import GateRefused
from atelier_server.pipeline.finish import JudgedPicture
from atelier_server.pipeline.plan import Plan
from atelier_server.pipeline.planner import seed_of
from atelier_server.pipeline.score import scorer_missing
from atelier_server.types import Gate, Scores


class GateKeeper:
    """The best picture so far of every index of a plan under RETRY or ENFORCE."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._best: dict[int, JudgedPicture] = {}
        self._judged: set[tuple[int, int]] = set()

    def consider(self, picture: JudgedPicture) -> None:
        """Keeps the picture if it beats what its index has.

        Raises:
            Unavailable: Under ENFORCE, a picture that could not be scored: it must not leave.
        """
        if self._plan.request.gate is Gate.ENFORCE and picture.scores.aesthetic_score is None:
            raise scorer_missing(picture.scores.missing_reasons.get("aesthetic_score", "the scorer gave no score"))
        self._judged.add((picture.image_index, picture.attempt))
        best = self._best.get(picture.image_index)
        if best is None or _rank(picture) > _rank(best):
            self._best[picture.image_index] = picture

    def failing(self) -> tuple[int, ...]:
        """Indexes without a picture that passed."""
        return tuple(
            index for index in self._plan.indexes if index not in self._best or not self._best[index].scores.passed
        )

    @property
    def complete(self) -> bool:
        """Whether every index has a picture."""
        return len(self._best) == len(self._plan.indexes)

    @property
    def settled(self) -> bool:
        """Whether nothing that is still to be judged can change what leaves."""
        return not self.failing() and all(
            (index, attempt) in self._judged
            for index, picture in self._best.items()
            for attempt in range(1, picture.attempt)
        )

    @property
    def attempts(self) -> int:
        """Attempts that were needed; those beside them that were not needed do not count."""
        tried = max((attempt for _, attempt in self._judged), default=0)
        return tried if self.failing() else max(picture.attempt for picture in self._best.values())

    def next_attempts(self, first: int, count: int) -> Plan:
        """The plan of further attempts, one after another: the failing pictures with seeds that no other attempt uses.

        Args:
            first: Number of the first of them, from 1.
            count: How many are computed side by side.
        """
        failing, request = self.failing(), self._plan.request
        seeds = [
            seed_of(self._plan.seeds[0], attempt * request.num_images + index)
            for attempt in range(first - 1, first - 1 + count)
            for index in failing
        ]
        return replace(self._plan, attempt=first, indexes=failing * count, seeds=tuple(seeds))

    def verdict(self) -> Sequence[JudgedPicture]:
        """The pictures that may leave.

        Raises:
            GateRefused: Under ENFORCE, a picture did not pass; the metadata holds the best scores.
        """
        pictures = [self._best[index] for index in self._plan.indexes]
        if self._plan.request.gate is Gate.ENFORCE and self.failing():
            worst = min(pictures, key=lambda picture: merit(picture.scores)).scores
            raise GateRefused(
                "no attempt reached the thresholds: lower them, raise max_attempts or change the prompt",
                metadata=_told(worst) | {"attempts": str(self.attempts)},
            )
        return pictures


def merit(scores: Scores) -> float:
    """Orders pictures: how far the scores are above their thresholds, as shares of the scales; passing ones first."""
    aesthetic = 0.0 if scores.aesthetic_score is None else (scores.aesthetic_score - scores.aesthetic_threshold) / 10
    brand = 0.0
    if scores.brand_consistency_score is not None and not scores.brand_reference_missing:
        brand = scores.brand_consistency_score - scores.brand_threshold
    return aesthetic + brand + (10.0 if scores.passed else 0.0)


def _rank(picture: JudgedPicture) -> tuple[bool, float, int]:
    """Passing before failing; of passing ones the first attempt, of failing ones the greatest merit."""
    if picture.scores.passed:
        return True, 0.0, -picture.attempt
    return False, merit(picture.scores), -picture.attempt


def _told(scores: Scores) -> dict[str, str]:
    known = {
        "aesthetic_score": scores.aesthetic_score,
        "aesthetic_threshold": scores.aesthetic_threshold,
        "brand_consistency_score": scores.brand_consistency_score,
        "brand_threshold": scores.brand_threshold,
    }
    return {name: f"{value:.3f}" for name, value in known.items() if value is not None}
