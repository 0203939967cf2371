"""One UNet step of many pictures: gather their rows, call the UNet once, scatter the predictions."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from atelier_server.backends.sdxl.compiled.graph import GraphFailed
from atelier_server.backends.sdxl.cross_attention import remember_text
from atelier_server.backends.sdxl.foretell import Foretelling
from atelier_server.backends.sdxl.noise_schedule import Denoiser
from atelier_server.backends.sdxl.threads import StepThreads

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Conditioning:
    """What stays the same at every step of a picture, row by row: unconditional first, then the prompt's.

    `embeds` [rows, 77, width], `pooled` [rows, projection], `time_ids` float32 [rows, 6] (original height and width,
    crop from the top left, target height and width). `guidance_embeds` [rows, dim] only for UNets that were distilled
    to read the guidance scale; they need no unconditional row.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor
    guidance_scale: float
    guidance_embeds: torch.Tensor | None = None
    _unguided: "Conditioning | None" = None

    @property
    def rows(self) -> int:
        """1, or 2 with guidance."""
        return int(self.embeds.shape[0])

    def of_rows(self, rows: int) -> "Conditioning":
        """Itself, or without the unconditional row where only one is computed; always the same object."""
        if rows == self.rows:
            return self
        if self._unguided is None:
            self._unguided = Conditioning(
                self.embeds[-1:], self.pooled[-1:], self.time_ids[-1:], self.guidance_scale, self.guidance_embeds
            )
        return self._unguided

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves what the UNet reads to its device and dtype."""
        self.embeds, self.pooled = self.embeds.to(device, dtype), self.pooled.to(device, dtype)
        self.time_ids = self.time_ids.to(device)
        self._unguided = None
        if self.guidance_embeds is not None:
            self.guidance_embeds = self.guidance_embeds.to(device, dtype)


@dataclass(slots=True, eq=False)
class Denoising:
    """A picture in the making: float32 latents [1, channels, h, w], its noise schedule and its conditioning.

    `plan` has the rows of each step that it still has to do (accelerations.py). `foreseen` are the finished latents as
    each step since the last computation of the UNet foresaw them: the computed one, and the foretold ones after it.
    An `exact` picture is computed by the same threads at every step, since sums depend on their number.
    """

    latents: torch.Tensor
    denoiser: Denoiser
    conditioning: Conditioning
    plan: tuple[int, ...]
    exact: bool = False
    foreseen: list[torch.Tensor] = field(default_factory=list)
    _done: int = 0
    _foretelling: Foretelling | None = None

    def __post_init__(self) -> None:
        if 0 in self.plan:
            self._foretelling = Foretelling()

    @property
    def rows(self) -> int:
        """Of its next step, which is always one that is computed."""
        return self.plan[self._done]

    def advance(self, noise_pred: torch.Tensor) -> None:
        """Does a step by what the UNet predicted, and those after it that are foretold."""
        self.foreseen = []
        if self._foretelling is not None:
            self._foretelling.learn(self._done, noise_pred)
        self._advance(noise_pred)
        while self._foretelling is not None and self._done < len(self.plan) and not self.plan[self._done]:
            self._advance(self._foretelling.at(self._done))

    def _advance(self, noise_pred: torch.Tensor) -> None:
        self.latents, foreseen = self.denoiser.advance(noise_pred, self.latents)
        self.foreseen.append(foreseen)
        self._done += 1

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Goes on at the UNet's device, in its dtype."""
        self.latents = self.latents.to(device)
        self.foreseen = [one.to(device) for one in self.foreseen]
        if self._foretelling is not None:
            self._foretelling.move(device)
        self.conditioning.move(device, dtype)
        self.denoiser.move(device)


class StepGraphs(Protocol):
    """Computes steps in the UNet's place."""

    def takes(self, sample: torch.Tensor) -> bool:
        """Whether it computes latents of this size."""

    def predict(
        self, sample: torch.Tensor, timesteps: torch.Tensor, inputs: Mapping[str, Any], threads: int
    ) -> torch.Tensor:
        """The UNet's predictions.

        Raises:
            GraphFailed: It could not.
        """


class UNetRunner:
    """Runs the UNet on batches of pictures of one size.

    Args:
        unet: diffusers' or one that is called like it.
        threads: Of a UNet that torch computes on a CPU: how many take part in a step. None: it is not asked.
        channels_last: Whether activations have that layout.
    """

    def __init__(self, unet: Any, threads: StepThreads | None = None, channels_last: bool = False) -> None:
        self._unet = unet
        self._threads = threads
        self.dtype: torch.dtype = unet.dtype
        self._device: torch.device = unet.device
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        unet.to(memory_format=self._layout)
        self._remembered = remember_text(unet)
        self._compiled: StepGraphs | None = None
        self._compiled_threads = StepThreads(1)
        self._slices = False
        self._composed_for: tuple[Conditioning, ...] = ()
        self._composed: dict[str, Any] = {}

    def prepare(self, rows: int) -> None:
        """Makes ready for batches of so many rows of native size, where that takes time."""
        prepare = getattr(self._unet, "prepare", None)
        if prepare is not None:
            prepare(rows)

    def step(self, pictures: Sequence[Denoising]) -> None:
        """Does the next computed step of each picture and what is foretold after it, in place."""
        scaled: list[torch.Tensor] = []
        timesteps: list[float] = []
        conditionings = [picture.conditioning.of_rows(picture.rows) for picture in pictures]
        for picture in pictures:
            scaled += [picture.denoiser.scaled(picture.latents)] * picture.rows
            timesteps += [picture.denoiser.timestep] * picture.rows
        exact = any(picture.exact for picture in pictures)
        predicted = self.predict(torch.cat(scaled), timesteps, conditionings, exact).float()
        first = 0
        for picture, conditioning in zip(pictures, conditionings, strict=True):
            noise_pred = predicted[first : first + 1]
            if conditioning.rows == 2:
                conditional = predicted[first + 1 : first + 2]
                noise_pred = noise_pred + conditioning.guidance_scale * (conditional - noise_pred)
            picture.advance(noise_pred)
            first += conditioning.rows

    def predict(
        self,
        sample: torch.Tensor,
        timesteps: Sequence[float],
        conditionings: Sequence[Conditioning],
        exact: bool = False,
    ) -> torch.Tensor:
        """The UNet's predictions [rows, channels, h, w] in its dtype, for as many rows of `sample` and `timesteps`."""
        inputs = self._compose(tuple(conditionings))
        rows = sample.to(dtype=self.dtype, memory_format=self._layout)
        times = torch.tensor(timesteps, dtype=torch.float32, device=self._device)
        compiled = self._compiled
        if compiled is not None and not exact and not self._slices and compiled.takes(rows):
            try:
                with self._few_threads(self._compiled_threads, rows.numel()) as count:
                    torch.set_num_threads(1)
                    return compiled.predict(rows, times, inputs, count)
            except GraphFailed as error:  # memory that was short is told only by torch
                _LOG.warning("the compiled UNet failed and is not used any more: %s", error)
                self.take(None)
        if exact or self._threads is None:
            return self._unet(rows, times, return_dict=False, **inputs)[0]  # type: ignore[no-any-return]
        with self._few_threads(self._threads, rows.numel()) as count:
            torch.set_num_threads(count)
            return self._unet(rows, times, return_dict=False, **inputs)[0]  # type: ignore[no-any-return]

    @contextmanager
    def _few_threads(self, threads: StepThreads, work: int) -> Iterator[int]:
        """Gives as many threads as make a step quick, and learns from the step; afterwards there are all again."""
        most = torch.get_num_threads()
        count = threads.choose(work)
        begin = time.perf_counter()
        try:
            yield count
            threads.took(work, count, time.perf_counter() - begin)
        finally:
            torch.set_num_threads(most)

    @property
    def compiled(self) -> bool:
        """Whether a compiled graph computes what need not be exact."""
        return self._compiled is not None

    def take(self, compiled: StepGraphs | None, threads: int = 1) -> None:
        """Computes by compiled or recorded graphs from now on what need not be exact.

        Args:
            compiled: Of this UNet; None: no longer.
            threads: Most that take part in a step.
        """
        self._compiled, self._compiled_threads = compiled, StepThreads(threads)

    def slice_attention(self, size: str | None) -> None:
        """Computes attention in pieces of a size in diffusers' words, or at once; compiled graphs cannot."""
        self._unet.set_attention_slice(size)
        self._slices = size is not None
        if self._slices and self._device.type == "cuda":
            self.take(None)  # recorded graphs hold memory, and there is none

    def synchronize(self) -> None:
        """Waits until the device is done, for measurements."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _compose(self, conditionings: tuple[Conditioning, ...]) -> dict[str, Any]:
        """The UNet's unchanging inputs; kept, because most steps have the pictures of the step before."""
        if conditionings != self._composed_for:
            guidance = [one.guidance_embeds for one in conditionings if one.guidance_embeds is not None]
            self._composed = {
                "encoder_hidden_states": torch.cat([one.embeds for one in conditionings]),
                "timestep_cond": torch.cat(guidance) if guidance else None,
                "added_cond_kwargs": {
                    "text_embeds": torch.cat([one.pooled for one in conditionings]),
                    "time_ids": torch.cat([one.time_ids for one in conditionings]),
                },
            }
            self._composed_for = conditionings
        return self._composed

    def moved(self) -> None:
        """Takes note that the UNet is on another device, or in another dtype."""
        self.dtype, self._device = self._unet.dtype, self._unet.device
        self.take(None)
        self.forget()

    def forget(self) -> None:
        """Drops what is kept of the last batch."""
        self._composed_for, self._composed = (), {}
        for layer in self._remembered:
            layer.forget()
