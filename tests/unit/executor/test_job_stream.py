"""Events wait in order for their reader, and a slow one cannot make them pile up."""

import asyncio

import pytest

from atelier_server.backends.base import JobDone, JobEvent, JobFailed, JobStep, JobTensors
from atelier_server.errors import Unavailable
from atelier_server.executor.job_stream import JobStream

DONE = JobDone({}, exact=False)


def step(index: int, number: int) -> JobStep:
    return JobStep(index, number, 1000, 0.0)


async def collect(stream: JobStream) -> list[JobEvent]:
    return [event async for event in stream.events()]


@pytest.mark.parametrize("last", [DONE, JobTensors({})])
async def test_a_reader_gets_everything_in_order_up_to_the_last_event(last: JobEvent) -> None:
    stream = JobStream()
    reading = asyncio.create_task(collect(stream))
    sent = [step(0, 1), step(1, 1), step(0, 2), last]
    for event in sent:
        stream.put(event)
        await asyncio.sleep(0)
    assert await reading == sent


async def test_a_failure_is_raised_after_what_came_before_it() -> None:
    stream = JobStream()
    stream.put(step(0, 1))
    stream.put(JobFailed(Unavailable("gone")))
    events = stream.events()
    assert await anext(events) == step(0, 1)
    with pytest.raises(Unavailable, match="gone"):
        await anext(events)


async def test_a_slow_reader_loses_old_steps_only() -> None:
    stream = JobStream(capacity=4)
    for number in range(1, 101):
        stream.put(step(0, number))
        stream.put(step(1, number))
    stream.put(DONE)
    events = await collect(stream)
    assert len(events) <= 6
    kept = (step(0, 100), step(1, 100), DONE)
    assert [event for event in events if event in kept] == list(kept)
