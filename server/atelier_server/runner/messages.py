"""The one place that knows both the runner's protobuf messages and the backends' dataclasses; both sides use it."""

import math

import numpy as np
from numpy.typing import NDArray

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    Pixels,
)
from atelier_server.errors import Internal
from atelier_server.telemetry.histogram import Spread
from atelier_server.telemetry.origin import NO_ORIGIN, Origin
from atelier_server.telemetry.tracing import current_origin
from atelier_server.types import TruncatedTokens

Parts = list[NDArray[np.uint8]]
"""What a frame carries beside its header."""


def diffuse_request(task: DiffusionTask) -> pb.DiffuseRequest:
    """To the wire."""
    message = pb.DiffuseRequest(
        job_id=task.job_id,
        prompt=task.prompt,
        seeds=task.seeds,
        width=task.width,
        height=task.height,
        num_inference_steps=task.num_inference_steps,
        guidance_scale=task.guidance_scale,
        noise_schedule=task.noise_schedule,
        exact=task.exact,
        priority=task.priority,
        preview_every=task.preview_every,
        timeout_seconds=task.timeout_seconds,
        refine_width=task.refine_width,
        refine_height=task.refine_height,
        quality=task.quality,
        style=task.style,
        guidance_start=task.guidance_start,
        guidance_end=task.guidance_end,
        step_caching=task.step_caching,
        client=task.client,
        client_share=task.client_share,
        objective_seconds=task.objective_seconds,
        origin=origin_message(task.origin),
    )
    if task.negative_prompt is not None:
        message.negative_prompt = task.negative_prompt
    return message


def diffusion_task(message: pb.DiffuseRequest) -> DiffusionTask:
    """From the wire."""
    return DiffusionTask(
        job_id=message.job_id,
        prompt=message.prompt,
        negative_prompt=message.negative_prompt if message.HasField("negative_prompt") else None,
        seeds=tuple(message.seeds),
        width=message.width,
        height=message.height,
        num_inference_steps=message.num_inference_steps,
        guidance_scale=message.guidance_scale,
        noise_schedule=message.noise_schedule,
        exact=message.exact,
        priority=message.priority,
        preview_every=message.preview_every,
        timeout_seconds=message.timeout_seconds,
        refine_width=message.refine_width,
        refine_height=message.refine_height,
        quality=message.quality,
        style=message.style,
        guidance_start=message.guidance_start,
        guidance_end=message.guidance_end,
        step_caching=message.step_caching,
        client=message.client,
        client_share=message.client_share,
        objective_seconds=message.objective_seconds,
        origin=origin(message.origin),
    )


def diffuse_response(event: JobEvent) -> tuple[pb.DiffuseResponse, Parts]:
    """To the wire, with what goes beside the message; JobFailed and JobTensors are no such event and raise Internal."""
    match event:
        case JobQueued():
            queued = pb.JobQueued(
                position=event.position,
                estimated_wait_seconds=_finite(event.estimated_wait_seconds),
                estimated_total_seconds=_finite(event.estimated_total_seconds),
            )
            return pb.DiffuseResponse(queued=queued), []
        case JobStarted():
            cuts = [_token_cut(cut) for cut in event.truncated]
            started = pb.JobStarted(
                noise_schedule=event.noise_schedule, truncated=cuts, accelerations=event.accelerations
            )
            return pb.DiffuseResponse(started=started), []
        case JobStep():
            step = pb.JobStep(
                image_index=event.image_index,
                step=event.step,
                total_steps=event.total_steps,
                estimated_remaining_seconds=_finite(event.estimated_remaining_seconds),
            )
            if event.preview is not None:
                step.preview.CopyFrom(_raw_image(event.preview, event.preview.tobytes()))
            return pb.DiffuseResponse(step=step), []
        case JobImage():
            image = pb.JobImage(image_index=event.image_index, image=_raw_image(event.pixels, b""))
            return pb.DiffuseResponse(image=image), [np.ascontiguousarray(event.pixels).reshape(-1)]
        case JobDone():
            return pb.DiffuseResponse(done=pb.JobDone(timings_ms=dict(event.timings_ms), exact=event.exact)), []
    raise Internal(f"The model answered a diffusion job with {type(event).__name__}.")


def job_event(message: pb.DiffuseResponse, body: memoryview) -> JobEvent:
    """From the wire; a decoded picture is a read-only view of the body.

    Raises:
        Internal, ValueError: It is no event, or the body is no such picture.
    """
    match message.WhichOneof("event"):
        case "queued":
            queued = message.queued
            return JobQueued(queued.position, queued.estimated_wait_seconds, queued.estimated_total_seconds)
        case "started":
            cuts = tuple(
                TruncatedTokens(cut.encoder, cut.prompt_tokens, cut.negative_prompt_tokens)
                for cut in message.started.truncated
            )
            accelerations = tuple(message.started.accelerations)
            return JobStarted(message.started.noise_schedule, cuts, accelerations=accelerations)
        case "step":
            step = message.step
            preview = _pixels(step.preview, step.preview.pixels) if step.HasField("preview") else None
            return JobStep(step.image_index, step.step, step.total_steps, step.estimated_remaining_seconds, preview)
        case "image":
            return JobImage(message.image.image_index, _pixels(message.image.image, body))
        case "done":
            return JobDone(dict(message.done.timings_ms), message.done.exact)
    raise Internal("The runner sent an event without content.")


def origin_message(known: Origin) -> pb.Origin:
    """To the wire; the call that is being served now where none is named."""
    known = current_origin() if known == NO_ORIGIN else known
    return pb.Origin(request_id=known.request_id, traceparent=known.traceparent, tracestate=known.tracestate)


def origin(message: pb.Origin) -> Origin:
    """From the wire."""
    return Origin(message.request_id, message.traceparent, message.tracestate)


def histogram(spread: Spread) -> pb.Histogram:
    """To the wire."""
    return pb.Histogram(edges=spread.edges, counts=spread.counts, sum=spread.sum)


def spread(message: pb.Histogram) -> Spread:
    """From the wire."""
    return Spread(tuple(message.edges), tuple(message.counts), message.sum)


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else 0.0


def _token_cut(cut: TruncatedTokens) -> pb.TokenCut:
    return pb.TokenCut(
        encoder=cut.encoder, prompt_tokens=cut.prompt_tokens, negative_prompt_tokens=cut.negative_prompt_tokens
    )


def _raw_image(pixels: Pixels, data: bytes) -> pb.RawImage:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise Internal(f"A picture must be uint8 [height, width, 3], not {pixels.dtype} {list(pixels.shape)}.")
    return pb.RawImage(width=pixels.shape[1], height=pixels.shape[0], pixels=data)


def _pixels(image: pb.RawImage, data: bytes | memoryview) -> Pixels:
    return np.frombuffer(data, np.uint8).reshape(image.height, image.width, 3)
