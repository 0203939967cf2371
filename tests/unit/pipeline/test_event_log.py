"""One log, any number of readers; nothing that matters is lost to a slow one."""

import asyncio
import time

import pytest

from atelier_server.errors import Unavailable
from atelier_server.pipeline.event_log import MOST_PREVIEW_BYTES, EventLog, preview_bytes
from atelier_server.types import Completed, Dimensions, ImageChunk, Preview, Progress, Queued, Reproducibility

END = Completed(1.0, {}, False, 1, 0, Reproducibility.BATCHED, "m", "1", (), 0.0, {})


async def read(log: EventLog, after: int = 0) -> list[int]:
    return [entry.sequence async for entry in log.read(after)]


async def test_readers_see_everything_from_where_they_ask() -> None:
    log = EventLog()
    early = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    for event in (Queued(0), Progress(0, 1, 2), Progress(0, 2, 2), END):
        log.append(event)
        await asyncio.sleep(0)
    assert await early == [1, 2, 3, 4]
    assert await read(log) == [1, 2, 3, 4]
    assert await read(log, after=2) == [3, 4]


async def test_a_full_log_drops_only_progress_that_was_replaced() -> None:
    log = EventLog(capacity=8)
    for step in range(100):
        log.append(Progress(step % 2, step, 100))
        if step % 25 == 0:
            log.append(ImageChunk(0, step, 100, b"x", False))
    log.append(END)
    events = [entry.event async for entry in log.read()]
    assert [event.offset for event in events if isinstance(event, ImageChunk)] == [0, 25, 50, 75]
    assert [event.step for event in events if isinstance(event, Progress)][-2:] == [98, 99]
    assert isinstance(events[-1], Completed)
    assert len(events) <= 8 + 5


async def test_previews_fill_a_log_by_their_bytes() -> None:
    log = EventLog()
    preview = Preview(b"x" * (MOST_PREVIEW_BYTES // 8), "image/png", Dimensions(1024, 1024))
    for step in range(150):
        log.append(Progress(0, step, 150, None, preview))
        assert sum(map(preview_bytes, log.events())) <= MOST_PREVIEW_BYTES
    log.append(END)
    steps = [event.step for event in log.events() if isinstance(event, Progress)]
    assert steps[-1] == 149


async def test_a_slow_reader_skips_to_the_newest_progress() -> None:
    log = EventLog(capacity=4)
    log.append(Queued(0))
    reader = log.read()
    assert (await anext(reader)).sequence == 1
    for step in range(50):
        log.append(Progress(0, step, 50))
    log.append(END)
    rest = [entry async for entry in reader]
    assert len(rest) <= 5
    assert rest[-1].sequence == 52
    assert isinstance(rest[-1].event, Completed)


async def test_an_error_comes_after_the_events() -> None:
    log = EventLog()
    log.append(Queued(0))
    log.fail(Unavailable("gone"))
    log.fail(Unavailable("again"))
    reader = log.read()
    assert (await anext(reader)).sequence == 1
    with pytest.raises(Unavailable, match="gone"):
        await anext(reader)
    with pytest.raises(RuntimeError):
        log.append(Queued(0))


async def test_a_thousand_events_are_read_in_linear_time() -> None:
    log = EventLog(capacity=64)
    started = time.perf_counter()
    reader = asyncio.create_task(read(log))
    for step in range(1000):
        log.append(Progress(0, step, 1000))
        if step % 10 == 0:
            await asyncio.sleep(0)
    log.append(END)
    assert (await reader)[-1] == 1001
    assert time.perf_counter() - started < 30  # a hang guard, no benchmark
