"""Every bad input is refused with the status, the reason and the field at fault, and the server goes on."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from atelier.v1 import common_pb2, scoring_pb2
from atelier_server.testing import RunningServer
from tests.integration.grpc_kit import detail, failing, fields_at_fault, heard, images, request

GENERATE = "/atelier.v1.ImageGenerationService/Generate"

BAD = {
    "empty prompt": ({"prompt": ""}, "prompt"),
    "blank prompt": ({"prompt": " \t\n "}, "prompt"),
    "4001 characters": ({"prompt": "x" * 4001}, "prompt"),
    "4001 characters of several bytes": ({"prompt": "é" * 4001}, "prompt"),
    "control characters only": ({"prompt": "\x00\x01\x02\x7f\u0085"}, "prompt"),
    "long negative prompt": ({"negative_prompt": "x" * 4001}, "negative_prompt"),
    "unknown style": ({"style": 77}, "style"),
    "negative enum number": ({"quality": -1}, "quality"),
    "unknown noise schedule": ({"noise_schedule": 8}, "noise_schedule"),
    "0 steps": ({"num_inference_steps": 0}, "num_inference_steps"),
    "151 steps": ({"num_inference_steps": 151}, "num_inference_steps"),
    "51 steps of lcm": (
        {"num_inference_steps": 51, "noise_schedule": common_pb2.NOISE_SCHEDULE_LCM},
        "num_inference_steps",
    ),
    "guidance -1": ({"guidance_scale": -1.0}, "guidance_scale"),
    "guidance NaN": ({"guidance_scale": float("nan")}, "guidance_scale"),
    "guidance infinite": ({"guidance_scale": float("inf")}, "guidance_scale"),
    "guidance 30.5": ({"guidance_scale": 30.5}, "guidance_scale"),
    "1000x1000": ({"width": 1000, "height": 1000}, "width"),
    "8192x8192": ({"width": 8192, "height": 8192}, "width"),
    "4096x4096": ({"width": 4096, "height": 4096}, "width"),
    "0x0": ({"width": 0, "height": 0}, "width"),
    "width without height": ({"width": 512, "height": None}, "height"),
    "height without width": ({"width": None, "height": 512}, "width"),
    "0 pictures": ({"num_images": 0}, "num_images"),
    "11 pictures": ({"num_images": 11}, "num_images"),
    "100 KB of metadata": ({"metadata": {"notes": "x" * 100_000}}, "metadata"),
    "threshold 11": ({"aesthetic_threshold": 11.0}, "aesthetic_threshold"),
    "0 attempts": ({"max_attempts": 0}, "max_attempts"),
    "request id with a newline": ({"request_id": "a\nb"}, "request_id"),
    "long request id": ({"request_id": "x" * 129}, "request_id"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_field_is_named(server: RunningServer, case: str) -> None:
    values, field = BAD[case]
    error = await failing(images(server).Generate(request(**values)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_at_fault(error) == [field]
    assert detail(error, error_details_pb2.ErrorInfo).domain == "atelier"
    assert detail(error, error_details_pb2.RequestInfo).request_id
    assert field in (error.details() or "")


GOOD: dict[str, dict[str, Any]] = {
    "4000 characters": {"prompt": "x" * 4000},
    "4000 characters of four bytes": {"prompt": "\U0001f45c" * 4000},
    "control characters among words": {"prompt": "a\x00 red\u202e bag\x1b[31m"},
    "right to left": {"prompt": "حقيبة يد حمراء"},
    "guidance 0": {"guidance_scale": 0.0},
    "seed of 64 bits": {"seed": 2**64 - 1},
    "50 steps of lcm": {"num_inference_steps": 50, "noise_schedule": common_pb2.NOISE_SCHEDULE_LCM},
}


@pytest.mark.parametrize("case", GOOD)
async def test_the_edges_of_what_is_allowed_are_served(server: RunningServer, case: str) -> None:
    assert (await heard(server, **GOOD[case]))[-1].HasField("completed")


async def test_a_model_that_does_not_exist_is_not_found(server: RunningServer) -> None:
    error = await failing(images(server).Generate(request(model_name="no-such-model")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert fields_at_fault(error) == ["model_name"]
    assert detail(error, error_details_pb2.ErrorInfo).reason == "MODEL_NOT_FOUND"
    for name in ("../../etc/passwd", "a\x00b", "x" * 5000):
        assert (await failing(images(server).Generate(request(model_name=name)))).code() is grpc.StatusCode.NOT_FOUND


async def test_a_kind_of_model_that_is_not_ready_says_what_to_do(server: RunningServer) -> None:
    error = await failing(images(server).Generate(request(model=common_pb2.MODEL_STABLE_DIFFUSION_XL)))
    assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
    assert detail(error, error_details_pb2.ErrorInfo).reason


GARBAGE = {
    "noise": b"\xff\xff\xff\xff not a message",
    "cut off": request(prompt="a bag").SerializeToString()[:-1],
    "prompt that is not UTF-8": b"\x0a\x04\xff\xfe\xfd\xfc",
    "lone surrogate": b"\x0a\x03\xed\xa0\x80",
    "length beyond the end": b"\x0a\xff\xff\xff\xff\x07",
}


def raw_call(server: RunningServer, method: str, data: bytes) -> Any:
    """Sends bytes as they are."""
    return server.channel.unary_stream(method, request_serializer=None, response_deserializer=None)(data)


@pytest.mark.parametrize("case", GARBAGE)
async def test_bytes_that_are_no_message_are_the_callers_fault(server: RunningServer, case: str) -> None:
    error = await failing(raw_call(server, GENERATE, GARBAGE[case]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(error, error_details_pb2.ErrorInfo).reason == "UNDECODABLE_REQUEST"
    assert "DecodeError" not in (error.details() or "")
    assert (await heard(server))[-1].HasField("completed")


UNARY_METHODS = [
    "/atelier.v1.ImageGenerationService/Score",
    "/atelier.v1.BrandService/CreateBrand",
    "/atelier.v1.ModelService/LoadModel",
    "/grpc.health.v1.Health/Check",
]
STREAM_METHODS = [
    "/atelier.v1.BrandService/AddReferenceImages",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


@pytest.mark.parametrize("method", UNARY_METHODS)
async def test_every_service_refuses_bytes_that_are_no_message(server: RunningServer, method: str) -> None:
    send = server.channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    assert (await failing(send(GARBAGE["noise"]))).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", STREAM_METHODS)
async def test_so_do_streams(server: RunningServer, method: str) -> None:
    call = server.channel.stream_stream(method, request_serializer=None, response_deserializer=None)(
        iter([GARBAGE["noise"]])
    )
    code = (await failing(call)).code()
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


async def test_a_request_that_is_far_too_large_is_refused(server: RunningServer) -> None:
    error = await failing(raw_call(server, GENERATE, request(prompt="x" * 2**20).SerializeToString()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(error, error_details_pb2.ErrorInfo).reason == "REQUEST_TOO_LARGE"
    error = await failing(raw_call(server, GENERATE, bytes(33 * 2**20)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await heard(server))[-1].HasField("completed")


async def test_pictures_to_score_may_be_large(server: RunningServer) -> None:
    score = images(server).Score(scoring_pb2.ScoreRequest(images=[bytes(25_000_000)]))
    assert (await failing(score)).code() is not grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_refusals_count_as_the_callers_error_not_as_failures(server: RunningServer) -> None:
    await failing(images(server).Generate(request(prompt="")))
    assert server.app.metrics.failed == 0
    assert server.app.metrics.window.summary().success_rate is None
    assert server.app.metrics.registry.get_sample_value("atelier_generations_total", {"outcome": "refused"}) == 1
