import math
from dataclasses import fields

import pytest
from google.protobuf.descriptor import FieldDescriptor

from atelier.v1 import common_pb2, image_generation_pb2
from atelier_server import types
from atelier_server.errors import InvalidArgument
from atelier_server.frontend import converters
from atelier_server.pipeline.event_log import Numbered

SIZE = types.Dimensions(96, 64)
ENUM_FIELDS = [
    field.name
    for field in image_generation_pb2.GenerateRequest.DESCRIPTOR.fields
    if field.type == FieldDescriptor.TYPE_ENUM
]


def convert(**values: object) -> types.GenerateRequest:
    return converters.generate_request(image_generation_pb2.GenerateRequest(**values), "made-1")  # type: ignore[arg-type]


def test_a_bare_prompt_takes_every_default_of_the_domain() -> None:
    assert convert(prompt="a bag") == types.GenerateRequest(prompt="a bag", request_id="made-1")


def test_every_field_of_the_request_is_carried() -> None:
    on_wire = {field.name for field in image_generation_pb2.GenerateRequest.DESCRIPTOR.fields}
    inner = {"model_version", "score"}  # only calls by the other protocol set them
    assert on_wire == {field.name for field in fields(types.GenerateRequest)} - inner
    full = convert(
        prompt="a bag", negative_prompt="", style=common_pb2.STYLE_NONE, aspect_ratio=common_pb2.ASPECT_RATIO_TWITTER,
        quality=common_pb2.QUALITY_ULTRA_HD, width=96, height=64, num_images=2, seed=0, model=common_pb2.MODEL_DALL_E_3,
        model_name="starter", num_inference_steps=0, guidance_scale=0.0, noise_schedule=common_pb2.NOISE_SCHEDULE_LCM,
        brand_id="acme", brand_consistency_check=False, aesthetic_threshold=0.0, brand_threshold=0.0,
        gate=common_pb2.GATE_ENFORCE, max_attempts=5, output_format=common_pb2.IMAGE_FORMAT_WEBP, output_quality=10,
        preview=image_generation_pb2.PreviewOptions(every_n_steps=3, max_side=64, format=common_pb2.IMAGE_FORMAT_PNG),
        cache=common_pb2.CACHE_POLICY_BYPASS, priority=common_pb2.PRIORITY_HIGH,
        reproducibility=common_pb2.REPRODUCIBILITY_EXACT, on_disconnect=common_pb2.ON_DISCONNECT_CONTINUE,
        metadata={"order": "7"}, request_id="mine", resume_after_sequence=4,
        guidance_interval=image_generation_pb2.GuidanceInterval(start=0.1, end=0.8), step_caching=0,
    )  # fmt: skip
    assert full == types.GenerateRequest(
        prompt="a bag", negative_prompt="", style=types.Style.NONE, aspect_ratio=types.AspectRatio.TWITTER,
        quality=types.Quality.ULTRA_HD, width=96, height=64, num_images=2, seed=0, model=types.ModelChoice.DALL_E_3,
        model_name="starter", num_inference_steps=0, guidance_scale=0.0, noise_schedule=types.NoiseSchedule.LCM,
        brand_id="acme", brand_consistency_check=False, aesthetic_threshold=0.0, brand_threshold=0.0,
        gate=types.Gate.ENFORCE, max_attempts=5, output_format=types.ImageFormat.WEBP, output_quality=10,
        preview=types.PreviewOptions(3, 64, types.ImageFormat.PNG), cache=types.CachePolicy.BYPASS,
        priority=types.Priority.HIGH, reproducibility=types.Reproducibility.EXACT,
        on_disconnect=types.OnDisconnect.CONTINUE, metadata={"order": "7"}, request_id="mine", resume_after_sequence=4,
        guidance_interval=types.GuidanceInterval(0.1, 0.8), step_caching=0,
    )  # fmt: skip


def test_the_ends_of_a_guidance_interval_have_defaults() -> None:
    empty = image_generation_pb2.GuidanceInterval()
    assert convert(prompt="a bag", guidance_interval=empty).guidance_interval == types.GuidanceInterval(0.0, 1.0)
    zero = image_generation_pb2.GuidanceInterval(end=0.0)
    assert convert(prompt="a bag", guidance_interval=zero).guidance_interval == types.GuidanceInterval(0.0, 0.0)


@pytest.mark.parametrize("field", ENUM_FIELDS)
@pytest.mark.parametrize("number", [99, -1])
def test_an_enum_number_that_nobody_knows_is_refused_by_its_field(field: str, number: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert(prompt="a bag", **{field: number})
    assert caught.value.field == field


def test_a_previews_format_is_checked_too_and_its_unset_fields_have_defaults() -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert(prompt="a bag", preview=image_generation_pb2.PreviewOptions(format=9))  # type: ignore[arg-type]
    assert caught.value.field == "preview.format"
    given = convert(prompt="a bag", preview=image_generation_pb2.PreviewOptions(every_n_steps=2))
    assert given.preview == types.PreviewOptions(every_n_steps=2)


def test_nan_reaches_the_pipeline_that_judges_it() -> None:
    value = convert(prompt="a bag", guidance_scale=math.nan).guidance_scale
    assert value is not None
    assert math.isnan(value)


def response(event: types.Event) -> image_generation_pb2.GenerateResponse:
    message = converters.generate_response(Numbered(7, event), "call-1")
    assert (message.sequence, message.request_id) == (7, "call-1")
    return message


def test_queued() -> None:
    assert response(types.Queued(3, 1.5)).queued.estimated_wait.ToMilliseconds() == 1500
    unknown = response(types.Queued(0)).queued
    assert not unknown.HasField("estimated_wait")


def test_started_tells_zero_embeddings_from_an_empty_negative_prompt() -> None:
    started = types.Started(
        model="starter", model_version="1", routing_reason="it is ready", prompt_used="a", negative_prompt_used=None,
        seeds=(1, 2**64 - 1), dimensions=SIZE, native_dimensions=types.Dimensions(128, 128), num_inference_steps=9,
        guidance_scale=7.5, noise_schedule="euler", truncated_tokens=(types.TruncatedTokens("text_encoder_2", 4, 1),),
    )  # fmt: skip
    message = response(started).started
    assert not message.HasField("negative_prompt_used")
    assert list(message.seeds) == [1, 2**64 - 1]
    assert (message.dimensions.width, message.dimensions.height, message.native_dimensions.width) == (96, 64, 128)
    assert (message.truncated_tokens[0].encoder, message.truncated_tokens[0].prompt_tokens) == ("text_encoder_2", 4)


def test_progress_with_and_without_a_preview() -> None:
    bare = response(types.Progress(1, 2, 9, 0.25)).progress
    assert (bare.image_index, bare.step, bare.total_steps, bare.attempt) == (1, 2, 9, 1)
    assert bare.estimated_remaining.ToMilliseconds() == 250
    assert not bare.HasField("preview")
    shown = response(types.Progress(0, 1, 9, preview=types.Preview(b"jpeg", "image/jpeg", SIZE))).progress
    assert (shown.preview.data, shown.preview.dimensions.height) == (b"jpeg", 64)


def test_a_chunk_and_its_picture() -> None:
    chunk = response(types.ImageChunk(1, 10, 13, b"abc", last=True)).image_chunk
    assert (chunk.image_index, chunk.offset, chunk.total_size, chunk.data, chunk.last) == (1, 10, 13, b"abc", True)
    scores = types.Scores(aesthetic_score=6.0, missing_reasons={"brand": "no brand"}, warnings=("few references",))
    event = types.ImageCompleted(1, 5, "ab" * 32, "image/png", SIZE, SIZE, scores)
    message = response(event).image_completed
    assert (message.seed, message.sha256, message.media_type) == (5, "ab" * 32, "image/png")
    assert message.scores.aesthetic_passed is False
    assert message.scores.HasField("aesthetic_passed")
    assert not message.scores.HasField("brand_passed")
    assert not message.scores.HasField("brand_consistency_score")
    assert message.scores.passed is False


def test_completed() -> None:
    event = types.Completed(
        generation_time_ms=12.5, timings_ms={"denoise": 9.0}, cached=False, attempts=2, restarts=1,
        reproducibility=types.Reproducibility.EXACT, model_used="starter", model_version="1",
        ignored_fields=("seed",), timestamp=1_700_000_000.25, metadata={"order": "7"},
        accelerations=("step_caching",),
    )  # fmt: skip
    message = response(event).completed
    assert message.reproducibility == common_pb2.REPRODUCIBILITY_EXACT
    assert message.timestamp.ToMilliseconds() == 1_700_000_000_250
    assert (dict(message.timings_ms), dict(message.metadata)) == ({"denoise": 9.0}, {"order": "7"})
    assert (message.attempts, message.restarts, list(message.ignored_fields)) == (2, 1, ["seed"])
    assert list(message.accelerations) == ["step_caching"]
