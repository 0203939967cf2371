"""ModelInfer on tensor models: every way in and out, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.backends.base import Tensor
from atelier_server.backends.onnx.graph import Graph
from atelier_server.frontend.kserve.tensors import DTYPES
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import (
    EVERY_TYPE,
    arrays,
    infer_request,
    stub,
    write_double,
    write_every_type,
    write_models,
)

X = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_models(tmp_path)
    async with echo_server(tmp_path) as running:
        yield running


async def test_tensors_come_raw_and_typed(server: RunningServer) -> None:
    raw = await stub(server).ModelInfer(infer_request({"x": X}, id="mine"))
    typed = pb.ModelInferRequest(model_name="double", model_version="1")
    typed.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    assert (raw.model_name, raw.model_version, raw.id) == ("double", "1", "mine")
    assert arrays(raw)["y"].tolist() == arrays(await stub(server).ModelInfer(typed))["y"].tolist() == [[2, 4, 6]]


async def test_every_number_format_passes_through(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_every_type(models)
    write_echo_model(models)
    values = {f"{kind}_in": np.array([[0, 1, 2], [3, 1, 0]]).astype(DTYPES[kind]) for kind in EVERY_TYPE}
    async with echo_server(tmp_path) as server:
        everything = arrays(await stub(server).ModelInfer(infer_request(values, "types")))
        chosen = await stub(server).ModelInfer(infer_request(values, "types", ("INT64_out", "BOOL_out")))
    for kind in EVERY_TYPE:
        np.testing.assert_array_equal(everything[f"{kind}_out"], values[f"{kind}_in"], strict=True)
    assert [one.name for one in chosen.outputs] == ["INT64_out", "BOOL_out"]


async def test_a_model_that_documents_nothing_takes_what_it_is_given(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_echo_model(models)
    write_echo_model(models, "mirror", role="clip")
    inputs = {"a": np.array([[1, 2]], np.int16), "b": np.array(True)}
    async with echo_server(tmp_path) as server:
        response = arrays(await stub(server).ModelInfer(infer_request(inputs, "mirror")))
    assert response["a"].tolist() == [[1, 2]]
    assert response["b"].item() is True


async def test_an_output_may_be_classes(server: RunningServer) -> None:
    request = infer_request({"x": np.array([[1, 5, 3, 4], [0, -1, -2, -3]], np.float32)}, outputs=("y",))
    request.outputs[0].parameters["classification"].int64_param = 2
    response = await stub(server).ModelInfer(request)
    assert list(response.outputs[0].shape) == [2, 2]
    expected = [[b"10.000000:1:one", b"8.000000:3"], [b"0.000000:0:zero", b"-2.000000:1:one"]]
    assert arrays(response)["y"].tolist() == expected


async def test_calls_share_executions_and_are_counted(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_double(models, batching=True)
    write_echo_model(models)
    async with echo_server(tmp_path) as server:
        rows = [np.full((1, 4), value, np.float32) for value in range(16)]
        replies = await asyncio.gather(*(stub(server).ModelInfer(infer_request({"x": row})) for row in rows))
        (stats,) = (await stub(server).ModelStatistics(pb.ModelStatisticsRequest(name="double"))).model_stats
    assert [arrays(reply)["y"][0, 0] for reply in replies] == [2 * value for value in range(16)]
    assert stats.inference_stats.success.count == stats.inference_count == 16
    assert 2 <= stats.execution_count < 16
    assert sum(batch.compute_infer.count for batch in stats.batch_stats) == stats.execution_count
    assert sum(batch.batch_size * batch.compute_infer.count for batch in stats.batch_stats) == 16
    assert stats.inference_stats.compute_infer.ns > 0
    assert stats.inference_stats.queue.count == 16


def _with(change: Any, **fields: Any) -> pb.ModelInferRequest:
    request = infer_request({"x": X}, **fields)
    change(request)
    return request


def _shape(*sizes: int) -> Any:
    def change(request: pb.ModelInferRequest) -> None:
        request.inputs[0].shape[:] = sizes

    return change


def _typed_too(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])


def _integers(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.clear()
    request.inputs[0].contents.int_contents.extend([1, 2, 3])


def _region(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.clear()
    request.inputs[0].parameters["shared_memory_region"].string_param = "nowhere"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 12


BAD = {
    "unknown model": (_with(lambda r: None, model="nobody"), "NOT_FOUND", "'nobody'"),
    "unknown version": (_with(lambda r: None, model_version="7"), "NOT_FOUND", "version 7"),
    "version that is none": (_with(lambda r: None, model_version="new"), "INVALID_ARGUMENT", "'new'"),
    "dtype": (_with(lambda r: setattr(r.inputs[0], "datatype", "INT32")), "INVALID_ARGUMENT", "'x'"),
    "no dtype": (_with(lambda r: setattr(r.inputs[0], "datatype", "FP31")), "INVALID_ARGUMENT", "'x'"),
    "rank": (_with(_shape(1, 1, 3)), "INVALID_ARGUMENT", "'x'"),
    "size": (_with(_shape(1, 4)), "INVALID_ARGUMENT", "'x'"),
    "negative": (_with(_shape(-1, -3)), "INVALID_ARGUMENT", "'x'"),
    "no rows": (_with(_shape(0, 3)), "INVALID_ARGUMENT", "'x'"),
    "batch": (_with(_shape(9, 3)), "INVALID_ARGUMENT", "'x'"),
    "overflow": (_with(_shape(2**62, 2**62)), "INVALID_ARGUMENT", "'x'"),
    "wrap-around to the right size": (_with(_shape(1, 2**62 + 3)), "INVALID_ARGUMENT", "'x'"),
    "100,000 sizes": (_with(_shape(*[100_000] * 100_000)), "INVALID_ARGUMENT", "'x'"),
    "missing": (pb.ModelInferRequest(model_name="double"), "INVALID_ARGUMENT", "'x'"),
    "unexpected": (_with(lambda r: setattr(r.inputs[0], "name", "z")), "INVALID_ARGUMENT", "'z'"),
    "a long name": (_with(lambda r: setattr(r.inputs[0], "name", "字" * 30_000)), "INVALID_ARGUMENT", "字字"),
    "twice": (_with(lambda r: r.inputs.add().CopyFrom(r.inputs[0])), "INVALID_ARGUMENT", "'x'"),
    "raw and typed": (_with(_typed_too), "INVALID_ARGUMENT", "'x'"),
    "another type's field": (_with(_integers), "INVALID_ARGUMENT", "'x'"),
    "too little": (_with(lambda r: r.raw_input_contents.__setitem__(0, b"")), "INVALID_ARGUMENT", "'x'"),
    "too much": (_with(lambda r: r.raw_input_contents.append(b"")), "INVALID_ARGUMENT", "raw_input_contents"),
    "region": (_with(_region), "NOT_FOUND", "'x'"),
    "unknown output": (_with(lambda r: None, outputs=("z",)), "INVALID_ARGUMENT", "'z'"),
    "output twice": (_with(lambda r: None, outputs=("y", "y")), "INVALID_ARGUMENT", "'y'"),
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_request_is_refused_as_triton_does(server: RunningServer, fault: str) -> None:
    request, code, named = BAD[fault]
    error = await failing(stub(server).ModelInfer(request))
    assert error.code().name == code
    assert named in (error.details() or "")
    (stats,) = (await stub(server).ModelStatistics(pb.ModelStatisticsRequest(name="double"))).model_stats
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (0, 0)
    assert arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].tolist() == [[2, 4, 6]]


@pytest.mark.parametrize("rows", [0, 3])
async def test_the_batch_of_a_model_that_documents_no_inputs_has_bounds_too(tmp_path: Path, rows: int) -> None:
    models = write_models(tmp_path)
    (models / "double" / "config.pbtxt").write_text('backend: "onnx" max_batch_size: 2')
    async with echo_server(tmp_path) as server:
        error = await failing(stub(server).ModelInfer(infer_request({"x": np.ones((rows, 2), np.float32)})))
        assert arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].tolist() == [[2, 4, 6]]
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "batch-size must be 1 to 2" in (error.details() or "")


async def test_labels_in_another_encoding_do_not_keep_a_model_from_answering(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    (models / "double" / "labels.txt").write_bytes(b"caf\xe9\ntwo\nthree\n")
    request = infer_request({"x": X}, outputs=("y",))
    request.outputs[0].parameters["classification"].int64_param = 3
    async with echo_server(tmp_path) as server:
        classes = arrays(await stub(server).ModelInfer(request))["y"]
    assert classes.tolist() == [[b"6.000000:2:three", b"4.000000:1:two", "2.000000:0:caf\ufffd".encode()]]


async def test_bytes_that_are_no_request_are_refused(server: RunningServer) -> None:
    call = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert (await failing(call(b"\xff\xff\xff"))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_values_that_the_model_cannot_compute_count_as_a_failure(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_double(models)
    write_echo_model(models)
    config = models / "double" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_FP64"))
    async with echo_server(tmp_path) as server:
        error = await failing(stub(server).ModelInfer(infer_request({"x": X.astype(np.float64)})))
        (stats,) = (await stub(server).ModelStatistics(pb.ModelStatisticsRequest(name="double"))).model_stats
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (0, 1)


async def test_brain_floats_travel_over_a_float_graph(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_double(models)
    write_echo_model(models)
    config = models / "double" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_BF16"))
    request = pb.ModelInferRequest(model_name="double", raw_input_contents=[b"\x80\x3f\x00\x40"])  # 1.0, 2.0
    request.inputs.add(name="x", datatype="BF16", shape=[1, 2])
    async with echo_server(tmp_path) as server:
        response = await stub(server).ModelInfer(request)
    assert response.outputs[0].datatype == "BF16"
    assert response.raw_output_contents[0] == b"\x00\x40\x80\x40"


async def test_a_timeout_in_the_request_is_kept(tmp_path: Path) -> None:
    write_models(tmp_path, step_seconds=0.05)
    request = infer_request({"prompt": "a bag"}, "echo", parameters={"timeout": 20_000})
    async with echo_server(tmp_path) as server:
        error = await failing(stub(server).ModelInfer(request))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_equal_requests_are_answered_once_where_the_configuration_says_so(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    config = models / "double" / "config.pbtxt"
    config.write_text(config.read_text() + "response_cache { enable: true }\n")
    async with echo_server(tmp_path, model_control_mode="explicit", load_model=("double",)) as server:

        async def counted() -> tuple[int, int, int, int]:
            (one,) = (await stub(server).ModelStatistics(pb.ModelStatisticsRequest(name="double"))).model_stats
            hits, misses = one.inference_stats.cache_hit.count, one.inference_stats.cache_miss.count
            return hits, misses, one.execution_count, one.inference_stats.success.count

        first = await stub(server).ModelInfer(infer_request({"x": X}, id="a"))
        again = await stub(server).ModelInfer(infer_request({"x": X}, id="b"))
        assert (again.id, again.raw_output_contents) == ("b", first.raw_output_contents)
        await stub(server).ModelInfer(infer_request({"x": X + 1}))
        assert await counted() == (1, 2, 2, 3)
        write_double(models, factor=5)
        config.write_text(config.read_text() + "response_cache { enable: true }\n")
        await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="double"))
        assert arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].tolist() == (X * 5).tolist()


async def test_the_priority_of_a_request_reaches_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls wait to be computed, and cannot share a batch: the urgent one goes before the one that came earlier."""
    models = write_models(tmp_path)
    config = models / "double" / "config.pbtxt"
    queues = "priority_levels: 2 default_priority_level: 2 max_queue_delay_microseconds: 700000"
    config.write_text(
        config.read_text().replace("max_batch_size: 8", f"max_batch_size: 2 dynamic_batching {{ {queues} }}")
    )
    computed: list[int] = []
    compute = Graph.run

    def run(graph: Graph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        computed.append(inputs["x"].shape[1])
        return compute(graph, inputs)

    async with echo_server(tmp_path) as server:
        monkeypatch.setattr(Graph, "run", run)

        async def ask(priority: int, size: int) -> None:
            tensor = np.ones((1, size), np.float32)
            await stub(server).ModelInfer(infer_request({"x": tensor}, parameters={"priority": priority}))

        async with asyncio.TaskGroup() as calls:
            calls.create_task(ask(priority=2, size=1))
            while not (await server.app.registry.get("double").refresh()).waiting:  # noqa: ASYNC110 - until it waits
                await asyncio.sleep(0.01)
            calls.create_task(ask(priority=1, size=2))
    assert computed == [2, 1]
