"""A server whose model repository lies in a bucket."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.testing import RunningServer, echo_server
from tests.integration.grpc_kit import failing
from tests.integration.kserve_kit import arrays, infer_request, stub, write_double
from tests.object_store import ObjectStore, object_store

X = np.array([[1.0]], np.float32)


def put(store: ObjectStore, folder: Path) -> None:
    """Copies the files of a model into the bucket."""
    for file in folder.rglob("*"):
        if file.is_file():
            store.objects[f"team/models/{folder.name}/{file.relative_to(folder)}"] = file.read_bytes()


async def answer(server: RunningServer) -> float:
    return float(arrays(await stub(server).ModelInfer(infer_request({"x": X})))["y"].item())


@pytest.mark.parametrize("mode", ["poll", "explicit"])
async def test_a_bucket_is_served_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with object_store() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        put(store, write_double(tmp_path))
        options = {"load_model": ("*",)} if mode == "explicit" else {"repository_poll_seconds": 0.1}
        address = "s3://bucket/team/models"
        async with echo_server(tmp_path, model_repository=address, model_control_mode=mode, **options) as server:
            assert await answer(server) == 2.0
            folder = write_double(tmp_path, factor=3)
            (folder / "1").rename(folder / "2")
            put(store, folder)
            if mode == "explicit":
                await stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="double"))
                store.broken = True
                load = stub(server).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="double"))
                assert (await failing(load)).code() is grpc.StatusCode.UNAVAILABLE
            async with asyncio.timeout(60):
                while await answer(server) != 3.0:  # noqa: ASYNC110 - until it is seen
                    await asyncio.sleep(0.05)
