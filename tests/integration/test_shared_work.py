"""Work that is not done twice, on a real server: the cache, identical calls at once, restarts, new versions, damage."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from atelier.v1 import common_pb2
from atelier_server.testing import RunningServer, echo_server, write_echo_model
from tests.integration.grpc_kit import Events, heard, images, request


async def jobs(server: RunningServer) -> int:
    """How many jobs the model's runner was given since it was started."""
    return (await server.app.registry.get("echo").refresh()).counters["jobs_total"]


async def kept(server: RunningServer) -> None:
    """Waits until what was computed is kept, which is after callers have their pictures."""
    async with asyncio.timeout(20):
        while server.app.pipeline.running:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


def picture(events: Events) -> bytes:
    return b"".join(event.image_chunk.data for event in events if event.HasField("image_chunk"))


async def everything(call: Any) -> Events:
    return [event async for event in call]


def cached(events: Events) -> bool:
    return events[-1].completed.cached


def kept_files(folder: Path) -> list[Path]:
    return sorted((folder / "state" / "cache").glob("*.result"))


async def test_a_repeated_call_with_a_seed_is_the_same_file_without_a_job(server: RunningServer) -> None:
    first = await heard(server)
    await kept(server)
    again = await heard(server)
    assert (cached(first), cached(again)) == (False, True)
    assert picture(again) == picture(first) != b""
    assert await jobs(server) == 1
    scores = [
        next(event.image_completed for event in events if event.HasField("image_completed"))
        for events in (first, again)
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("change", [{"seed": None}, {"seed": 8}, {"cache": common_pb2.CACHE_POLICY_BYPASS}])
async def test_other_calls_are_computed(server: RunningServer, change: dict[str, Any]) -> None:
    await heard(server)
    assert not cached(await heard(server, **change))
    assert await jobs(server) == 2


async def test_reuse_takes_an_earlier_picture_of_the_prompt(server: RunningServer) -> None:
    first = await heard(server, seed=None)
    await kept(server)
    again = await heard(server, seed=None, cache=common_pb2.CACHE_POLICY_REUSE)
    assert cached(again)
    assert picture(again) == picture(first)
    assert await jobs(server) == 1


async def test_twenty_identical_calls_at_once_cost_one_job(tmp_path: Path) -> None:
    write_echo_model(tmp_path / "models", step_seconds=0.02)
    async with echo_server(tmp_path) as server:
        calls = [images(server).Generate(request(num_inference_steps=20), timeout=600) for _ in range(20)]
        answers = await asyncio.gather(*(everything(call) for call in calls))
        assert await jobs(server) == 1
    assert len({picture(events) for events in answers}) == 1
    assert sum(not cached(events) for events in answers) == 1


async def test_the_disk_answers_after_a_restart(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as server:
        first = await heard(server)
        await kept(server)
    async with echo_server(tmp_path) as server:
        again = await heard(server)
        assert await jobs(server) == 0
    assert cached(again)
    assert picture(again) == picture(first)


async def test_a_new_version_of_the_model_is_a_miss(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as server:
        await heard(server)
        await kept(server)
    (tmp_path / "models" / "echo" / "2").mkdir()
    async with echo_server(tmp_path) as server:
        events = await heard(server)
        assert await jobs(server) == 1
    assert not cached(events)
    assert events[-1].completed.model_version == "2"


async def test_other_files_in_the_same_version_are_a_miss_once_they_are_loaded(tmp_path: Path) -> None:
    weights = tmp_path / "models" / "echo" / "1" / "weights"
    write_echo_model(tmp_path / "models")
    weights.write_text("old")
    async with echo_server(tmp_path, load_model=("echo",)) as server:
        await heard(server)
        await kept(server)
        weights.write_text("newer")
        assert cached(await heard(server)), "the model at work still has the old weights"
        await server.app.registry.load("echo")
        assert not cached(await heard(server))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
async def test_a_damaged_file_is_never_served(tmp_path: Path, damage: str) -> None:
    async with echo_server(tmp_path) as server:
        first = await heard(server)
        await kept(server)
    [file] = kept_files(tmp_path)
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"truncated": whole[:middle], "flipped": flipped, "emptied": b""}[damage])
    async with echo_server(tmp_path) as server:
        again = await heard(server)
        await kept(server)
        assert await jobs(server) == 1
    assert not cached(again)
    assert picture(again) == picture(first)
    assert kept_files(tmp_path) == [file], "it was replaced"
    assert len(file.read_bytes()) > middle


async def test_a_server_without_a_cache_computes_everything(tmp_path: Path) -> None:
    async with echo_server(tmp_path, cache_memory_bytes=0, cache_disk_bytes=0) as server:
        await heard(server)
        assert not cached(await heard(server))
        assert await jobs(server) == 2
    assert not kept_files(tmp_path)
