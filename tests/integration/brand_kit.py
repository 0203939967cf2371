"""What the tests of brands share: calls, and servers in processes of their own that can be killed."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from atelier.v1 import brand_pb2, brand_pb2_grpc

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class BrandCalls:
    """BrandService through a channel."""

    channel: grpc.aio.Channel

    @property
    def stub(self) -> brand_pb2_grpc.BrandServiceStub:
        return brand_pb2_grpc.BrandServiceStub(self.channel)

    async def create(self, brand_id: str, *images: bytes, name: str = "") -> brand_pb2.Brand:
        brand = (await self.stub.CreateBrand(brand_pb2.CreateBrandRequest(brand_id=brand_id, name=name))).brand
        return (await self.add(brand_id, *images)).brand if images else brand

    async def add(self, brand_id: str, *images: bytes) -> brand_pb2.AddReferenceImagesResponse:
        return await self.stub.AddReferenceImages(pieces(brand_id, images))

    async def get(self, brand_id: str) -> brand_pb2.Brand:
        return (await self.stub.GetBrand(brand_pb2.GetBrandRequest(brand_id=brand_id))).brand

    async def delete(self, brand_id: str) -> None:
        await self.stub.DeleteBrand(brand_pb2.DeleteBrandRequest(brand_id=brand_id))

    async def remove(self, brand_id: str, reference_id: str) -> brand_pb2.Brand:
        request = brand_pb2.RemoveReferenceImageRequest(brand_id=brand_id, reference_id=reference_id)
        return (await self.stub.RemoveReferenceImage(request)).brand

    async def list(self, page_size: int = 0, page_token: str = "") -> brand_pb2.ListBrandsResponse:
        return await self.stub.ListBrands(brand_pb2.ListBrandsRequest(page_size=page_size, page_token=page_token))

    async def embedded(self, brand_id: str) -> brand_pb2.Brand:
        """The brand once all its references are embedded."""
        async with asyncio.timeout(60):
            while (brand := await self.get(brand_id)).pending_embeddings:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        return brand


def pieces(brand_id: str, images: Iterable[bytes]) -> AsyncIterator[brand_pb2.AddReferenceImagesRequest]:
    """The messages that carry pictures."""

    async def messages() -> AsyncIterator[brand_pb2.AddReferenceImagesRequest]:
        for image in images:
            for start in range(0, max(1, len(image)), PIECE_BYTES):
                last = start + PIECE_BYTES >= len(image)
                data = image[start : start + PIECE_BYTES]
                yield brand_pb2.AddReferenceImagesRequest(brand_id=brand_id, data=data, last=last)

    return messages()


def picture_files(state: Path) -> list[str]:
    """Every file under the pictures' folder but the lock."""
    return sorted(
        path.name
        for path in (state / "brands" / "pictures").rglob("*")
        if path.is_file() and path.name not in (".lock", ".turn")
    )


@dataclass(frozen=True)
class ServerProcess:
    """A server that is ready, in a process of its own."""

    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel

    async def kill(self) -> None:
        """SIGKILL; no handler runs."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def server_process(folder: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    """Runs `atelier-server serve` on the model repository `models` of a folder, with its state beside it."""
    command = [sys.executable, "-m", "atelier_server", "serve", "--model-repository", str(folder / "models")]
    free = "127.0.0.1:0"
    command += ["--listen", free, "--metrics-listen", free, "--state-dir", str(folder / "state"), *flags]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
        match = re.search(r"grpc=(\S+)", line)
        assert match, f"the server printed {json.dumps(line)}"
        async with grpc.aio.insecure_channel(match[1]) as channel:
            yield ServerProcess(process, channel)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)
