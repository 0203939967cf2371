"""Load requests that bring a configuration, or all files of a model."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.repository.overrides import MOST_FILES
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import arrays, infer_request, stub, write_double, write_models

X = np.array([[1.0]], np.float32)
CONFIG: dict[str, Any] = {
    "backend": "onnx",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["-1"]}],
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_models(tmp_path)
    async with echo_server(tmp_path, model_control_mode="explicit", load_model=("double",)) as running:
        yield running


@pytest.fixture
def triple(tmp_path: Path) -> bytes:
    """A graph that triples."""
    return (write_double(tmp_path / "elsewhere", factor=3) / "1" / "model.onnx").read_bytes()


def request(
    name: str, config: object = None, files: Mapping[str, bytes] | None = None
) -> pb.RepositoryModelLoadRequest:
    message = pb.RepositoryModelLoadRequest(model_name=name)
    if config is not None:
        message.parameters["config"].string_param = config if isinstance(config, str) else json.dumps(config)
    for path, data in (files or {}).items():
        message.parameters[f"file:{path}"].bytes_param = data
    return message


async def load(server: RunningServer, *wanted: Any) -> None:
    await stub(server).RepositoryModelLoad(request(*wanted))


async def unload(server: RunningServer, name: str) -> None:
    await stub(server).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name))


async def answer(server: RunningServer, model: str = "double", version: str = "") -> float:
    response = await stub(server).ModelInfer(infer_request({"x": X}, model, model_version=version))
    return float(arrays(response)["y"].item())


async def most(server: RunningServer) -> int:
    return (await stub(server).ModelConfig(pb.ModelConfigRequest(name="double"))).config.max_batch_size


async def test_a_configuration_holds_until_the_next_load(server: RunningServer) -> None:
    await load(server, "double", CONFIG | {"max_batch_size": 2})
    assert (await most(server), await answer(server)) == (2, 2.0)
    error = await failing(stub(server).ModelInfer(infer_request({"x": np.ones((3, 1), np.float32)})))
    assert "batch-size must be 1 to 2" in (error.details() or "")
    await load(server, "double")
    assert await most(server) == 8


async def test_files_replace_the_repositorys_until_the_next_load(
    server: RunningServer, tmp_path: Path, triple: bytes
) -> None:
    await load(server, "double", CONFIG, {"7/model.onnx": triple, "labels.txt": b"a\nb\n"})
    assert (await answer(server), await answer(server, version="7")) == (3.0, 3.0)
    assert len(list((tmp_path / "state" / "overrides").iterdir())) == 1
    await load(server, "double")
    assert await answer(server, version="1") == 2.0
    async with asyncio.timeout(20):
        while list((tmp_path / "state" / "overrides").iterdir()):  # noqa: ASYNC110 - until the replaced one has retired
            await asyncio.sleep(0.05)


async def test_a_model_may_be_none_of_the_repository(server: RunningServer, tmp_path: Path, triple: bytes) -> None:
    await load(server, "guest", CONFIG, {"1/model.onnx": triple})
    assert await answer(server, "guest") == 3.0
    await unload(server, "guest")
    assert not list((tmp_path / "state" / "overrides").iterdir())
    assert (await failing(stub(server).RepositoryModelLoad(request("guest")))).code() is grpc.StatusCode.NOT_FOUND
    index = await stub(server).RepositoryIndex(pb.RepositoryIndexRequest())
    assert "guest" not in [one.name for one in index.models]


@pytest.mark.parametrize(
    ("config", "files", "field", "said"),
    [
        ("{", {}, "config", "no ModelConfig in JSON"),
        ("", {}, "config", "no ModelConfig in JSON"),
        ({"backendd": "onnx"}, {}, "config", 'no field named "backendd"'),
        (CONFIG | {"max_batch_size": -1}, {}, "max_batch_size", "max_batch_size: must be 0"),
        (CONFIG | {"name": "other"}, {}, "name", "differs"),
        (None, {"1/model.onnx": b""}, "config", "files need the parameter config"),
        (CONFIG, {"../1/model.onnx": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/../../x": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"/etc/x": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/a\\b": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/a\0b": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"01/model.onnx": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"x/model.onnx": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"config.pbtxt": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/a/b/c/d/e/f/g/h": b""}, "file", "give file:<version>/<path>"),
        (CONFIG, {"1/a": b"", "1/a/b": b""}, "file", "a file and a folder at once"),
        (CONFIG, {f"1/{number}": b"" for number in range(MOST_FILES + 1)}, "parameters", "files at most"),
    ],
)
async def test_what_cannot_be_is_refused_and_the_running_model_stays(
    server: RunningServer, tmp_path: Path, config: object, files: dict[str, bytes], field: str, said: str
) -> None:
    error = await failing(stub(server).RepositoryModelLoad(request("double", config, files)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (error.details() or "")
    assert await answer(server) == 2.0
    folder = tmp_path / "state" / "overrides"
    assert not folder.exists() or not list(folder.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) in (["models", "state"], ["models"])


async def test_files_that_do_not_load_leave_the_running_model_and_nothing_on_disk(
    server: RunningServer, tmp_path: Path
) -> None:
    for files in ({"1/model.onnx": b"not a model"}, {"labels.txt": b""}):
        error = await failing(stub(server).RepositoryModelLoad(request("double", CONFIG, files)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert await answer(server) == 2.0
    for name in ("../double", "", ".hidden"):
        unknown = await failing(stub(server).RepositoryModelLoad(request(name, CONFIG, {"1/model.onnx": b""})))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert not list((tmp_path / "state" / "overrides").iterdir())


@pytest.mark.parametrize(
    ("name", "kind"), [("config", "bytes_param"), ("file:1/a", "string_param"), ("else", "int64_param")]
)
async def test_parameters_of_the_wrong_kind_are_refused(server: RunningServer, name: str, kind: str) -> None:
    message = pb.RepositoryModelLoadRequest(model_name="double")
    setattr(message.parameters[name], kind, {"bytes_param": b"", "string_param": "", "int64_param": 1}[kind])
    error = await failing(stub(server).RepositoryModelLoad(message))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert name in (error.details() or "")
    gone = pb.RepositoryModelUnloadRequest(model_name="double")
    setattr(gone.parameters[name], kind, getattr(message.parameters[name], kind))
    assert (await failing(stub(server).RepositoryModelUnload(gone))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_overrides_of_a_server_that_crashed_are_removed(tmp_path: Path) -> None:
    write_models(tmp_path)
    left = tmp_path / "state" / "overrides" / "override-left"
    left.mkdir(parents=True)
    async with echo_server(tmp_path):
        assert not left.exists()


async def test_configurations_of_requests_close_no_circle(server: RunningServer, tmp_path: Path) -> None:
    """On disk `double` is a plain model, so only what is loaded can tell."""

    def chain(part: str) -> dict[str, Any]:
        one = {"model_name": part, "input_map": {"x": "x"}, "output_map": {"y": "y"}}
        tensors = {name: CONFIG[name] for name in ("max_batch_size", "input", "output")}
        return tensors | {"platform": "ensemble", "ensemble_scheduling": {"step": [one]}}

    write_double(tmp_path / "models", "other")
    await load(server, "double", chain("other"))
    assert await answer(server) == 2.0
    error = await failing(stub(server).RepositoryModelLoad(request("other", chain("double"))))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "other leads back to itself through double" in (error.details() or "")
    assert await answer(server) == 2.0
    error = await failing(stub(server).RepositoryModelLoad(request("other", chain("other"))))
    assert "leads back to itself" in (error.details() or "")
