"""From the caller's messages to the domain's requests."""

from typing import Any

from atelier.v1 import common_pb2, image_generation_pb2, scoring_pb2
from atelier_server import types
from atelier_server.frontend.converters.enums import FORMATS, REPRODUCIBILITY, known_word, words_by_number

_REQUEST_ENUMS: dict[str, dict[int, Any]] = {
    "style": words_by_number(common_pb2.Style.DESCRIPTOR, types.Style),
    "aspect_ratio": words_by_number(common_pb2.AspectRatio.DESCRIPTOR, types.AspectRatio),
    "quality": words_by_number(common_pb2.Quality.DESCRIPTOR, types.Quality),
    "model": words_by_number(common_pb2.Model.DESCRIPTOR, types.ModelChoice),
    "noise_schedule": words_by_number(common_pb2.NoiseSchedule.DESCRIPTOR, types.NoiseSchedule),
    "gate": words_by_number(common_pb2.Gate.DESCRIPTOR, types.Gate),
    "output_format": FORMATS,
    "cache": words_by_number(common_pb2.CachePolicy.DESCRIPTOR, types.CachePolicy),
    "priority": words_by_number(common_pb2.Priority.DESCRIPTOR, types.Priority),
    "reproducibility": REPRODUCIBILITY,
    "on_disconnect": words_by_number(common_pb2.OnDisconnect.DESCRIPTOR, types.OnDisconnect),
}
_OPTIONAL_FIELDS = (
    "negative_prompt",
    "width",
    "height",
    "num_images",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "brand_consistency_check",
    "aesthetic_threshold",
    "brand_threshold",
    "max_attempts",
    "output_quality",
    "step_caching",
)


def generate_request(message: image_generation_pb2.GenerateRequest, request_id: str) -> types.GenerateRequest:
    """Converts a request; a field left out takes the domain's default.

    Args:
        message: The caller's message.
        request_id: The id of the call, for requests that name none.

    Raises:
        InvalidArgument: An enum has a number that nobody knows.
    """
    given: dict[str, Any] = {
        name: known_word(known, getattr(message, name), name)
        for name, known in _REQUEST_ENUMS.items()
        if getattr(message, name) != 0
    }
    given |= {name: getattr(message, name) for name in _OPTIONAL_FIELDS if message.HasField(name)}
    if message.HasField("preview"):
        given["preview"] = _preview_options(message.preview)
    if message.HasField("guidance_interval"):
        given["guidance_interval"] = _guidance_interval(message.guidance_interval)
    return types.GenerateRequest(
        prompt=message.prompt,
        model_name=message.model_name,
        brand_id=message.brand_id,
        metadata=dict(message.metadata),
        request_id=message.request_id or request_id,
        resume_after_sequence=message.resume_after_sequence,
        **given,
    )


def _preview_options(message: image_generation_pb2.PreviewOptions) -> types.PreviewOptions:
    default = types.PreviewOptions()
    return types.PreviewOptions(
        every_n_steps=message.every_n_steps,
        max_side=message.max_side or default.max_side,
        format=known_word(FORMATS, message.format, "preview.format") if message.format else default.format,
    )


def _guidance_interval(message: image_generation_pb2.GuidanceInterval) -> types.GuidanceInterval:
    default = types.GuidanceInterval()
    return types.GuidanceInterval(message.start, message.end if message.HasField("end") else default.end)


def score_request(message: scoring_pb2.ScoreRequest) -> types.ScoreRequest:
    """Converts a request; a field left out takes the domain's default."""
    names = ("prompt", "aesthetic_threshold", "brand_threshold")
    given: dict[str, Any] = {name: getattr(message, name) for name in names if message.HasField(name)}
    return types.ScoreRequest(images=tuple(message.images), brand_id=message.brand_id, **given)
