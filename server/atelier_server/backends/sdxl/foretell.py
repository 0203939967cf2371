"""Foretells what the UNet would predict at a step from what it predicted at the two computed last.

The prediction changes slowly from step to step, so the line through two of them hits the next one closely. This is
forecasting of the first order as in TaylorSeer (Liu et al. 2025, "From Reusing to Forecasting"), applied to the result
of the whole UNet instead of to the features within: a step that is foretold takes no row of a batch.
"""

from collections import deque

import torch

from atelier_server.backends.sdxl.accelerations import LINE_POINTS


class Foretelling:
    """The last predictions of one picture."""

    def __init__(self) -> None:
        self._known: deque[tuple[int, torch.Tensor]] = deque(maxlen=LINE_POINTS)

    def learn(self, step: int, noise_pred: torch.Tensor) -> None:
        """Takes note of a computed prediction."""
        self._known.append((step, noise_pred))

    def at(self, step: int) -> torch.Tensor:
        """The prediction of a step on the line through the last two that are known."""
        (before, older), (last, newer) = self._known
        return newer + (newer - older) * ((step - last) / (last - before))

    def move(self, device: torch.device) -> None:
        """Goes on at another device."""
        self._known = deque(((step, known.to(device)) for step, known in self._known), maxlen=LINE_POINTS)
