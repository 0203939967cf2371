"""The image tower of starter_clip, of the probe and of the brand embedder: a small residual convolutional network."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, normalised by batch statistics."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm_2.weight)
        same = width_in == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(width_in, width, stride, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm_1(self.first(x)))
        return F.relu(self.shortcut(x) + self.norm_2(self.second(y)))


class ImageTower(nn.Module):
    """Pictures [n, 3, 128, 128] in CLIP's normalisation to embeddings [n, width], not normalised.

    What is pooled is the mean, the deviation and the 4x4 layout of the last features: what, how even, and where.
    """

    def __init__(self, width: int = 128, channels: tuple[int, ...] = (64, 96, 192)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 8, 4, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels[0])
        self.blocks = nn.Sequential(*(Block(a, b, 2) for a, b in pairwise((*channels, channels[-1]))))
        self.place = nn.Conv2d(channels[-1], 32, 1)
        self.pool = nn.LayerNorm(2 * channels[-1] + 32 * 16)
        self.project = nn.Linear(2 * channels[-1] + 32 * 16, width)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The pooled features [n, 896] before the projection."""
        x = self.blocks(F.relu(self.norm(self.stem(pixel_values))))
        flat = x.flatten(2).float()
        mean = flat.mean(-1)
        deviation = ((flat - mean[..., None]).square().mean(-1) + 1e-5).sqrt()
        return self.pool(torch.cat([mean, deviation, self.place(x).flatten(1).float()], dim=1))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.project(self.features(pixel_values))
