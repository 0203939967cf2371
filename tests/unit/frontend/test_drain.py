import asyncio
from contextlib import suppress

import pytest

from atelier_server.errors import Unavailable
from atelier_server.frontend.drain import Drain


async def test_a_closed_drain_refuses_with_a_time_to_come_back() -> None:
    drain = Drain(retry_after_seconds=2.5)
    drain.close()
    with pytest.raises(Unavailable) as caught, drain.generation():
        pytest.fail("it must not get in")
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("DRAINING", 2.5)
    assert drain.in_flight == 0
    await drain.idle()


async def test_idle_waits_for_those_inside_however_they_leave() -> None:
    drain = Drain()
    with drain.generation():
        with suppress(RuntimeError), drain.generation():
            assert drain.in_flight == 2
            raise RuntimeError
        waiting = asyncio.create_task(drain.idle())
        drain.close()
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    assert drain.in_flight == 0
