"""Warm-up requests of a config.pbtxt, on a graph that says what came."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atelier_server.backends.base import ModelSpec
from atelier_server.backends.onnx import OnnxBackend
from atelier_server.backends.onnx.warm_up import warm_up_requests
from atelier_server.errors import FailedPrecondition
from tests.integration.kserve_kit import write_double


def spec(folder: Path, *warm_ups: dict[str, Any], max_batch_size: int = 8) -> ModelSpec:
    config = {"max_batch_size": max_batch_size, "model_warmup": list(warm_ups)}
    return ModelSpec("double", "1", folder / "double" / "1", config=config, device="cpu")


def put(**fields: Any) -> dict[str, Any]:
    return {"data_type": "TYPE_FP32", "dims": ["3"]} | fields


def test_requests_are_made_as_often_as_they_are_counted(tmp_path: Path) -> None:
    (write_double(tmp_path) / "warmup").mkdir()
    values = np.arange(6, dtype="<f4")
    (tmp_path / "double" / "warmup" / "x").write_bytes(values.tobytes())
    found = list(
        warm_up_requests(
            spec(
                tmp_path,
                {"name": "zeros", "batch_size": 2, "count": 2, "inputs": {"x": put(zero_data=True)}},
                {
                    "name": "chance",
                    "inputs": {"x": put(random_data=True), "n": put(data_type="TYPE_INT64", random_data=True)},
                },
                {"name": "file", "batch_size": 2, "inputs": {"x": put(input_data_file="x")}},
            )
        )
    )
    assert [name for name, _ in found] == ["zeros", "zeros", "chance", "file"]
    assert (found[0][1]["x"].tolist(), found[0][1]["x"].dtype) == ([[0.0] * 3] * 2, np.float32)
    assert (found[2][1]["x"].shape, found[2][1]["n"].dtype) == ((1, 3), np.int64)
    assert found[3][1]["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    (_, flat), *_ = warm_up_requests(spec(tmp_path, {"inputs": {"x": put(zero_data=True)}}, max_batch_size=0))
    assert flat["x"].shape == (3,)


def test_the_backend_runs_them_before_it_is_ready(tmp_path: Path) -> None:
    write_double(tmp_path)
    OnnxBackend(spec(tmp_path, {"inputs": {"x": put(random_data=True)}})).load()
    with pytest.raises(FailedPrecondition, match="warm-up request 'wrong' of double failed: input x is float64"):
        OnnxBackend(
            spec(tmp_path, {"name": "wrong", "inputs": {"x": put(data_type="TYPE_FP64", zero_data=True)}})
        ).load()
    with pytest.raises(FailedPrecondition, match="no graph of double takes"):
        OnnxBackend(spec(tmp_path, {"inputs": {"other": put(zero_data=True)}})).load()


@pytest.mark.parametrize(
    ("warm_up", "said"),
    [
        ({}, r"model_warmup\[0\].inputs: a warm-up request needs inputs"),
        ({"inputs": {"x": put()}}, "inputs.x: say zero_data"),
        (
            {"inputs": {"x": put(data_type="TYPE_STRING", zero_data=True)}},
            "inputs.x.data_type: must be one of TYPE_BOOL",
        ),
        ({"inputs": {"x": put(dims=["-1"], zero_data=True)}}, "inputs.x.dims: needs sizes"),
        ({"inputs": {"x": put(dims=["100000", "100000"], zero_data=True)}}, "inputs.x.dims: needs sizes"),
        ({"inputs": {"x": put(input_data_file="missing")}}, "warmup/missing cannot be read"),
        ({"inputs": {"x": put(input_data_file="../1/model.onnx")}}, "must be a file in the folder warmup"),
        ({"inputs": {"x": put(input_data_file="link")}}, "must be a file in the folder warmup"),
        ({"inputs": {"x": put(input_data_file="short")}}, "holds 2 bytes, and the shape takes 12"),
    ],
)
def test_what_cannot_be_made_is_told_by_its_field(tmp_path: Path, warm_up: dict[str, Any], said: str) -> None:
    folder = write_double(tmp_path) / "warmup"
    folder.mkdir()
    (folder / "short").write_bytes(b"12")
    (folder / "link").symlink_to(tmp_path / "double" / "config.pbtxt")
    with pytest.raises(FailedPrecondition, match=said):
        list(warm_up_requests(spec(tmp_path, warm_up)))
