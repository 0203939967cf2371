"""What the configured model accepts: sizes, qualities, styles, previews. Facts of openai 3.54's image_generate_params.

One request makes one picture, whatever the model's `n`: a failure then costs one picture, a stream's partial pictures
belong to a known one, and a reply stays small. A repeated prompt is a fraction of a cent.
"""

import math
from dataclasses import dataclass
from typing import Any

from atelier_server.backends.base import DiffusionTask
from atelier_server.backends.openai.parameters import Parameters
from atelier_server.types import Quality, Style

DALL_E_SIZES = ((1024, 1024), (1792, 1024), (1024, 1792))
EARLY_GPT_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
SIDE_MULTIPLE, MAX_SIDE, MAX_RATIO = 16, 3840, 3.0
MIN_AREA, MAX_AREA = 655_360, 8_294_400
"""Limits of gpt-image-2 and later."""
PARTIAL_IMAGES = 3
"""The most that a stream sends before the picture itself."""

_GPT_QUALITIES = {Quality.STANDARD: "low", Quality.HD: "medium", Quality.ULTRA_HD: "high"}
_VIVID = {Style.LUXURY, Style.BOLD, Style.MODERN}
_AXIS_FACTORS = {"low": 16, "medium": 48, "high": 96}
"""Of the token count; OpenAI's price calculator for gpt-image-2."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One family of models; `sizes` () means any that the limits allow."""

    sizes: tuple[tuple[int, int], ...]
    is_dall_e: bool
    max_prompt_chars: int

    @property
    def partial_images(self) -> int:
        """How many unfinished pictures a stream may send."""
        return 0 if self.is_dall_e else PARTIAL_IMAGES

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The accepted size whose shape and area are nearest; the pipeline crops and resamples the rest."""
        if not self.sizes:
            return _free_size(width, height)
        return min(self.sizes, key=lambda size: _distance(size, width / height, width * height))

    def arguments(self, task: DiffusionTask, parameters: Parameters, partial_images: int) -> dict[str, Any]:
        """Keyword arguments of `images.generate` for one picture of the task; 0 partial images: no stream."""
        width, height = self.size(task.width, task.height)
        arguments: dict[str, Any] = {
            "model": parameters.upstream_model,
            "prompt": task.prompt[: self.max_prompt_chars],
            "size": f"{width}x{height}",
            "n": 1,
            "quality": self.quality(task.quality),
        }
        if self.is_dall_e:
            style = "vivid" if task.style in _VIVID else "natural"
            return arguments | {"style": style, "response_format": "b64_json"}
        arguments |= {"output_format": "png", "moderation": parameters.moderation}
        return arguments | ({"stream": True, "partial_images": partial_images} if partial_images else {})

    def quality(self, quality: str) -> str:
        """The upstream's word."""
        wanted = Quality(quality) if quality else Quality.HD
        if self.is_dall_e:
            return "standard" if wanted is Quality.STANDARD else "hd"
        return _GPT_QUALITIES[wanted]

    def cost(self, width: int, height: int, quality: str, prompt_chars: int, parameters: Parameters) -> float:
        """US dollars for one picture, before it is made; size and quality are the request's."""
        if parameters.price_per_image_usd:
            return parameters.price_per_image_usd
        width, height = self.size(width, height)
        quality = self.quality(quality)
        if self.is_dall_e:
            return 0.04 * (1 + (quality == "hd")) + 0.04 * (width != height)
        read = prompt_chars / 4  # tokens of English text
        return (read * parameters.input_price_usd + _tokens(quality, width, height) * parameters.output_price_usd) / 1e6

    def task_cost(self, task: DiffusionTask, parameters: Parameters) -> float:
        """The same for one picture of a task."""
        return self.cost(task.width, task.height, task.quality, len(task.prompt), parameters)


def dialect_of(upstream_model: str) -> Dialect:
    """Which family a model belongs to, by its name."""
    if upstream_model.startswith("dall-e"):
        return Dialect(DALL_E_SIZES, True, 4000)
    if upstream_model.startswith(("gpt-image-1", "chatgpt-image")):
        return Dialect(EARLY_GPT_SIZES, False, 32_000)
    return Dialect((), False, 32_000)


def _free_size(width: int, height: int) -> tuple[int, int]:
    ratio = min(MAX_RATIO, max(1 / MAX_RATIO, width / height))
    area = min(MAX_AREA, max(MIN_AREA, width * height))
    ideal = math.sqrt(area * ratio) / SIDE_MULTIPLE
    candidates = [
        (across * SIDE_MULTIPLE, down * SIDE_MULTIPLE)
        for across in range(max(1, int(ideal) - 4), int(ideal) + 6)
        for down in range(max(1, int(across / ratio) - 2), int(across / ratio) + 4)
    ]
    return min(filter(_is_allowed, candidates), key=lambda size: _distance(size, ratio, area))


def _is_allowed(size: tuple[int, int]) -> bool:
    longest, shortest = max(size), min(size)
    return longest <= MAX_SIDE and longest <= MAX_RATIO * shortest and MIN_AREA <= size[0] * size[1] <= MAX_AREA


def _distance(size: tuple[int, int], ratio: float, area: float) -> float:
    """Sum of the relative errors of shape and area; the shape counts more, since it is what gets cropped."""
    return 4 * abs(math.log(size[0] / size[1] / ratio)) + abs(math.log(size[0] * size[1] / area))


def _tokens(quality: str, width: int, height: int) -> int:
    factor, longest, shortest = _AXIS_FACTORS[quality], max(width, height), min(width, height)
    short_axis = round(factor * shortest / longest)
    return math.ceil(factor * short_axis * (2_000_000 + width * height) / 4_000_000)
