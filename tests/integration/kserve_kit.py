"""What the tests of the KServe V2 protocol share: small ONNX models, requests, and arrays out of replies."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve import grpc_service_pb2_grpc as rpc
from atelier_server.frontend.kserve.tensors import BYTES, DTYPES, from_raw, to_raw
from atelier_server.testing import RunningServer, write_echo_model

DOUBLE = """
backend: "onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] label_filename: "labels.txt" } ]
"""
EVERY_TYPE = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "INT8": TensorProto.INT8,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


def stub(server: RunningServer) -> rpc.GRPCInferenceServiceStub:
    """A stub of the service."""
    return rpc.GRPCInferenceServiceStub(server.channel)


def write_double(models: Path, name: str = "double", *, batching: bool = False, factor: int = 2) -> Path:
    """A model that multiplies what it gets: x FP32 [batch, n] to y."""
    folder = models / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    sizes = ["batch", "n"]
    save(
        folder / "1" / "model.onnx",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [float(factor)])],
    )
    text = DOUBLE + ("dynamic_batching { max_queue_delay_microseconds: 20000 }\n" if batching else "")
    (folder / "config.pbtxt").write_text(text)
    (folder / "labels.txt").write_text("zero\none\ntwo\n")
    return folder


def write_every_type(models: Path, name: str = "types") -> Path:
    """A model without a batch dimension that gives back a tensor [2, n] of every number format it knows."""
    folder = models / name
    (folder / "1").mkdir(parents=True)
    infos = {
        put: [helper.make_tensor_value_info(f"{kind}_{put}", number, [2, "n"]) for kind, number in EVERY_TYPE.items()]
        for put in ("in", "out")
    }
    nodes = [helper.make_node("Identity", [f"{kind}_in"], [f"{kind}_out"]) for kind in EVERY_TYPE]
    save(folder / "1" / "model.onnx", nodes, infos["in"], infos["out"])
    lines = ['backend: "onnx"']
    for kind in EVERY_TYPE:
        lines.append(f'input {{ name: "{kind}_in" data_type: TYPE_{kind} dims: [ 2, -1 ] }}')
        lines.append(f'output {{ name: "{kind}_out" data_type: TYPE_{kind} dims: [ 2, -1 ] }}')
    (folder / "config.pbtxt").write_text("\n".join(lines))
    return folder


def write_models(folder: Path, **echo: object) -> Path:
    """A repository with `double`, and `echo` for pictures."""
    models = folder / "models"
    write_double(models)
    write_echo_model(models, **echo)
    return models


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Any = ()) -> None:
    """Writes a graph that older runtimes read."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def infer_request(
    inputs: Mapping[str, Any], model: str = "double", outputs: tuple[str, ...] = (), **fields: Any
) -> pb.ModelInferRequest:
    """A request with raw contents; texts are BYTES [1], other values arrays. `parameters` are plain values."""
    parameters = fields.pop("parameters", {})
    request = pb.ModelInferRequest(model_name=model, **fields)
    for name, value in inputs.items():
        array = np.array([value.encode()], object) if isinstance(value, str) else np.asarray(value)
        kind = BYTES if array.dtype == object else next(kind for kind, one in DTYPES.items() if one == array.dtype)
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(to_raw(array, kind))
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request


def picture(prompt: str, request_id: str = "", model: str = "echo", **values: Any) -> pb.ModelInferRequest:
    """A request for a small picture."""
    types = {"seed": np.uint64, "guidance_scale": np.float32}
    inputs: dict[str, Any] = {"prompt": prompt}
    outputs, parameters = values.pop("outputs", ()), values.pop("parameters", {})
    for name, value in values.items():
        inputs[name] = value if isinstance(value, str) else np.array([value], types.get(name, np.uint32))
    return infer_request(inputs, model, outputs, id=request_id, parameters=parameters)


def arrays(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """The outputs of a reply."""
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {one.name: from_raw(one.name, one.datatype, one.shape, data) for one, data in pairs}


def plain(parameters: Any) -> dict[str, Any]:
    """The parameters of a reply as plain values."""
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}


async def listed(*requests: pb.ModelInferRequest) -> AsyncIterator[pb.ModelInferRequest]:
    """A stream of requests."""
    for request in requests:
        yield request


def step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str], version: int = -1) -> str:
    """A step of an ensemble as text: the model's tensors to the ensemble's."""
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()]
    return f'step {{ model_name: "{model}" model_version: {version} {" ".join(maps)} }}'


def write_ensemble(models: Path, name: str, *steps: str, outputs: tuple[str, ...] = ("y",)) -> Path:
    """An ensemble over tensors FP32 [batch, n]: `x` goes in."""
    folder = models / name
    folder.mkdir(parents=True)
    lines = ['platform: "ensemble"', "max_batch_size: 8"]
    lines.append('input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }')
    lines += [f'output {{ name: "{one}" data_type: TYPE_FP32 dims: [ -1 ] }}' for one in outputs]
    (folder / "config.pbtxt").write_text("\n".join([*lines, "ensemble_scheduling {", *steps, "}", ""]))
    return folder
