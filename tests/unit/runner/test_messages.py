"""Everything that crosses between server and runner comes back equal."""

import dataclasses
import math

import numpy as np
import pytest

from atelier_server._generated.atelier.runner.v1 import runner_pb2 as pb
from atelier_server.backends.base import (
    DiffusionTask,
    JobDone,
    JobEvent,
    JobFailed,
    JobImage,
    JobQueued,
    JobStarted,
    JobStep,
    JobTensors,
)
from atelier_server.errors import Internal
from atelier_server.runner import messages
from atelier_server.telemetry.origin import Origin
from atelier_server.types import TruncatedTokens

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)

TASK = DiffusionTask(
    job_id="job",
    prompt="ein roter Schuh – 红色",
    negative_prompt="",
    seeds=(0, 2**64 - 1),
    width=128,
    height=96,
    num_inference_steps=7,
    guidance_scale=7.5,
    noise_schedule="ddim",
    exact=True,
    priority=-1,
    preview_every=3,
    timeout_seconds=12.5,
    refine_width=256,
    refine_height=192,
    quality="hd",
    style="bold",
    guidance_start=0.1,
    guidance_end=0.8,
    step_caching=3,
    client="anna",
    client_share=2.0,
    objective_seconds=30.0,
    origin=Origin("call-1", f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1"),
)


@pytest.mark.parametrize("negative_prompt", [None, "", "blurry"])
def test_a_diffusion_task_survives_the_wire(negative_prompt: str | None) -> None:
    task = dataclasses.replace(TASK, negative_prompt=negative_prompt)
    wire = messages.diffuse_request(task).SerializeToString()
    assert messages.diffusion_task(pb.DiffuseRequest.FromString(wire)) == task


def test_no_field_of_a_task_is_left_at_its_default() -> None:
    """The sample above would not notice a forgotten field if it held the default."""
    defaults = DiffusionTask("", "", None, (), 0, 0, 0, 0.0)
    for field in dataclasses.fields(DiffusionTask):
        assert getattr(TASK, field.name) != getattr(defaults, field.name), field.name


def crossed(event: JobEvent) -> JobEvent:
    """As it comes out of the frame that it is sent in."""
    message, parts = messages.diffuse_response(event)
    body = b"".join(part.tobytes() for part in parts)
    return messages.job_event(pb.DiffuseResponse.FromString(message.SerializeToString()), memoryview(body))


@pytest.mark.parametrize(
    "event",
    [
        JobQueued(3, 1.5, 4.5),
        JobStarted("euler", (TruncatedTokens("text_encoder", 12, 0), TruncatedTokens("text_encoder_2", 1, 2))),
        JobStarted("ddim", accelerations=("guidance_interval", "step_caching")),
        JobStep(1, 4, 9, 0.25),
        JobDone({"queue": 1.0, "denoise": 2.5}, exact=True),
    ],
)
def test_an_event_survives_the_wire(event: JobQueued | JobStarted | JobStep | JobDone) -> None:
    assert crossed(event) == event


def test_pixels_survive_the_wire() -> None:
    image = crossed(JobImage(2, PIXELS))
    step = crossed(JobStep(2, 1, 1, 0.0, PIXELS))
    assert isinstance(image, JobImage)
    assert isinstance(step, JobStep)
    np.testing.assert_array_equal(image.pixels, PIXELS)
    np.testing.assert_array_equal(step.preview, PIXELS)
    assert image.image_index == step.image_index == 2


def test_a_picture_that_is_a_strided_view_is_sent_as_it_looks() -> None:
    image = crossed(JobImage(0, PIXELS[::-1, ::2]))
    assert isinstance(image, JobImage)
    np.testing.assert_array_equal(image.pixels, PIXELS[::-1, ::2])


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_an_unknown_time_is_sent_as_zero(seconds: float) -> None:
    assert crossed(JobQueued(0, seconds)) == JobQueued(0, 0.0)


@pytest.mark.parametrize("pixels", [PIXELS.astype(np.float32), PIXELS[..., 0], PIXELS[..., :2]])
def test_something_else_than_a_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(Internal, match="uint8"):
        messages.diffuse_response(JobImage(0, pixels))


@pytest.mark.parametrize("event", [JobFailed(Internal("x")), JobTensors({})])
def test_events_without_a_message_are_refused(event: JobFailed | JobTensors) -> None:
    with pytest.raises(Internal, match=type(event).__name__):
        messages.diffuse_response(event)


def test_an_event_without_content_is_refused() -> None:
    with pytest.raises(Internal, match="without content"):
        messages.job_event(pb.DiffuseResponse(), memoryview(b""))


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_picture_of_another_size_than_it_says_is_refused(size: int) -> None:
    image = pb.JobImage(image=pb.RawImage(width=1, height=2))
    with pytest.raises(ValueError, match="reshape"):
        messages.job_event(pb.DiffuseResponse(image=image), memoryview(bytes(size)))
