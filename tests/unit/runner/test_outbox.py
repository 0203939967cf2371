"""Events get from the engine's thread into the event loop in order, with few wakeups and bounded memory."""

import asyncio
import threading

from atelier_server.backends.base import JobDone, JobEvent, JobStep
from atelier_server.runner.outbox import JobStream, Outbox

DONE = JobDone({}, exact=False)


def step(index: int, number: int) -> JobStep:
    return JobStep(index, number, 1000, 0.0)


async def collect(stream: JobStream) -> list[JobEvent]:
    return [event async for event in stream.events()]


async def test_events_of_a_thread_arrive_in_order_at_their_own_stream() -> None:
    outbox = Outbox(asyncio.get_running_loop(), capacity=1000)
    first, second = outbox.stream(), outbox.stream()

    def work() -> None:
        for number in range(1, 501):
            first.publish(step(0, number))
            second.publish(step(1, number))
        first.publish(DONE)
        second.publish(DONE)

    thread = threading.Thread(target=work)
    thread.start()
    got = await asyncio.gather(collect(first), collect(second))
    thread.join()
    for index, events in enumerate(got):
        assert events == [*(step(index, number) for number in range(1, 501)), DONE]


async def test_many_events_cost_one_wakeup() -> None:
    loop = asyncio.get_running_loop()
    wakeups = []

    class Loop:
        def call_soon_threadsafe(self, callback: object) -> None:
            wakeups.append(callback)

    outbox = Outbox(Loop())  # type: ignore[arg-type]
    streams = [outbox.stream() for _ in range(8)]
    for stream in streams:
        stream.publish(step(0, 1))
        stream.publish(DONE)
    assert len(wakeups) == 1
    loop.call_soon(wakeups[0])  # type: ignore[arg-type]
    assert [await collect(stream) for stream in streams] == [[step(0, 1), DONE]] * 8
    streams[0].publish(DONE)
    assert len(wakeups) == 2


async def test_a_slow_reader_loses_old_steps_only() -> None:
    stream = Outbox(asyncio.get_running_loop(), capacity=4).stream()
    for number in range(1, 101):
        stream.put(step(0, number))
        stream.put(step(1, number))
    stream.put(DONE)
    events = await collect(stream)
    assert len(events) <= 6
    assert [event for event in events if event in (step(0, 100), step(1, 100), DONE)] == [
        step(0, 100),
        step(1, 100),
        DONE,
    ]


def test_publishing_into_a_closed_loop_is_harmless() -> None:
    loop = asyncio.new_event_loop()
    outbox = Outbox(loop)
    stream = outbox.stream()
    loop.close()
    for _ in range(3):
        stream.publish(DONE)
    assert outbox._events == [], "nobody will ever read them"
