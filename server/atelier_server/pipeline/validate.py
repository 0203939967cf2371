"""First stage: every value within its range, or an error that names the field. The ranges are the contract's."""

import math
import re
import unicodedata
from dataclasses import replace

from atelier_server.errors import InvalidArgument
from atelier_server.types import GenerateRequest, NoiseSchedule

MAX_PROMPT_CHARS = 4000
MAX_METADATA_BYTES = 16 * 1024
MAX_AREA = 4_600_000
MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 64, 4096, 32
LCM_MAX_STEPS = 50
"""diffusers' LCMScheduler refuses more: its distillation used 50 timesteps."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: str) -> str:
    """Returns `text` without control characters, direction overrides and lone surrogates, white space folded."""
    kept = []
    for char in text:
        category = unicodedata.category(char)
        if category == "Cc":
            kept.append(" ")
        elif category != "Cs" and char not in _BIDI_CONTROLS:
            kept.append(char)
    return " ".join("".join(kept).split())


def validated(request: GenerateRequest) -> GenerateRequest:
    """Returns the request with cleaned texts.

    Raises:
        InvalidArgument: A field is out of its range.
    """
    _check_length("prompt", request.prompt)
    prompt = clean_text(request.prompt)
    if not prompt:
        raise InvalidArgument("prompt is empty: say what the picture shows", field="prompt")
    negative = request.negative_prompt
    if negative is not None:
        _check_length("negative_prompt", negative)
        negative = clean_text(negative)
    _check_ranges(request)
    _check_size(request)
    _check_steps(request)
    _check_interval(request)
    _check_names(request)
    return replace(request, prompt=prompt, negative_prompt=negative)


def _check_length(field: str, text: str) -> None:
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidArgument(f"{field} has {len(text)} characters; at most {MAX_PROMPT_CHARS}", field=field)


def _check_ranges(request: GenerateRequest) -> None:
    ranges: list[tuple[str, float | None, float, float]] = [
        ("num_images", request.num_images, 1, 10),
        ("seed", request.seed, 0, 2**64 - 1),
        ("guidance_scale", request.guidance_scale, 0, 30),
        ("aesthetic_threshold", request.aesthetic_threshold, 0, 10),
        ("brand_threshold", request.brand_threshold, 0, 1),
        ("max_attempts", request.max_attempts, 1, 10),
        ("output_quality", request.output_quality, 1, 100),
        ("step_caching", request.step_caching, 2, 10),
        ("preview.every_n_steps", request.preview.every_n_steps, 0, 2**32 - 1),
        ("preview.max_side", request.preview.max_side, 16, 1024),
    ]
    for field, value, low, high in ranges:
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidArgument(f"{field} is {value}; it must be {low} to {high}", field=field)


def _check_size(request: GenerateRequest) -> None:
    if request.width is None and request.height is None:
        return
    for field, value in (("width", request.width), ("height", request.height)):
        if value is None:
            raise InvalidArgument("width and height go together: give both or neither", field=field)
        if not MIN_SIDE <= value <= MAX_SIDE or value % SIDE_MULTIPLE:
            raise InvalidArgument(
                f"{field} is {value}; it must be a multiple of {SIDE_MULTIPLE} from {MIN_SIDE} to {MAX_SIDE}",
                field=field,
            )
    area = (request.width or 0) * (request.height or 0)
    if area > MAX_AREA:
        raise InvalidArgument(f"width × height is {area}; at most {MAX_AREA}", field="width")


def _check_steps(request: GenerateRequest) -> None:
    steps = request.num_inference_steps
    if steps is None:
        return
    if not 1 <= steps <= 150:
        raise InvalidArgument(f"num_inference_steps is {steps}; it must be 1 to 150", field="num_inference_steps")
    if request.noise_schedule is NoiseSchedule.LCM and steps > LCM_MAX_STEPS:
        raise InvalidArgument(
            f"num_inference_steps is {steps}; the lcm schedule takes at most {LCM_MAX_STEPS}",
            field="num_inference_steps",
        )


def _check_interval(request: GenerateRequest) -> None:
    interval = request.guidance_interval
    if interval is None:
        return
    for field, value in (("start", interval.start), ("end", interval.end)):
        if not 0 <= value <= 1:
            raise InvalidArgument(
                f"guidance_interval.{field} is {value}; it must be 0 to 1", field=f"guidance_interval.{field}"
            )
    if interval.start >= interval.end:
        raise InvalidArgument(
            f"guidance_interval ends at {interval.end} and starts at {interval.start}; it must end later",
            field="guidance_interval.end",
        )


def _check_names(request: GenerateRequest) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in request.metadata.items())
    if size > MAX_METADATA_BYTES:
        raise InvalidArgument(f"metadata has {size} bytes; at most {MAX_METADATA_BYTES}", field="metadata")
    if request.request_id and not _REQUEST_ID.fullmatch(request.request_id):
        raise InvalidArgument(
            "request_id must be 1 to 128 printable ASCII characters without spaces", field="request_id"
        )
