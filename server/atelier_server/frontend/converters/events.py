"""From the domain's events to the messages of a stream."""

from dataclasses import asdict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import common_pb2, image_generation_pb2, scoring_pb2
from atelier_server import types
from atelier_server.frontend.converters.enums import REPRODUCIBILITY
from atelier_server.pipeline.event_log import Numbered

_REPRODUCIBILITY_NUMBERS = {word: number for number, word in REPRODUCIBILITY.items()}


def generate_response(numbered: Numbered, request_id: str) -> image_generation_pb2.GenerateResponse:
    """Converts an event of the log."""
    message = image_generation_pb2.GenerateResponse(sequence=numbered.sequence, request_id=request_id)
    match numbered.event:
        case types.Queued() as event:
            queued = image_generation_pb2.Queued(
                position=event.position,
                estimated_wait=_duration(event.estimated_wait_seconds),
                estimated_completion=_duration(event.estimated_completion_seconds),
            )
            message.queued.CopyFrom(queued)
        case types.Started() as event:
            message.started.CopyFrom(_started(event))
        case types.Progress() as event:
            message.progress.CopyFrom(_progress(event))
        case types.ImageChunk() as event:
            chunk = message.image_chunk
            chunk.image_index, chunk.offset, chunk.total_size = event.image_index, event.offset, event.total_size
            chunk.data, chunk.last = event.data, event.last
        case types.ImageCompleted() as event:
            message.image_completed.CopyFrom(_image_completed(event))
        case types.Completed() as event:
            message.completed.CopyFrom(_completed(event))
    return message


def _started(event: types.Started) -> image_generation_pb2.Started:
    cut = [
        image_generation_pb2.TruncatedTokens(
            encoder=entry.encoder,
            prompt_tokens=entry.prompt_tokens,
            negative_prompt_tokens=entry.negative_prompt_tokens,
        )
        for entry in event.truncated_tokens
    ]
    return image_generation_pb2.Started(
        model=event.model,
        model_version=event.model_version,
        routing_reason=event.routing_reason,
        prompt_used=event.prompt_used,
        negative_prompt_used=event.negative_prompt_used,
        seeds=event.seeds,
        dimensions=_dimensions(event.dimensions),
        native_dimensions=_dimensions(event.native_dimensions),
        num_inference_steps=event.num_inference_steps,
        guidance_scale=event.guidance_scale,
        noise_schedule=event.noise_schedule,
        truncated_tokens=cut,
    )


def _progress(event: types.Progress) -> image_generation_pb2.Progress:
    preview = None
    if event.preview is not None:
        preview = image_generation_pb2.Preview(
            data=event.preview.data,
            media_type=event.preview.media_type,
            dimensions=_dimensions(event.preview.dimensions),
        )
    return image_generation_pb2.Progress(
        image_index=event.image_index,
        step=event.step,
        total_steps=event.total_steps,
        estimated_remaining=_duration(event.estimated_remaining_seconds),
        preview=preview,
        attempt=event.attempt,
    )


def _image_completed(event: types.ImageCompleted) -> image_generation_pb2.ImageCompleted:
    return image_generation_pb2.ImageCompleted(
        image_index=event.image_index,
        seed=event.seed,
        sha256=event.sha256,
        media_type=event.media_type,
        dimensions=_dimensions(event.dimensions),
        native_dimensions=_dimensions(event.native_dimensions),
        scores=scores(event.scores),
    )


def _completed(event: types.Completed) -> image_generation_pb2.Completed:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(event.timestamp * 1e6))
    return image_generation_pb2.Completed(
        generation_time_ms=event.generation_time_ms,
        timings_ms=event.timings_ms,
        cached=event.cached,
        attempts=event.attempts,
        restarts=event.restarts,
        reproducibility=_REPRODUCIBILITY_NUMBERS[event.reproducibility],  # type: ignore[arg-type]
        model_used=event.model_used,
        model_version=event.model_version,
        ignored_fields=event.ignored_fields,
        timestamp=timestamp,
        metadata=event.metadata,
        usage=None if event.usage is None else image_generation_pb2.Usage(**asdict(event.usage)),
        accelerations=event.accelerations,
    )


def scores(event: types.Scores) -> scoring_pb2.Scores:
    """Converts a picture's scores; what is None stays unset."""
    nearest = [
        scoring_pb2.NearestReference(reference_id=entry.reference_id, similarity=entry.similarity)
        for entry in event.nearest_references
    ]
    message = scoring_pb2.Scores(
        aesthetic_score=event.aesthetic_score,
        sub_scores=event.sub_scores,
        aesthetic_method=event.aesthetic_method,
        brand_consistency_score=event.brand_consistency_score,
        brand_reference_missing=event.brand_reference_missing,
        on_brand_probability=event.on_brand_probability,
        palette_distance=event.palette_distance,
        nearest_references=nearest,
        brand_centroid_similarity=event.brand_centroid_similarity,
        prompt_alignment=event.prompt_alignment,
        aesthetic_threshold=event.aesthetic_threshold,
        brand_threshold=event.brand_threshold,
        passed=event.passed,
        missing_reasons=event.missing_reasons,
        warnings=event.warnings,
    )
    if event.aesthetic_passed is not None:
        message.aesthetic_passed = event.aesthetic_passed
    if event.brand_passed is not None:
        message.brand_passed = event.brand_passed
    return message


def _dimensions(size: types.Dimensions) -> common_pb2.Dimensions:
    return common_pb2.Dimensions(width=size.width, height=size.height)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
