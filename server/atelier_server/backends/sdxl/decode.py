"""Latents to pictures and back through the VAE, one picture at a time."""

import logging
from typing import Any, Protocol

import psutil
import torch

from atelier_server.backends.base import Pixels
from atelier_server.backends.sdxl.compiled.graph import GraphFailed

_LOG = logging.getLogger(__name__)

TILE_PIXELS = 2048 * 1024
"""With vae_tiling auto larger pictures are always decoded in tiles."""
_LIVE_TENSORS = 4
"""Full-resolution activations that are alive at the same time in the decoder's last block."""


class Decoder(Protocol):
    """Decodes in the VAE's place."""

    def takes(self, latents: torch.Tensor) -> bool:
        """Whether it decodes latents of this size."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """[1, 3, height, width] in -1..1 from unscaled float32 latents."""


class VaeCodec:
    """Decodes (and for refining encodes) with an AutoencoderKL.

    Args:
        vae: The AutoencoderKL.
        slicing: auto, on or off; pictures are decoded one by one anyway, so auto is off.
        tiling: auto, on or off; auto tiles very large pictures, and others when memory is short.
        decoder: Decodes in the VAE's place what it takes and what needs no tiles, exact pictures too.
    """

    def __init__(self, vae: Any, slicing: str, tiling: str, decoder: Decoder | None = None) -> None:
        self._vae = vae.to(memory_format=torch.channels_last)
        self._slicing, self._tiling = slicing, tiling
        self._decoder = decoder
        self._compiled: Decoder | None = None
        self._economises = False
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        if slicing == "on":
            vae.enable_slicing()

    @property
    def compiled(self) -> bool:
        """Whether a compiled decoder decodes what need not be exact."""
        return self._compiled is not None

    def take(self, compiled: Decoder | None) -> None:
        """Decodes by a compiled decoder from now on what need not be exact; None: no longer."""
        self._compiled = compiled

    def decode(self, latents: torch.Tensor, exact: bool = False) -> Pixels:
        """uint8 [height, width, 3] from float32 latents [1, channels, height / factor, width / factor]."""
        image = self.decode_tensor(latents, exact)
        # As VaeImageProcessor: to 0..1 first, then rounded to 255ths.
        values = (image[0].float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
        pixels: Pixels = (values * 255).round().to(torch.uint8).cpu().contiguous().numpy()
        return pixels

    def decode_tensor(self, latents: torch.Tensor, exact: bool = False) -> torch.Tensor:
        """[1, 3, height, width] in -1..1, in the VAE's dtype or float32."""
        config = self._vae.config
        if config.latents_mean is not None and config.latents_std is not None:
            mean, deviation = (
                self._per_channel(values, latents) for values in (config.latents_mean, config.latents_std)
            )
            latents = latents * deviation / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor
        tiled = self._set_tiling(latents.shape[-1] * latents.shape[-2] * self.factor**2)
        if self._compiled is not None and not exact and not tiled and self._compiled.takes(latents):
            try:
                return self._compiled.decode(latents)
            except GraphFailed as error:
                _LOG.warning("the compiled decoder failed and is not used any more: %s", error)
                self.take(None)
        if self._decoder is not None and not tiled and self._decoder.takes(latents):
            return self._decoder.decode(latents)
        image: torch.Tensor = self._vae.decode(latents.to(self._vae.dtype), return_dict=False)[0]
        return image

    def encode_tensor(self, image: torch.Tensor) -> torch.Tensor:
        """Float32 latents [1, channels, h, w] of an image [1, 3, height, width] in -1..1: the distribution's mode."""
        config = self._vae.config
        self._set_tiling(image.shape[-1] * image.shape[-2])
        latents: torch.Tensor = self._vae.encode(image.to(self._vae.dtype)).latent_dist.mode().float()
        if config.latents_mean is not None and config.latents_std is not None:
            mean, deviation = (
                self._per_channel(values, latents) for values in (config.latents_mean, config.latents_std)
            )
            latents = (latents - mean) / deviation
        scaled: torch.Tensor = latents * config.scaling_factor
        return scaled

    def economise(self, on: bool) -> None:
        """Computes pictures in tiles of half the native size, where auto allows it, or no longer."""
        if self._tiling == "auto":
            self._economises = on
            tile = self._native_side // 2 if on else self._native_side
            self._vae.tile_sample_min_size, self._vae.tile_latent_min_size = tile, tile // self.factor
        if self._slicing == "auto":
            self._vae.enable_slicing() if on else self._vae.disable_slicing()

    @property
    def _native_side(self) -> int:
        return int(self._vae.config.sample_size)

    def tiles(self, pixels: int) -> bool:
        """Whether a picture of that many pixels is computed in tiles."""
        if self._tiling != "auto":
            return self._tiling == "on"
        return self._economises or pixels > TILE_PIXELS or self._needed_bytes(pixels) > self._free_bytes()

    def _set_tiling(self, pixels: int) -> bool:
        tiled = self.tiles(pixels)
        if tiled:
            self._vae.enable_tiling()
        else:
            self._vae.disable_tiling()
        return tiled

    def _needed_bytes(self, pixels: int) -> int:
        widest = 2 * int(self._vae.config.block_out_channels[0])  # the last block still reads the one below it
        return pixels * widest * int(self._vae.dtype.itemsize) * _LIVE_TENSORS

    def _free_bytes(self) -> int:
        if self._vae.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._vae.device)[0])
        return int(psutil.virtual_memory().available)

    @staticmethod
    def _per_channel(values: list[float], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)
