"""NVIDIA's own client, synchronous and asyncio, against a running server."""

import io
import json
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import psutil
import pytest
from PIL import Image

from atelier.v1 import common_pb2, image_generation_pb2, image_generation_pb2_grpc
from atelier_server._generated.atelier.kserve import grpc_service_pb2, model_config_pb2
from tests.conformance.conftest import Drive, ServerProcess
from tests.conformance.drivers.wire import described

ROUNDS, WARM_UP_ROUNDS = 100, 30
"""Of ten mistakes each."""
GROWTH_BYTES = 8 * 2**20
MOST_REPEATS = 4


@pytest.fixture(scope="module")
def native(server: ServerProcess) -> bytes:
    """The PNG of the native call that asks for the same picture."""
    request = image_generation_pb2.GenerateRequest(
        prompt="a red handbag",
        model_name="starter",
        style=common_pb2.STYLE_NONE,
        reproducibility=common_pb2.REPRODUCIBILITY_EXACT,
        seed=5,
        num_inference_steps=2,
        width=128,
        height=128,
        brand_consistency_check=False,
    )
    with grpc.insecure_channel(server.address) as channel:
        events = list(image_generation_pb2_grpc.ImageGenerationServiceStub(channel).Generate(request, timeout=120))
    return b"".join(event.image_chunk.data for event in events if event.HasField("image_chunk"))


@pytest.mark.parametrize("driver", ["every_method.py", "every_method_aio.py"])
def test_every_method_of_the_client_works(drive: Drive, models: Path, native: bytes, driver: str) -> None:
    inputs = {
        "pixel_values": np.random.default_rng(1).standard_normal((3, 3, 128, 128), np.float32),
        "input_ids": np.random.default_rng(2).integers(0, 2000, (2, 77), np.int64),
        "graph": np.fromfile(models / "double" / "1" / "model.onnx", np.uint8),
    }
    driven = drive(driver, **inputs)
    facts, arrays = driven.facts, driven.arrays
    assert facts["never_called"] == []
    assert (facts["live"], facts["ready"], facts["model_ready"], facts["plugin"]) == (True, True, [True, False], True)
    assert "system_shared_memory" in facts["extensions"]
    assert facts["inputs"][:3] == ["prompt", "negative_prompt", "seed"]
    assert (facts["backend"], facts["unloaded"]) == ("onnx", "UNAVAILABLE")
    assert (facts["trace_rate"], facts["default_rate"], facts["verbose"]) == (["7"], ["1000"], 1)
    assert facts["cuda"] == ["StatusCode.UNIMPLEMENTED"] * 3
    for tower, taken, given in (("vision", "pixel_values", "image_embeds"), ("text", "input_ids", "text_embeds")):
        session = onnxruntime.InferenceSession(models / "starter_clip" / "1" / f"{tower}.onnx")
        (expected,) = session.run([given], {taken: inputs[taken]})
        np.testing.assert_allclose(arrays[given], expected, rtol=1e-4, atol=1e-5)
    assert arrays["doubled"].tolist() == arrays["written"].tolist() == [[0, 2, 4, 6]]
    assert arrays["guest"].tolist() == [[0, 2, 4, 6]]
    assert arrays["chained"].tolist() == [[0, 4, 8, 12]]
    assert (facts["async_error"], facts["region_bytes"], facts["best"]) == ("", 64, "6.000000:3")
    assert int(facts["success"]) >= 3
    assert facts["steps"] == {"a": [1, 2], "b": [1, 2]}
    assert (facts["same_in_stream"], facts["seed"], facts["id"]) == (True, 5, "picture")
    assert ["version 9" in message for message in facts["stream_errors"]] == [True]
    assert arrays["png"].tobytes() == native
    np.testing.assert_array_equal(arrays["raw"], np.asarray(Image.open(io.BytesIO(native))), strict=True)


EXPECTED = {
    "wrong_shape": ("INVALID_ARGUMENT", "'x'"),
    "wrong_dtype": ("INVALID_ARGUMENT", "'x'"),
    "missing_input": ("INVALID_ARGUMENT", "'x'"),
    "unknown_model": ("NOT_FOUND", "'nobody'"),
    "unknown_version": ("NOT_FOUND", "version 77"),
    "raw_and_typed": ("INVALID_ARGUMENT", "'x'"),
    "shape_overflow": ("INVALID_ARGUMENT", "'x'"),
    "unregistered_region": ("NOT_FOUND", "'x'"),
    "past_the_end": ("INVALID_ARGUMENT", "'x'"),
    "too_large_an_element": ("INVALID_ARGUMENT", "'prompt'"),
}


def test_a_thousand_mistakes_are_answered_and_leave_nothing(drive: Drive, server: ServerProcess) -> None:
    drive("misbehave.py", str(WARM_UP_ROUNDS))
    process = psutil.Process(server.pid)
    memory, files, shared = process.memory_info().rss, process.num_fds(), sorted(Path("/dev/shm").iterdir())
    for again in range(1, MOST_REPEATS + 1):  # an allocator keeps some now and then; a leak only grows
        driven = drive("misbehave.py", str(ROUNDS))
        grown = process.memory_info().rss - memory
        print(f"{again * ROUNDS * len(EXPECTED)} mistakes: the server grew by {grown / 2**20:.1f} MiB")
        if grown < GROWTH_BYTES:
            break
    for fault, (code, named) in EXPECTED.items():
        assert driven.facts[fault][0] == code, fault
        assert named in driven.facts[fault][1], fault
    assert driven.facts.keys() == EXPECTED.keys()
    assert driven.arrays["doubled"].tolist() == [0, 2, 4, 6]
    assert grown < GROWTH_BYTES
    assert process.num_fds() <= files
    assert sorted(Path("/dev/shm").iterdir()) == shared


def test_our_protocol_is_the_clients_on_the_wire(drive: Drive, tmp_path: Path) -> None:
    drive("descriptors.py")
    theirs = json.loads((tmp_path / "wire.json").read_text())
    ours = described(grpc_service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)
    assert ours.keys() <= theirs.keys()
    for name, parts in ours.items():
        for part, shape in parts.items():
            assert theirs[name][part] == shape, (name, part)
    service = "inference.GRPCInferenceService"
    assert theirs[service] == ours[service]
    whole = [
        name for name in theirs if not name.startswith("inference.Model") or "Infer" in name or "Statistic" in name
    ]
    for name in whole:
        assert theirs[name] == ours[name], name
