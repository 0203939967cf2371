"""Between the protocol's picture calls and the pipeline's: the model alone, without prompt words, scores or gate."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from atelier_server import types
from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import InvalidArgument
from atelier_server.frontend.kserve.parameters import whole_number
from atelier_server.frontend.kserve.tensors import Array, bytes_array

PREVIEW_EVERY, PREVIEW_SIDE = "preview_every_n_steps", "preview_max_side"
"""Parameters of a streamed request; a response with a preview has it as the output PREVIEW (BYTES, one JPEG)."""
HIGHEST_PRIORITY, USUAL_PRIORITY = 1, 2
"""Of the reserved parameter `priority`, where 0 is the default and higher numbers wait longer."""


def picture_request(
    request: pb.ModelInferRequest, inputs: Mapping[str, Array], facts: Mapping[str, float], *, cached: bool
) -> types.GenerateRequest:
    """The pipeline's request.

    Args:
        request: The caller's.
        inputs: Its tensors, each [1].
        facts: What the model's instance tells of itself; its native size is the default.
        cached: Whether equal requests may be answered from the cache.

    Raises:
        InvalidArgument: A tensor holds what it must not.
    """
    given: dict[str, Any] = {
        name: inputs[name].item()
        for name in ("seed", "width", "height", "num_inference_steps", "guidance_scale")
        if name in inputs
    }
    given.setdefault("width", int(facts["native_width"]))
    given.setdefault("height", int(facts["native_height"]))
    if "negative_prompt" in inputs:
        given["negative_prompt"] = _text("negative_prompt", inputs)
    if "noise_schedule" in inputs:
        given["noise_schedule"] = _choice("noise_schedule", inputs, types.NoiseSchedule)
    if "reproducibility" in inputs:
        given["reproducibility"] = _choice("reproducibility", inputs, types.Reproducibility)
    return types.GenerateRequest(
        prompt=_text("prompt", inputs),
        style=types.Style.NONE,
        model_name=request.model_name,
        model_version=request.model_version,
        brand_consistency_check=False,
        score=False,
        cache=types.CachePolicy.USE if cached else types.CachePolicy.BYPASS,
        priority=_priority(request),
        preview=_preview(request),
        **given,
    )


class PictureReader:
    """Collects what a reply needs of a generation's events. The picture is a PNG."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._started: types.Started | None = None
        self._picture: types.ImageCompleted | None = None
        self.completed: types.Completed | None = None

    def take(self, event: types.Event) -> None:
        """Takes note of an event."""
        match event:
            case types.Started():
                self._started = event
            case types.ImageChunk(data=data):
                self._data.append(data)
            case types.ImageCompleted():
                self._picture = event
            case types.Completed():
                self.completed = event

    @property
    def version(self) -> str:
        """The version that made it."""
        return self._started.model_version if self._started else ""

    def outputs(self, wished: frozenset[str]) -> dict[str, Array]:
        """IMAGE and SEED, and IMAGE_RAW if it is wished: uint8 [height, width, 3]. Decodes; not for the event loop."""
        assert self._picture is not None
        data = b"".join(self._data)
        outputs: dict[str, Array] = {
            "IMAGE": bytes_array([data]),
            "SEED": np.array([self._picture.seed], np.uint64),
        }
        if "IMAGE_RAW" in wished:
            outputs["IMAGE_RAW"] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return outputs

    def facts(self) -> dict[str, bool | int | float | str]:
        """What the reply tells beside the tensors: timings in milliseconds, and what was decided."""
        assert self._started is not None
        assert self.completed is not None
        timings = {f"{stage}_ms": float(value) for stage, value in self.completed.timings_ms.items()}
        return timings | {
            "generation_time_ms": self.completed.generation_time_ms,
            "cached": self.completed.cached,
            "reproducibility": self.completed.reproducibility.value,
            "num_inference_steps": self._started.num_inference_steps,
            "guidance_scale": float(self._started.guidance_scale),
            "noise_schedule": self._started.noise_schedule,
        }


def _text(name: str, inputs: Mapping[str, Array]) -> str:
    try:
        return bytes(inputs[name].item()).decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"input '{name}' is not UTF-8 text", field=name) from None


def _choice(name: str, inputs: Mapping[str, Array], kind: Any) -> Any:
    text = _text(name, inputs)
    try:
        return kind(text.lower()) if text else None
    except ValueError:
        known = ", ".join(kind)
        raise InvalidArgument(f"input '{name}' is {text[:40]!r}; it must be one of {known}", field=name) from None


def _priority(request: pb.ModelInferRequest) -> types.Priority:
    number = whole_number(request.parameters, "priority")
    if number in (0, USUAL_PRIORITY):
        return types.Priority.NORMAL
    return types.Priority.HIGH if number == HIGHEST_PRIORITY else types.Priority.LOW


def _preview(request: pb.ModelInferRequest) -> types.PreviewOptions:
    usual = types.PreviewOptions()
    return types.PreviewOptions(
        every_n_steps=whole_number(request.parameters, PREVIEW_EVERY),
        max_side=whole_number(request.parameters, PREVIEW_SIDE, usual.max_side),
    )
