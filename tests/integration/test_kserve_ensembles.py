"""Ensembles: chains of models that are asked, described, counted and controlled as one."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import arrays, infer_request, step, stub, write_double, write_ensemble

X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """`double` and `triple`, and `six` that chains them; its steps stand in the wrong order."""
    models = tmp_path / "models"
    write_double(models)
    write_double(models, "triple", factor=3)
    write_ensemble(
        models,
        "six",
        step("triple", {"x": "between"}, {"y": "y"}),
        step("double", {"x": "x"}, {"y": "between"}),
        outputs=("y", "between"),
    )
    write_echo_model(models)
    return models


@pytest.fixture
async def server(tmp_path: Path, models: Path) -> AsyncIterator[RunningServer]:
    async with echo_server(tmp_path, model_control_mode="explicit", load_model=("six",)) as running:
        yield running


async def ready(server: RunningServer) -> list[str]:
    index = await stub(server).RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    return [one.name for one in index.models]


async def test_a_chain_computes_and_gives_what_lies_between(server: RunningServer) -> None:
    answer = await stub(server).ModelInfer(infer_request({"x": X}, "six", id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("six", "1", "mine")
    assert {name: array.tolist() for name, array in arrays(answer).items()} == {
        "y": (X * 6).tolist(),
        "between": (X * 2).tolist(),
    }
    chosen = await stub(server).ModelInfer(infer_request({"x": X}, "six", ("y",)))
    assert [one.name for one in chosen.outputs] == ["y"]


async def test_a_chain_is_described_and_counted_as_a_model(server: RunningServer) -> None:
    for _ in range(2):
        await stub(server).ModelInfer(infer_request({"x": X}, "six"))
    about = await stub(server).ModelMetadata(pb.ModelMetadataRequest(name="six"))
    assert (about.platform, list(about.versions)) == ("ensemble", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in about.inputs] == [("x", "FP32", [-1, -1])]
    config = (await stub(server).ModelConfig(pb.ModelConfigRequest(name="six"))).config
    assert [one.model_name for one in config.ensemble_scheduling.step] == ["triple", "double"]
    assert (await stub(server).ModelReady(pb.ModelReadyRequest(name="six", version="1"))).ready
    stats = {one.name: one for one in (await stub(server).ModelStatistics(pb.ModelStatisticsRequest())).model_stats}
    for name in ("six", "double", "triple"):
        counted = stats[name]
        assert (counted.inference_count, counted.execution_count) == (4, 2), name
        assert counted.inference_stats.success.count == 2
    assert stats["six"].inference_stats.compute_infer.ns > stats["double"].inference_stats.compute_infer.ns


async def test_a_chain_comes_with_its_parts_and_takes_them_along(server: RunningServer) -> None:
    assert await ready(server) == ["double", "six", "triple"]
    await stub(server).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="six"))
    assert await ready(server) == ["double", "triple"]
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="six"))
    request = pb.RepositoryModelUnloadRequest(model_name="six")
    request.parameters["unload_dependents"].bool_param = True
    await stub(server).RepositoryModelUnload(request)
    assert await ready(server) == []
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="six"))
    assert await ready(server) == ["double", "six", "triple"]
    assert (
        arrays(await stub(server).ModelInfer(infer_request({"x": X}, "six", ("y",))))["y"].tolist() == (X * 6).tolist()
    )


async def test_a_part_that_another_chain_needs_stays(server: RunningServer, models: Path) -> None:
    write_ensemble(models, "twice", step("six", {"x": "x"}, {"y": "six"}), step("double", {"x": "six"}, {"y": "y"}))
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="twice"))
    answer = await stub(server).ModelInfer(infer_request({"x": X}, "twice"))
    assert arrays(answer)["y"].tolist() == (X * 12).tolist()
    request = pb.RepositoryModelUnloadRequest(model_name="twice")
    request.parameters["unload_dependents"].bool_param = True
    write_ensemble(models, "only", step("double", {"x": "x"}, {"y": "y"}))
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="only"))
    await stub(server).RepositoryModelUnload(request)
    assert await ready(server) == ["double", "only"]


async def test_without_a_part_the_chain_is_not_ready_and_says_which(server: RunningServer) -> None:
    await stub(server).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="triple"))
    assert not (await stub(server).ModelReady(pb.ModelReadyRequest(name="six"))).ready
    assert (await stub(server).ServerReady(pb.ServerReadyRequest())).ready, "unloading on request is no failure"
    error = await failing(stub(server).ModelInfer(infer_request({"x": X}, "six")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "step 0 ('triple')" in (error.details() or "")
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="triple"))
    assert (await stub(server).ModelReady(pb.ModelReadyRequest(name="six"))).ready


async def test_an_error_names_the_step(server: RunningServer, models: Path) -> None:
    """The ensemble takes any size; `picky` takes three."""
    folder = write_double(models, "picky")
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("input [", "# ").replace("output [", "# "))
    write_ensemble(models, "chain", step("double", {"x": "x"}, {"y": "z"}), step("picky", {"no": "z"}, {"y": "y"}))
    await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="chain"))
    error = await failing(stub(server).ModelInfer(infer_request({"x": X}, "chain")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "step 1 ('picky'): no graph of picky takes ['no']" in (error.details() or "")
    bad = await failing(stub(server).ModelInfer(infer_request({"x": X.astype(np.float64)}, "chain")))
    assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'x'" in (bad.details() or "")


async def test_a_chain_that_cannot_be_is_refused_at_load(server: RunningServer, models: Path) -> None:
    write_ensemble(models, "wrong", step("nobody", {"x": "x"}, {"y": "y"}))
    error = await failing(stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="wrong")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "wrong/config.pbtxt:6: ensemble_scheduling.step[0].model_name: there is no model 'nobody'" in (
        error.details() or ""
    )


async def test_a_broken_part_fails_the_load_with_its_reason(server: RunningServer, models: Path) -> None:
    (write_double(models, "broken") / "1" / "model.onnx").write_bytes(b"not a model")
    write_ensemble(models, "chain", step("broken", {"x": "x"}, {"y": "y"}))
    error = await failing(stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="chain")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "model.onnx" in (error.details() or "")
