"""What bad clients cost the server and a neighbour: huge messages, idle connections, slow readers, wrong tokens.

    python benchmarks/bench_strangers.py

It starts a server with the echo model, tokens and a process for the model, and prints for each kind of bad client the
server's resident memory before, at most, and 2 s after they left, and the median and slowest of the neighbour's calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import psutil

from atelier.v1 import image_generation_pb2, image_generation_pb2_grpc
from atelier_server.security.token_file import digest_of, new_token
from atelier_server.testing import write_echo_model

GENERATE = "/atelier.v1.ImageGenerationService/Generate"
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
Phase = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A server, its process, and a token for it."""

    def __init__(self, address: str, process: psutil.Process, token: str) -> None:
        self.address, self.process = address, process
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.most = 0
        self.seconds: list[float] = []

    @property
    def mebibytes(self) -> int:
        """Resident memory of the server's own process."""
        return int(self.process.memory_info().rss // 2**20)

    async def neighbour(self) -> None:
        """Calls again and again, and times it."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
            seed = 0
            while True:
                seed += 1
                begun = time.perf_counter()
                request = image_generation_pb2.GenerateRequest(
                    prompt="a bag", width=64, height=64, num_inference_steps=2, seed=seed
                )
                async for _ in stub.Generate(request, metadata=self.metadata):
                    pass
                self.seconds.append(time.perf_counter() - begun)
                self.most = max(self.most, self.mebibytes)

    async def phase(self, name: str, bad: Phase) -> None:
        """Runs bad clients beside the neighbour, and prints a line."""
        self.most, self.seconds, before = 0, [], self.mebibytes
        neighbour = asyncio.create_task(self.neighbour())
        try:
            await bad(self)
        finally:
            neighbour.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await neighbour
        await asyncio.sleep(2)
        middle, slowest = (1000 * value for value in (statistics.median(self.seconds), max(self.seconds)))
        print(f"{name:<44}{before:>7}{self.most:>7}{self.mebibytes:>7}{middle:>10.0f}{slowest:>10.0f}", flush=True)


async def quiet(bench: Bench) -> None:
    """Nobody else."""
    await asyncio.sleep(5)


async def huge(bench: Bench, metadata: Any) -> None:
    """Ten messages of 200 MB, one after another."""
    data = bytes(200_000_000)
    async with grpc.aio.insecure_channel(bench.address) as channel:
        for _ in range(10):
            call = channel.unary_stream(GENERATE, request_serializer=None, response_deserializer=None)
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in call(data, metadata=metadata):
                    pass


async def idle(bench: Bench) -> None:
    """A thousand connections; half of them speak HTTP/2 and then say nothing, half say nothing at all."""
    host, _, port = bench.address.rpartition(":")
    connections = []
    for number in range(1000):
        connections.append(await asyncio.to_thread(socket.create_connection, (host, int(port))))
        if number % 2:
            connections[-1].sendall(PREFACE)
    await asyncio.sleep(5)
    for connection in connections:
        connection.close()


async def slow(bench: Bench) -> None:
    """A hundred callers who ask for ten pictures of 512 pixels each and read one event."""
    async with grpc.aio.insecure_channel(bench.address, SMALL_WINDOW) as channel:
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
        calls = []
        for number in range(100):
            request = image_generation_pb2.GenerateRequest(
                prompt="a bag", width=512, height=512, num_inference_steps=2, num_images=10, seed=1000 * number
            )
            calls.append(stub.Generate(request, metadata=bench.metadata))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await calls[-1].read()
        await asyncio.sleep(15)
        for call in calls:
            call.cancel()


async def guesses(bench: Bench) -> None:
    """A thousand wrong tokens."""
    async with grpc.aio.insecure_channel(bench.address) as channel:
        stub = image_generation_pb2_grpc.ImageGenerationServiceStub(channel)
        for _ in range(1000):
            call = stub.Generate(
                image_generation_pb2.GenerateRequest(prompt="a bag"),
                metadata=(("authorization", f"Bearer {new_token()}"),),
            )
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in call:
                    pass


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Bench]:
    """A server for the time of the block."""
    token = new_token()
    tokens = folder / "tokens.toml"
    tokens.write_text(f'[tokens.bench]\nsha256 = "{digest_of(token).hex()}"\nscopes = ["generate"]\n')
    write_echo_model(folder / "models")
    command = [sys.executable, "-m", "atelier_server", "serve", "--listen", "127.0.0.1:0", "--unread-seconds", "5"]
    command += ["--metrics-listen", "127.0.0.1:0", "--model-repository", str(folder / "models")]
    command += ["--state-dir", str(folder / "state"), "--tokens-file", str(tokens), "--log-level", "error"]
    command += ["--drain-delay-seconds", "0", "--drain-timeout-seconds", "1", "--cache-memory-bytes", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        ready = process.stdout.readline()
        try:
            yield Bench(ready.split()[1].removeprefix("grpc="), psutil.Process(process.pid), token)
        finally:
            process.terminate()
            process.wait(60)


async def main() -> None:
    """Prints a line for each kind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder)) as bench:
            print(f"{'':<44}{'server, MiB':^21}{'neighbour, ms':^20}")
            print(f"{'':<44}{'before':>7}{'most':>7}{'after':>7}{'median':>10}{'slowest':>10}")
            await bench.phase("nobody", quiet)
            await bench.phase("10 messages of 200 MB, no token", lambda bench: huge(bench, ()))
            await bench.phase("10 messages of 200 MB, with a token", lambda bench: huge(bench, bench.metadata))
            await bench.phase("1000 idle connections", idle)
            await bench.phase("1000 wrong tokens", guesses)
            await bench.phase("100 slow readers of 10 pictures", slow)
            await bench.phase("nobody", quiet)


if __name__ == "__main__":
    asyncio.run(main())
