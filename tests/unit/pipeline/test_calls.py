"""Finished work is kept for a while and within bounds."""

import asyncio

from atelier_server.pipeline.caller import Caller
from atelier_server.pipeline.calls import Calls
from atelier_server.pipeline.computation import Computation
from atelier_server.types import Completed, Dimensions, ImageChunk, Preview, Progress, Reproducibility

END = Completed(1.0, {}, False, 1, 0, Reproducibility.BATCHED, "m", "1", (), 0.0, {})


async def finish(calls: Calls, request_id: str, size: int, preview_size: int = 0) -> Computation:
    computation = Computation(Caller(), 16)

    async def work(running: Computation) -> None:
        running.emit(Progress(0, 1, 1, None, Preview(b"x" * preview_size, "image/png", Dimensions(8, 8))))
        running.emit(ImageChunk(0, 0, size, b"x" * size, True))
        running.emit(END)

    computation.run(work, 600.0)
    calls.add("", request_id, "content", computation)
    await computation.wait()
    await asyncio.sleep(0)
    return computation


async def test_finished_work_expires() -> None:
    now = [0.0]
    calls = Calls(10.0, 1000, clock=lambda: now[0])
    computation = await finish(calls, "a", 10)
    now[0] = 9.0
    assert calls.find("", "a", "content") is computation
    now[0] = 10.0
    assert calls.find("", "a", "content") is None


async def test_the_oldest_is_forgotten_when_the_bytes_are_full() -> None:
    calls = Calls(10.0, 25, clock=lambda: 0.0)
    for name in "abc":
        await finish(calls, name, 10)
    assert [calls.find("", name, "content") is not None for name in "abc"] == [False, True, True]


async def test_previews_take_room_too() -> None:
    calls = Calls(10.0, 25, clock=lambda: 0.0)
    for name in "abc":
        await finish(calls, name, 4, preview_size=6)
    assert [calls.find("", name, "content") is not None for name in "abc"] == [False, True, True]
