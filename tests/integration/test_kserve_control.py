"""What the service says of the server and its models, and how it controls them."""

import asyncio
import logging
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve.model_config_pb2 import DataType
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import arrays, infer_request, picture, stub, write_double, write_models

X = np.array([[1.0]], np.float32)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_models(tmp_path)
    async with echo_server(tmp_path, model_control_mode="explicit", load_model=("*",)) as running:
        yield running


@pytest.fixture
def log_level() -> Iterator[None]:
    """The tests' own level, whatever a test sets."""
    loggers = [logging.getLogger(name) for name in ("atelier_server", "atelier")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


async def load(server: RunningServer, name: str) -> None:
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name))


async def unload(server: RunningServer, name: str) -> None:
    await stub(server).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name))


async def states(server: RunningServer, *, ready: bool = False) -> dict[str, tuple[str, str]]:
    index = await stub(server).RepositoryIndex(pb.RepositoryIndexRequest(ready=ready))
    return {one.name: (one.version, one.state) for one in index.models}


async def test_the_server_says_what_it_is(server: RunningServer) -> None:
    about = await stub(server).ServerMetadata(pb.ServerMetadataRequest())
    assert about.name == "atelier"
    assert {"system_shared_memory", "statistics", "binary_tensor_data"} <= set(about.extensions)
    assert not {"cuda_shared_memory", "sequence"} & set(about.extensions)
    assert (await stub(server).ServerLive(pb.ServerLiveRequest())).live
    assert (await stub(server).ServerReady(pb.ServerReadyRequest())).ready


async def test_models_say_what_they_take_and_give(server: RunningServer) -> None:
    double = await stub(server).ModelMetadata(pb.ModelMetadataRequest(name="double"))
    assert (double.platform, list(double.versions)) == ("onnxruntime_onnx", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in double.inputs] == [("x", "FP32", [-1, -1])]
    echo = await stub(server).ModelMetadata(pb.ModelMetadataRequest(name="echo", version="1"))
    assert {one.name: one.datatype for one in echo.inputs} == {
        **dict.fromkeys(("prompt", "negative_prompt", "noise_schedule", "reproducibility"), "BYTES"),
        **dict.fromkeys(("height", "width", "num_inference_steps"), "UINT32"),
        "seed": "UINT64",
        "guidance_scale": "FP32",
    }
    assert [(one.name, one.datatype, list(one.shape)) for one in echo.outputs] == [
        ("IMAGE", "BYTES", [1]),
        ("IMAGE_RAW", "UINT8", [-1, -1, 3]),
        ("SEED", "UINT64", [1]),
    ]
    config = (await stub(server).ModelConfig(pb.ModelConfigRequest(name="echo"))).config
    assert (config.name, config.backend, config.input[0].data_type) == ("echo", "echo", DataType.TYPE_STRING)
    assert [one.optional for one in config.input] == [False] + [True] * 8


@pytest.mark.parametrize("name", ["nobody", "../double", ""])
async def test_an_unknown_model_is_not_found(server: RunningServer, name: str) -> None:
    for call in (
        stub(server).ModelMetadata(pb.ModelMetadataRequest(name=name)),
        stub(server).ModelConfig(pb.ModelConfigRequest(name=name)),
        stub(server).TraceSetting(pb.TraceSettingRequest(model_name=name or "nobody")),
        stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name)),
        stub(server).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name)),
        stub(server).ModelStatistics(pb.ModelStatisticsRequest(name=name or "nobody")),
    ):
        assert (await failing(call)).code() is grpc.StatusCode.NOT_FOUND
    assert not (await stub(server).ModelReady(pb.ModelReadyRequest(name=name))).ready


async def test_models_are_unloaded_and_loaded(server: RunningServer) -> None:
    assert await states(server) == {"double": ("1", "READY"), "echo": ("1", "READY")}
    await unload(server, "double")
    assert await states(server) == {"double": ("1", "UNAVAILABLE"), "echo": ("1", "READY")}
    assert await states(server, ready=True) == {"echo": ("1", "READY")}
    assert not (await stub(server).ModelReady(pb.ModelReadyRequest(name="double"))).ready
    assert (await stub(server).ServerReady(pb.ServerReadyRequest())).ready
    error = await failing(stub(server).ModelInfer(infer_request({"x": X})))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await load(server, "double")
    assert (await stub(server).ModelReady(pb.ModelReadyRequest(name="double", version="1"))).ready
    assert arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].tolist() == [[2.0]]


async def test_a_broken_model_says_why_and_the_old_one_stays(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "double"
    (folder / "2").mkdir()
    (folder / "2" / "model.onnx").write_bytes(b"not a model")
    error = await failing(load(server, "double"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "model.onnx" in (error.details() or "")
    assert arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].tolist() == [[2.0]]


async def test_versions_are_chosen_by_number(server: RunningServer, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = write_double(models)
    (folder / "1").rename(folder / "3")
    write_double(models, factor=5)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text() + "version_policy { all {} }\n")
    await load(server, "double")
    answers = {}
    for version in ("", "1", "3"):
        response = await stub(server).ModelInfer(infer_request({"x": X}, model_version=version))
        answers[version] = (response.model_version, arrays(response)["y"].item())
    assert answers == {"": ("3", 2.0), "1": ("1", 5.0), "3": ("3", 2.0)}
    assert (
        await failing(stub(server).ModelInfer(infer_request({"x": X}, model_version="2")))
    ).code().name == "NOT_FOUND"


@pytest.mark.parametrize("mode", ["none", "poll"])
async def test_requests_decide_nothing_unless_they_may(tmp_path: Path, mode: str) -> None:
    write_models(tmp_path)
    async with echo_server(tmp_path, model_control_mode=mode) as server:
        for call in (load(server, "double"), unload(server, "double")):
            error = await failing(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "explicit" in (error.details() or "")
        assert (await states(server))["double"] == ("1", "READY")


async def test_there_is_one_repository_and_it_has_no_name(server: RunningServer) -> None:
    for call in (
        stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="double", repository_name="r")),
        stub(server).RepositoryIndex(pb.RepositoryIndexRequest(repository_name="r")),
    ):
        assert (await failing(call)).code() is grpc.StatusCode.UNIMPLEMENTED
    request = pb.RepositoryModelUnloadRequest(model_name="double")
    request.parameters["unload_dependents"].bool_param = True
    await stub(server).RepositoryModelUnload(request)


async def test_loading_and_unloading_leaks_nothing(server: RunningServer) -> None:
    await asyncio.sleep(0)
    process = psutil.Process()

    async def rounds(count: int) -> None:
        for _ in range(count):
            await unload(server, "double")
            await load(server, "double")

    await rounds(2)
    files, tasks = process.num_fds(), len(asyncio.all_tasks())
    await rounds(5)
    async with asyncio.timeout(20):  # what ends in the background may take a moment, but a leak never ends
        while process.num_fds() > files or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - nothing tells of the end
            await asyncio.sleep(0.05)


async def test_statistics_have_the_names_that_dashboards_know(server: RunningServer) -> None:
    for _ in range(3):
        await stub(server).ModelInfer(infer_request({"x": np.ones((2, 1), np.float32)}))
    await stub(server).ModelInfer(picture("a bag", num_inference_steps=1))
    stats = {one.name: one for one in (await stub(server).ModelStatistics(pb.ModelStatisticsRequest())).model_stats}
    double = stats["double"]
    assert (double.inference_count, double.execution_count, double.batch_stats[0].batch_size) == (6, 3, 2)
    assert double.last_inference > 0
    assert stats["echo"].inference_stats.success.count == 1
    with await asyncio.to_thread(urllib.request.urlopen, f"{server.metrics_url}/metrics") as page:
        lines = page.read().decode().splitlines()
    assert 'nv_inference_request_success{model="double",version="1"} 3.0' in lines
    assert 'nv_inference_count{model="double",version="1"} 6.0' in lines
    assert 'nv_inference_exec_count{model="double",version="1"} 3.0' in lines
    assert 'nv_inference_request_failure{model="echo",reason="CANCELED",version="1"} 0.0' in lines
    assert any(line.startswith('nv_inference_compute_infer_duration_us{model="echo"') for line in lines)


@pytest.mark.usefixtures("log_level")
async def test_log_settings_set_the_level(server: RunningServer) -> None:
    request = pb.LogSettingsRequest()
    request.settings["log_verbose_level"].uint32_param = 1
    verbose = await stub(server).LogSettings(request)
    assert verbose.settings["log_verbose_level"].uint32_param == 1
    assert logging.getLogger("atelier_server").level == logging.DEBUG
    request = pb.LogSettingsRequest()
    request.settings["log_verbose_level"].uint32_param = 0
    request.settings["log_info"].bool_param = False
    quiet = await stub(server).LogSettings(request)
    assert (quiet.settings["log_info"].bool_param, quiet.settings["log_warning"].bool_param) == (False, True)
    assert logging.getLogger("atelier_server").level == logging.WARNING


@pytest.mark.usefixtures("log_level")
@pytest.mark.parametrize(
    ("name", "kind", "value", "code"),
    [
        ("log_info", "string_param", "no", "INVALID_ARGUMENT"),
        ("log_everything", "bool_param", True, "INVALID_ARGUMENT"),
        ("log_format", "string_param", "xml", "INVALID_ARGUMENT"),
        ("log_file", "string_param", "/etc/passwd", "UNIMPLEMENTED"),
    ],
)
async def test_wrong_log_settings_change_nothing(
    server: RunningServer, name: str, kind: str, value: object, code: str
) -> None:
    request = pb.LogSettingsRequest()
    request.settings["log_verbose_level"].uint32_param = 1
    setattr(request.settings[name], kind, value)
    level = logging.getLogger("atelier_server").level
    assert (await failing(stub(server).LogSettings(request))).code().name == code
    assert logging.getLogger("atelier_server").level == level


async def trace(server: RunningServer, model: str = "", **settings: str) -> dict[str, list[str]]:
    request = pb.TraceSettingRequest(model_name=model)
    for name, value in settings.items():
        request.settings[name].value.extend([value] if value else [])
    response = await stub(server).TraceSetting(request)
    return {name: list(setting.value) for name, setting in response.settings.items()}


@pytest.mark.usefixtures("log_level")
async def test_traced_requests_leave_a_line(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "atelier_server")
    assert (await trace(server))["trace_level"] == ["OFF"]
    await trace(server, trace_level="TIMESTAMPS", trace_rate="2", trace_count="2")
    own = await trace(server, "echo", trace_level="OFF")
    assert (own["trace_level"], own["trace_rate"]) == (["OFF"], ["2"])
    for index in range(8):
        await stub(server).ModelInfer(infer_request({"x": X}, id=str(index)))
    await stub(server).ModelInfer(picture("a bag"))
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("trace ")]
    assert [line.split()[3] for line in lines] == ["id=1", "id=3"]
    assert (await trace(server, "echo", trace_level=""))["trace_level"] == ["TIMESTAMPS"]


@pytest.mark.usefixtures("log_level")
async def test_requests_for_models_that_nobody_knows_are_counted_together(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "atelier_server")
    await trace(server, trace_level="TIMESTAMPS", trace_rate="3")
    for index in range(3):
        error = await failing(stub(server).ModelInfer(pb.ModelInferRequest(model_name=f"none{index}" * 50)))
        assert error.code() is grpc.StatusCode.NOT_FOUND
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("trace ")]
    assert "outcome=failed" in line
    assert len(line) < 250


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"trace_level": "TENSORS"}, "INVALID_ARGUMENT"),
        ({"trace_rate": "0"}, "INVALID_ARGUMENT"),
        ({"trace_rate": "9" * 5000}, "INVALID_ARGUMENT"),
        ({"trace_count": "many"}, "INVALID_ARGUMENT"),
        ({"trace_everything": "1"}, "INVALID_ARGUMENT"),
        ({"trace_file": "/etc/passwd"}, "UNIMPLEMENTED"),
    ],
)
async def test_wrong_trace_settings_change_nothing(server: RunningServer, settings: dict[str, str], code: str) -> None:
    error = await failing(
        trace(server, trace_count="5", **settings) if "trace_count" not in settings else trace(server, **settings)
    )
    assert error.code().name == code
    assert (await trace(server))["trace_count"] == ["-1"]
