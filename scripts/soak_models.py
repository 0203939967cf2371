"""Replaces a model under traffic, then unloads and loads it again and again, and prints as JSON what is left.

`make soak-models` does 50 rounds with the shipped CLIP in a server of its own. It ends with 1 when a call failed, when
a process outlived its unload, or when descriptors, threads, processes, shared memory or temporary folders were left.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server._generated.atelier.kserve.grpc_service_pb2_grpc import GRPCInferenceServiceStub

ROOT = Path(__file__).resolve().parents[1]
MODEL = "starter_clip"
CONCURRENCY, CALLS = 16, 200
WARM_UP_ROUNDS = 3
SETTLE_SECONDS = 30.0
"""How long what ends in the background may take; a leak never ends."""
Facts = dict[str, Any]


def main() -> None:
    """Runs both parts and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="unloads and loads after the warm-up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "models" / MODEL, folder / "models" / MODEL)
        with served(folder) as (address, pid):
            facts = asyncio.run(soak(address, psutil.Process(pid), folder, options.rounds))
    print(json.dumps(facts, indent=2))
    sys.exit(not facts["ok"])


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a server whose every file lies in the folder."""
    command = [sys.executable, "-m", "atelier_server", "serve", "--load-model", MODEL, "--log-level", "warning"]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    command += ["--model-repository", str(folder / "models"), "--state-dir", str(folder / "state")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)})
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1].removeprefix("grpc="), process.pid
    finally:
        process.terminate()
        process.communicate()


async def soak(address: str, server: psutil.Process, folder: Path, rounds: int) -> Facts:
    """Both parts."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        replaced = await replace_under_traffic(stub, folder / "models" / MODEL)
        cycled = await unload_and_load(stub, server, folder, rounds)
    ok = not replaced["failed"] and not cycled["outlived_unload"] and not cycled["left"]
    return {"ok": ok, "replace": replaced, "cycles": cycled}


async def replace_under_traffic(stub: GRPCInferenceServiceStub, model: Path) -> Facts:
    """Loads version 2 while 16 callers ask; they go on until it has answered as many calls as had been asked before."""
    answered: Counter[str] = Counter()
    failures: list[str] = []
    done = asyncio.Event()

    async def call() -> None:
        while not done.is_set():
            try:
                answered[(await stub.ModelInfer(tokens())).model_version] += 1
            except grpc.aio.AioRpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")

    async with asyncio.TaskGroup() as callers:
        for _ in range(CONCURRENCY):
            callers.create_task(call())
        await until(lambda: answered["1"] >= CALLS // 2)
        shutil.copytree(model / "1", model / "incoming")
        (model / "incoming").rename(model / "2")
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=MODEL))
        await until(lambda: answered["2"] >= CALLS // 2)
        done.set()
    return {"concurrency": CONCURRENCY, "answered_by_version": dict(answered), "failed": failures}


async def unload_and_load(stub: GRPCInferenceServiceStub, server: psutil.Process, folder: Path, rounds: int) -> Facts:
    """Counts what the server holds before and after."""
    outlived: list[int] = []
    runner_bytes: list[int] = []

    async def one_round() -> None:
        children = server.children(recursive=True)
        runner_bytes.append(sum(child.memory_info().rss for child in children))
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=MODEL))
        outlived.extend(child.pid for child in children if psutil.pid_exists(child.pid))
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=MODEL))
        await stub.ModelInfer(tokens())

    await until(lambda: len(server.children()) == 1)  # the replaced one has retired
    for _ in range(WARM_UP_ROUNDS):
        await one_round()
    before, memory = held(server, folder), server.memory_info().rss
    began = time.perf_counter()
    for _ in range(rounds):
        await one_round()
    seconds = time.perf_counter() - began
    ends = time.monotonic() + SETTLE_SECONDS
    while (left := more(held(server, folder), before)) and time.monotonic() < ends:  # noqa: ASYNC110 - as in `until`
        await asyncio.sleep(0.2)
    return {
        "rounds": rounds,
        "seconds_a_round": round(seconds / max(rounds, 1), 3),
        "outlived_unload": outlived,
        "left": left,
        "held": before,
        "server_grew_bytes": server.memory_info().rss - memory,
        "server_bytes": memory,
        "returned_by_each_unload_bytes": min(runner_bytes),
    }


def held(server: psutil.Process, folder: Path) -> dict[str, int]:
    """What could leak, by kind."""
    return {
        "descriptors": server.num_fds(),
        "threads": server.num_threads(),
        "processes": len(server.children(recursive=True)),
        "shared_memory_files": len(os.listdir("/dev/shm")),
        "temporary_folders": len(os.listdir(folder)),
    }


def more(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What there is more of."""
    return {kind: count - before[kind] for kind, count in now.items() if count > before[kind]}


def tokens() -> pb.ModelInferRequest:
    """A request to the text tower, the quick one."""
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 77])
    request.raw_input_contents.append(np.arange(1, 78, dtype="<i8").tobytes())
    request.outputs.add(name="text_embeds")
    return request


async def until(holds: Any) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    main()
