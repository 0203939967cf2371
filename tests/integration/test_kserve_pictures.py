"""Picture models over ModelInfer and ModelStreamInfer."""

import asyncio
import hashlib
import io
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from atelier.v1 import common_pb2
from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import failing, heard, idle, until
from tests.integration.kserve_kit import arrays, infer_request, listed, picture, plain, stub, write_models

FINAL = "triton_final_response"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_models(tmp_path, step_seconds=0.01)
    async with echo_server(tmp_path) as running:
        yield running


async def responses(server: RunningServer, *requests: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
    return [message async for message in stub(server).ModelStreamInfer(listed(*requests))]


async def numbers(server: RunningServer, model: str = "echo") -> pb.ModelStatistics:
    return (await stub(server).ModelStatistics(pb.ModelStatisticsRequest(name=model))).model_stats[0]


async def test_the_picture_is_that_of_a_native_call(server: RunningServer) -> None:
    native = await heard(
        server,
        style=common_pb2.STYLE_NONE,
        model_name="echo",
        brand_consistency_check=False,
        reproducibility=common_pb2.REPRODUCIBILITY_EXACT,
        seed=9,
        num_inference_steps=4,
    )
    data = b"".join(event.image_chunk.data for event in native if event.HasField("image_chunk"))
    asked = picture(
        "a bag",
        "mine",
        seed=9,
        num_inference_steps=4,
        reproducibility="exact",
        outputs=("IMAGE", "IMAGE_RAW", "SEED"),
    )
    response = await stub(server).ModelInfer(asked)
    outputs, facts = arrays(response), plain(response.parameters)
    assert outputs["IMAGE"].tolist() == [data]
    np.testing.assert_array_equal(outputs["IMAGE_RAW"], np.asarray(Image.open(io.BytesIO(data))), strict=True)
    assert outputs["IMAGE_RAW"].shape == (128, 128, 3)
    assert outputs["SEED"].tolist() == [9]
    assert (response.id, response.model_name, response.model_version) == ("mine", "echo", "1")
    assert facts["reproducibility"] == "exact"
    assert facts["num_inference_steps"] == 4
    assert facts["denoise_ms"] > 0
    assert "score_ms" not in facts


async def test_what_is_left_out_is_the_models_own(server: RunningServer) -> None:
    response = await stub(server).ModelInfer(picture("a bag"))
    assert [one.name for one in response.outputs] == ["IMAGE", "SEED"]
    assert Image.open(io.BytesIO(arrays(response)["IMAGE"][0])).size == (128, 128)
    assert plain(response.parameters)["num_inference_steps"] == 8
    other = await stub(server).ModelInfer(picture("a bag", width=64))
    assert Image.open(io.BytesIO(arrays(other)["IMAGE"][0])).size == (64, 128)


async def test_typed_contents_make_pictures_too(server: RunningServer) -> None:
    request = pb.ModelInferRequest(model_name="echo")
    request.inputs.add(name="prompt", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a bag")
    request.inputs.add(name="seed", datatype="UINT64", shape=[1]).contents.uint64_contents.append(2**64 - 1)
    assert arrays(await stub(server).ModelInfer(request))["SEED"].tolist() == [2**64 - 1]


async def test_a_stream_tells_every_step_then_the_picture(server: RunningServer) -> None:
    asked = picture("a bag", "7", num_inference_steps=4, parameters={"preview_every_n_steps": 2})
    messages = [message.infer_response for message in await responses(server, asked)]
    facts = [plain(message.parameters) for message in messages]
    assert [one.get("step") for one in facts] == [1, 2, 3, 4, None]
    assert [one[FINAL] for one in facts] == [False] * 4 + [True]
    assert {message.id for message in messages} == {"7"}
    assert [[one.name for one in message.outputs] for message in messages] == [
        [],
        ["PREVIEW"],
        [],
        ["PREVIEW"],
        ["IMAGE", "SEED"],
    ]
    assert Image.open(io.BytesIO(arrays(messages[1])["PREVIEW"][0])).format == "JPEG"
    stats = await numbers(server)
    assert [stats.response_stats[str(index)].success.count for index in (1, 3, 4)] == [1, 1, 1]
    assert stats.response_stats["0"].empty_response.count == 1


async def test_the_last_message_may_be_empty(server: RunningServer) -> None:
    asked = picture("a bag", num_inference_steps=1, parameters={"triton_enable_empty_final_response": True})
    *_, shown, last = [message.infer_response for message in await responses(server, asked)]
    assert [one.name for one in shown.outputs] == ["IMAGE", "SEED"]
    assert not shown.parameters[FINAL].bool_param
    assert (list(last.outputs), last.parameters[FINAL].bool_param) == ([], True)


async def test_requests_of_a_stream_interleave(server: RunningServer) -> None:
    pictures = [picture(f"bag {name}", name, num_inference_steps=6, seed=1) for name in "abc"]
    tensors = [infer_request({"x": np.array([[3.0]], np.float32)}, id="t"), infer_request({}, "nobody", id="n")]
    order: list[str] = []
    finals: dict[str, int] = defaultdict(int)
    images: dict[str, bytes] = {}
    for message in await responses(server, *pictures, *tensors):
        reply = message.infer_response
        order.append(reply.id)
        finals[reply.id] += reply.parameters[FINAL].bool_param
        assert bool(message.error_message) == (reply.id == "n")
        if reply.outputs and reply.id in "abc":
            images[reply.id] = arrays(reply)["IMAGE"][0]
    assert finals == dict.fromkeys("abctn", 1)
    assert len(order) == 3 * 7 + 2
    assert order.index("t") < max(index for index, name in enumerate(order) if name == "a")
    firsts, lasts = [order.index(name) for name in "abc"], [21 - order[:0:-1].index(name) for name in "abc"]
    assert max(firsts) < min(lasts)
    assert len({hashlib.sha256(data).hexdigest() for data in images.values()}) == 3


async def test_an_error_may_be_the_streams_status(server: RunningServer) -> None:
    requests = listed(infer_request({}, "nobody", id="n"))
    call = stub(server).ModelStreamInfer(requests, metadata=(("triton_grpc_error", "true"),))
    assert (await failing(call)).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("way", ["stream", "unary"])
async def test_who_leaves_frees_the_model(tmp_path: Path, way: str) -> None:
    write_models(tmp_path, step_seconds=0.02)
    asked = [picture(f"bag {index}", str(index), num_inference_steps=150) for index in range(3)]
    async with echo_server(tmp_path) as server:
        calls: list[Any]
        if way == "stream":
            calls = [stub(server).ModelStreamInfer(listed(*asked))]
            await calls[0].read()
        else:
            calls = [stub(server).ModelInfer(one) for one in asked]
            await until(server, lambda status: status.running + status.waiting == 3)
        for call in calls:
            call.cancel()
        await until(server, idle)
        async with asyncio.timeout(20):
            while (stats := await numbers(server)).inference_stats.fail.count < 3:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        assert stats.inference_stats.success.count == 0
        if way == "stream":
            assert sum(one.cancel.count for one in stats.response_stats.values()) >= 1


async def test_a_deadline_is_kept(tmp_path: Path) -> None:
    write_models(tmp_path, step_seconds=0.05)
    async with echo_server(tmp_path) as server:
        error = await failing(stub(server).ModelInfer(picture("a bag", num_inference_steps=150), timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(server, idle)


async def test_the_cache_answers_only_where_the_configuration_allows_it(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    asked = picture("a bag", seed=3, num_inference_steps=2)
    async with echo_server(tmp_path) as server:
        twice = [plain((await stub(server).ModelInfer(asked)).parameters)["cached"] for _ in range(2)]
    config = models / "echo" / "config.pbtxt"
    config.write_text(config.read_text() + "response_cache { enable: true }\n")
    async with echo_server(tmp_path) as server:
        again = [plain((await stub(server).ModelInfer(asked)).parameters)["cached"] for _ in range(2)]
        stats = await numbers(server)
    assert (twice, again) == ([False, False], [False, True])
    counted = stats.inference_stats
    assert (counted.cache_miss.count, counted.cache_hit.count, counted.success.count) == (1, 1, 2)
    assert (stats.inference_count, stats.execution_count) == (2, 1)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"width": 100}, "width"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"noise_schedule": "best"}, "noise_schedule"),
        ({"reproducibility": "always"}, "reproducibility"),
        ({"seed": "nine"}, "seed"),
        ({"parameters": {"priority": "high"}}, "priority"),
        ({"parameters": {"preview_every_n_steps": -1}}, "preview_every_n_steps"),
    ],
)
async def test_a_bad_value_is_named(server: RunningServer, values: dict[str, Any], named: str) -> None:
    error = await failing(stub(server).ModelInfer(picture("a bag", **values)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert named in (error.details() or "")


async def test_a_prompt_that_is_no_text_is_refused(server: RunningServer) -> None:
    request = picture("a bag")
    request.raw_input_contents[0] = b"\x02\x00\x00\x00\xff\xfe"
    error = await failing(stub(server).ModelInfer(request))
    assert (error.code(), "'prompt'" in (error.details() or "")) == (grpc.StatusCode.INVALID_ARGUMENT, True)
