"""The onnx backend on two small graphs made here."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from atelier_server.backends.base import DiffusionTask, Job, JobEvent, JobFailed, JobTensors, ModelSpec, TensorTask
from atelier_server.backends.onnx import OnnxBackend, create
from atelier_server.errors import AtelierError, DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable

BATCHING = {"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": "0"}}


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] = []) -> None:  # noqa: B006
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`vision` doubles pictures; `text` looks token ids up in a table of four."""
    picture = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    doubled = helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    save(tmp_path / "vision.onnx", [helper.make_node("Add", ["pixels", "pixels"], ["doubled"])], [picture], [doubled])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    looked_up = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", "length"])
    table = helper.make_tensor("table", TensorProto.FLOAT, [4], [0.0, 10.0, 20.0, 30.0])
    save(
        tmp_path / "text.onnx", [helper.make_node("Gather", ["table", "ids"], ["values"])], [ids], [looked_up], [table]
    )
    return tmp_path


def loaded(folder: Path, config: dict[str, Any] | None = None) -> OnnxBackend:
    backend = create(ModelSpec("double", "1", folder, config=config or {}, device="cpu"))
    assert isinstance(backend, OnnxBackend)
    backend.load()
    return backend


def submit(backend: OnnxBackend, job_id: str, timeout: float = 0.0, **inputs: Any) -> list[JobEvent]:
    events: list[JobEvent] = []
    arrived = time.monotonic()
    backend.submit(Job(TensorTask(job_id, inputs, timeout_seconds=timeout), events.append, arrived))
    return events


def drain(backend: OnnxBackend) -> None:
    while backend.step() is not None:
        pass


def pixels(rows: int, side: int = 2, value: float = 1.0) -> np.ndarray:
    return np.full((rows, 3, side, side), value, np.float32)


def test_inputs_choose_the_graph(folder: Path) -> None:
    backend = loaded(folder)
    picture, text = submit(backend, "a", pixels=pixels(1)), submit(backend, "b", ids=np.array([[1, 3]]))
    drain(backend)
    assert isinstance(picture[0], JobTensors)
    assert np.array_equal(picture[0].outputs["doubled"], pixels(1, value=2.0))
    assert isinstance(text[0], JobTensors)
    assert text[0].outputs["values"].tolist() == [[10.0, 30.0]]
    assert backend.status().device == "cpu"


def test_jobs_of_one_shape_share_an_execution_and_get_their_own_rows(folder: Path) -> None:
    backend = loaded(folder, BATCHING)
    results = [submit(backend, str(i), pixels=pixels(rows, value=float(i))) for i, rows in enumerate((1, 2, 1))]
    other = submit(backend, "other", pixels=pixels(1, side=3))
    drain(backend)
    for index, (events, rows) in enumerate(zip(results, (1, 2, 1), strict=True)):
        assert isinstance(events[0], JobTensors)
        assert np.array_equal(events[0].outputs["doubled"], pixels(rows, value=2.0 * index))
    assert isinstance(other[0], JobTensors)
    assert backend.status().counters["executions_total"] == 2
    assert backend.status().counters["inferences_total"] == 4


def test_one_bad_value_does_not_spoil_its_batch(folder: Path) -> None:
    backend = loaded(folder, BATCHING)
    good, bad = submit(backend, "good", ids=np.array([[2]])), submit(backend, "bad", ids=np.array([[99]]))
    drain(backend)
    assert isinstance(good[0], JobTensors)
    assert good[0].outputs["values"].tolist() == [[20.0]]
    assert isinstance(bad[0], JobFailed)
    assert isinstance(bad[0].error, InvalidArgument)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"pixels": np.zeros((1, 3, 2, 2))}, "pixels"),
        ({"pixels": np.zeros((1, 4, 2, 2), np.float32)}, "pixels"),
        ({"pixels": np.zeros((3, 2, 2), np.float32)}, "pixels"),
        ({"other": np.zeros(1, np.float32)}, "inputs"),
        ({"pixels": pixels(1), "ids": np.array([[1]])}, "inputs"),
    ],
)
def test_wrong_inputs_are_named(folder: Path, inputs: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        submit(loaded(folder), "a", **inputs)
    assert caught.value.field == field


def test_a_job_that_waited_too_long_or_was_aborted_is_not_run(folder: Path) -> None:
    backend = loaded(folder, BATCHING)
    late = submit(backend, "late", timeout=1e-9, pixels=pixels(1))
    gone = submit(backend, "gone", pixels=pixels(1))
    backend.abort("gone")
    drain(backend)
    assert isinstance(late[0], JobFailed)
    assert isinstance(late[0].error, DeadlineExceeded)
    assert gone == []
    assert backend.status().counters["executions_total"] == 0


def test_a_diffusion_job_is_refused(folder: Path) -> None:
    task = DiffusionTask("a", "x", None, (1,), 64, 64, 1, 1.0)
    with pytest.raises(InvalidArgument):
        loaded(folder).submit(Job(task, lambda event: None, 0.0))


@pytest.mark.parametrize(
    ("content", "error"), [(None, FailedPrecondition), (b"", Unavailable), (b"not an onnx file", Unavailable)]
)
def test_missing_and_broken_files_are_told(tmp_path: Path, content: bytes | None, error: type[AtelierError]) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(error) as caught:
        loaded(tmp_path)
    assert "double" in str(caught.value) or "model.onnx" in str(caught.value)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(folder: Path) -> None:
    backend = create(ModelSpec("double", "1", folder, device="cuda:0"))
    with pytest.raises(Unavailable, match="KIND_CPU"):
        backend.load()


def test_a_batch_tells_its_cost_and_is_counted_once(folder: Path) -> None:
    backend = loaded(folder, BATCHING)
    results = [submit(backend, str(rows), pixels=pixels(rows)) for rows in (1, 3)]
    drain(backend)
    times = [events[0].times for events in results if isinstance(events[0], JobTensors)]
    assert [one.rows for one in times] == [4, 4]
    assert [one.leads for one in times] == [True, False]
    assert all(one.infer_ns > 0 and one.queue_ns > 0 for one in times)


def test_rows_that_do_not_match_are_refused_before_they_could_reach_others(tmp_path: Path) -> None:
    sides = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_rows", 2]) for name in "ab"}
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b_rows", 2])
    save(tmp_path / "model.onnx", [helper.make_node("Identity", ["b"], ["out"])], list(sides.values()), [out])
    backend = loaded(tmp_path, BATCHING)
    one, two = np.ones((1, 2), np.float32), np.full((2, 2), 2, np.float32)
    with pytest.raises(InvalidArgument) as caught:
        submit(backend, "mine", a=one, b=two)
    assert caught.value.field == "b"
    other = submit(backend, "other", a=two, b=two)
    drain(backend)
    assert isinstance(other[0], JobTensors)
    assert other[0].outputs["out"].tolist() == two.tolist()


@pytest.mark.parametrize("declared", [[2], None])
def test_an_output_without_rows_is_computed_for_each_alone(tmp_path: Path, declared: list[int] | None) -> None:
    """Cut into as many pieces as there were jobs, it would be wrong for all of them."""
    given = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", 2])
    told = helper.make_tensor_value_info("told", TensorProto.INT64 if declared else TensorProto.FLOAT, declared)
    node = helper.make_node("Shape", ["a"], ["told"]) if declared else helper.make_node("ReduceSum", ["a"], ["told"])
    save(tmp_path / "model.onnx", [node], [given], [told])
    backend = loaded(tmp_path, BATCHING)
    results = [submit(backend, name, a=np.ones((1, 2), np.float32)) for name in ("x", "y")]
    drain(backend)
    for events in results:
        assert isinstance(events[0], JobTensors)
        assert events[0].outputs["told"].tolist() == ([1, 2] if declared else [[2]])
    assert backend.status().counters["inferences_total"] == 2
