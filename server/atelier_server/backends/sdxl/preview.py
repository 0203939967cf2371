"""Previews: latents to small RGB pictures by one matrix, without the VAE."""

import json
import logging
from pathlib import Path

import torch

from atelier_server.backends.base import Pixels

_LOG = logging.getLogger(__name__)
_SDXL = (
    (0.3920, 0.4054, 0.4549),
    (-0.2634, -0.0196, 0.0653),
    (0.0568, 0.1687, -0.0755),
    (-0.3112, -0.2359, -0.2076),
)
"""SDXL's latents to RGB in -1..1, found by least squares; widely used by its front ends."""


class Previewer:
    """Turns latents into pictures at the latents' resolution.

    preview.json in the checkpoint's folder gives `matrix` [channels][3] and `bias` [3] with
    rgb = latents @ matrix + bias in 0..1; without it SDXL's own matrix is used for VAEs of four channels.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        self._matrix: torch.Tensor | None = None
        self._bias = torch.full((3,), 0.5)
        path = folder / "preview.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
            if values is not None:
                self._matrix = torch.tensor(values["matrix"], dtype=torch.float32).reshape(channels, 3)
                self._bias = torch.tensor(values["bias"], dtype=torch.float32).reshape(3)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            self._matrix = None
            _LOG.warning("%s cannot be used, there will be no previews: %s", path, error)
        else:
            if values is None and channels == len(_SDXL):
                self._matrix = torch.tensor(_SDXL) / 2

    def picture(self, latents: torch.Tensor) -> Pixels | None:
        """uint8 [h, w, 3] from latents [1, channels, h, w]; None when no matrix fits this VAE."""
        if self._matrix is None:
            return None
        rgb = latents[0].float().cpu().permute(1, 2, 0) @ self._matrix + self._bias
        pixels: Pixels = rgb.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        return pixels
