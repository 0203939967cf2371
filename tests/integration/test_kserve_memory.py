"""System shared memory: real regions of this machine, read and written by the server."""

import os
from collections.abc import AsyncIterator, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import arrays, infer_request, picture, stub, write_models

X = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    write_models(tmp_path)
    async with echo_server(tmp_path) as running:
        yield running


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    block = SharedMemory(create=True, size=1 << 17)
    yield block
    block.close()
    block.unlink()


async def register(server: RunningServer, memory: SharedMemory, **fields: Any) -> None:
    values = {"name": "region", "key": f"/{memory.name}", "byte_size": memory.size} | fields
    await stub(server).SystemSharedMemoryRegister(pb.SystemSharedMemoryRegisterRequest(**values))


def through(
    request: pb.ModelInferRequest, *, reads: tuple[int, int] | None = None, writes: tuple[int, int] | None = None
) -> pb.ModelInferRequest:
    """The request with its first input or output at (offset, size) of the region."""
    for place, tensors in ((reads, request.inputs), (writes, request.outputs)):
        if place is not None:
            parameters = tensors[0].parameters
            parameters["shared_memory_region"].string_param = "region"
            parameters["shared_memory_offset"].int64_param = place[0]
            parameters["shared_memory_byte_size"].int64_param = place[1]
    if reads is not None:
        request.raw_input_contents.clear()
    return request


async def test_tensors_go_in_and_out_through_a_region(server: RunningServer, memory: SharedMemory) -> None:
    memory.buf[100:112] = X.tobytes()
    await register(server, memory, offset=4, byte_size=1024)
    asked = through(infer_request({"x": X}, outputs=("y",)), reads=(96, 12), writes=(200, 64))
    response = await stub(server).ModelInfer(asked)
    assert (list(response.outputs[0].shape), response.raw_output_contents) == ([1, 3], [b""])
    assert np.frombuffer(memory.buf[204:216], np.float32).tolist() == [2, 4, 6]


async def test_a_picture_goes_out_through_a_region(server: RunningServer, memory: SharedMemory) -> None:
    await register(server, memory)
    wanted = through(picture("a bag", seed=1, outputs=("IMAGE_RAW", "SEED")), writes=(0, 128 * 128 * 3))
    response = await stub(server).ModelInfer(wanted)
    plain = arrays(await stub(server).ModelInfer(picture("a bag", seed=1, outputs=("IMAGE_RAW",))))
    written = np.frombuffer(memory.buf[: 128 * 128 * 3], np.uint8).reshape(128, 128, 3)
    np.testing.assert_array_equal(written, plain["IMAGE_RAW"])
    assert [len(data) for data in response.raw_output_contents] == [0, 8]


async def test_regions_are_told_and_forgotten(server: RunningServer, memory: SharedMemory) -> None:
    await stub(server).ServerLive(pb.ServerLiveRequest())
    descriptors = len(os.listdir("/proc/self/fd"))
    await register(server, memory, offset=8, byte_size=16)
    await register(server, memory, name="other")
    regions = (await stub(server).SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())).regions
    assert regions.keys() == {"region", "other"}
    one = regions["region"]
    assert (one.name, one.key, one.offset, one.byte_size) == ("region", f"/{memory.name}", 8, 16)
    again = pb.SystemSharedMemoryRegisterRequest(name="region", key=memory.name, byte_size=1)
    assert (await failing(stub(server).SystemSharedMemoryRegister(again))).code() is grpc.StatusCode.ALREADY_EXISTS
    for name in ("region", "region", ""):
        await stub(server).SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name=name))
    assert not (await stub(server).SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())).regions
    error = await failing(stub(server).SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="region")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ((1 << 17, 12), "'x'"),
        (((1 << 17) - 11, 12), "'x'"),
        ((2**62, 12), "'x'"),
        ((-1, 12), "'x'"),
        ((0, 11), "'x'"),
        ((0, -12), "'x'"),
    ],
)
async def test_a_read_past_the_region_is_refused(
    server: RunningServer, memory: SharedMemory, place: tuple[int, int], named: str
) -> None:
    await register(server, memory)
    error = await failing(stub(server).ModelInfer(through(infer_request({"x": X}), reads=place)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert named in (error.details() or "")


@pytest.mark.parametrize("place", [((1 << 17) - 11, 12), (0, 11)])
async def test_a_write_past_the_region_is_refused(
    server: RunningServer, memory: SharedMemory, place: tuple[int, int]
) -> None:
    await register(server, memory)
    asked = through(infer_request({"x": X}, outputs=("y",)), writes=place)
    error = await failing(stub(server).ModelInfer(asked))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'y'" in (error.details() or "")
    assert bytes(memory.buf) == bytes(1 << 17)


async def test_a_region_that_its_client_cuts_short_does_not_end_the_server(
    server: RunningServer, memory: SharedMemory
) -> None:
    await register(server, memory)
    os.truncate(f"/dev/shm/{memory.name}", 0)
    reading = await failing(stub(server).ModelInfer(through(infer_request({"x": X}), reads=(0, 12))))
    writing = infer_request({"x": X}, outputs=("y",))
    written = await failing(stub(server).ModelInfer(through(writing, writes=(0, 12))))
    assert {reading.code(), written.code()} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert Path("/dev/shm", memory.name).stat().st_size == 0


@pytest.mark.parametrize(
    "key", ["/../etc/passwd", "../etc/passwd", "a/b", "..", ".", "", "/", "//x", "missing", "x\0y"]
)
async def test_a_key_never_leaves_the_folder(server: RunningServer, memory: SharedMemory, key: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await register(server, memory, key=key, byte_size=1)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_link_is_no_region(server: RunningServer, memory: SharedMemory, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 64)
    link = Path("/dev/shm", f"link-{memory.name}")
    link.symlink_to(secret)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(server, memory, key=link.name, byte_size=1)
    finally:
        link.unlink()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("fields", [{"byte_size": (1 << 17) + 1}, {"offset": 2**63, "byte_size": 1}, {"byte_size": 0}])
async def test_a_region_beyond_its_memory_is_refused(
    server: RunningServer, memory: SharedMemory, fields: dict[str, int]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await register(server, memory, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_cuda_regions_are_refused_with_the_reason(server: RunningServer) -> None:
    for call in (
        stub(server).CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest(name="r", byte_size=1)),
        stub(server).CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()),
        stub(server).CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest()),
    ):
        error = await failing(call)
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "GPU" in (error.details() or "")
