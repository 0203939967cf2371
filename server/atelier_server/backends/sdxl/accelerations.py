"""What a caller may give up of a picture for speed: how many rows each denoising step needs then. Pure Python.

Both are off unless asked for, and both are decided before the first step, whatever else runs: so a picture's bytes stay
what they are alone, and the scheduler knows what is left of it.

- Guidance interval (Kynkäänniemi et al. 2024, "Applying guidance in a limited interval"): the unconditional row is
  computed only for a share of the noise schedule. Outside of it the prompt's own prediction counts.
- Step caching: only every n-th step is computed. The steps between take no row at all; what the UNet would say is
  foretold from what it said (foretell.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atelier_server.errors import InvalidArgument

GUIDANCE_INTERVAL, STEP_CACHING = "guidance_interval", "step_caching"
"""What they are called in requests and replies."""
LEAST_CACHING, MOST_CACHING = 2, 10
"""Every n-th step at most and at least is computed."""
LINE_POINTS = 2
"""Predictions of one kind that must be there before one is foretold from them."""


@dataclass(frozen=True, slots=True)
class Accelerations:
    """Guidance from `start` on until `end`, shares of the steps; every `caching`-th step is computed, 0: every one."""

    start: float = 0.0
    end: float = 1.0
    caching: int = 0

    def check(self) -> None:
        """Refuses what makes no sense.

        Raises:
            InvalidArgument: `field` says what is wrong.
        """
        if not 0.0 <= self.start < self.end <= 1.0:
            raise InvalidArgument(
                f"guidance_interval is {self.start} to {self.end}; it must be 0 ≤ start < end ≤ 1.",
                field=GUIDANCE_INTERVAL,
            )
        if self.caching and not LEAST_CACHING <= self.caching <= MOST_CACHING:
            raise InvalidArgument(
                f"step_caching is {self.caching}; it must be {LEAST_CACHING} to {MOST_CACHING}.", field=STEP_CACHING
            )

    def rows(self, steps: int, begin: int, full: int) -> tuple[int, ...]:
        """Rows of each denoising step of a picture; 0 where it is foretold.

        The first and the last step are computed, and the first two after the guidance began or ended: a line between
        a guided and an unguided prediction foretells neither.

        Args:
            steps: Of the whole noise schedule.
            begin: The first one that is done.
            full: Rows of a step without accelerations: 2 with guidance.
        """
        rows: list[int] = []
        known, kind, computed = 0, 0, begin
        for step in range(begin, steps):
            wanted = full if self.start <= step / steps < self.end else 1
            if wanted != kind:
                known, kind = 0, wanted
            if known >= LINE_POINTS and step - computed < self.caching and step < steps - 1:
                rows.append(0)
                continue
            known, computed = known + 1, step
            rows.append(wanted)
        return tuple(rows)


def computed(rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The stretches of equal rows, as (computed steps left when it begins, rows of each)."""
    asked = [count for count in rows if count]
    return tuple(
        (len(asked) - place, count) for place, count in enumerate(asked) if not place or count != asked[place - 1]
    )


def applied(passes: Sequence[tuple[int, ...]], full: int) -> Iterator[str]:
    """The accelerations that take effect in a picture.

    Args:
        passes: The rows of each step of each pass.
        full: Rows of a step without accelerations.
    """
    rows = [count for one in passes for count in one]
    if any(0 < count < full for count in rows):
        yield GUIDANCE_INTERVAL
    if 0 in rows:
        yield STEP_CACHING
